//! From a snapshot of a table to a plan that yields every point of a time range once.
//!
//! Where only one source has rows, they pass straight through; where files overlap with each other or with the buffer,
//! they are merged. Within the buffer most rows are known to be the only write of their point. Only in the *late windows*
//! of the snapshot may a point have been written twice: rows whose time lies there go through deduplication, cut along
//! the time axis into slices that are worked on in parallel and bound the memory needed.

use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use tidemill_catalog::Table;
use tidemill_store::{FileStore, StoredBatch, TableSnapshot};

use crate::buffer_part::{BufferPart, spread};
use crate::buffer_scan::BufferScanExec;
use crate::deduplicate::DeduplicateExec;
use crate::file_plan::{FilePlan, plan_files};
use crate::intervals::{Interval, Intervals};
use crate::key_filter::KeyFilter;
use crate::layout::TableLayout;

/// Below this a further partition costs more than it brings.
const ROWS_PER_PARTITION_MIN: usize = 16 * 1024;
/// Rows that one slice of a deduplication should hold at most: some ten MB of keys.
const ROWS_PER_SLICE: usize = 128 * 1024;
/// Rows of a batch that are looked at to see how its times are distributed.
const SAMPLES_PER_BATCH: usize = 64;

/// What to read of one table.
pub(crate) struct ScanRequest<'a> {
    pub(crate) table: Arc<Table>,
    pub(crate) layout: Arc<TableLayout>,
    pub(crate) files: &'a Arc<FileStore>,
    /// The columns to yield, in this order.
    pub(crate) columns: Vec<usize>,
    /// Only rows of these times are wanted; `None`: no row is.
    pub(crate) time_range: Option<Interval>,
    /// Only rows are wanted for which all of these predicates on tags and time hold.
    pub(crate) key_predicates: Vec<&'a Expr>,
    pub(crate) partition_count: usize,
    pub(crate) session: &'a dyn Session,
}

/// The plan for `request`.
pub(crate) fn plan_scan(
    request: &ScanRequest<'_>,
    snapshot: &TableSnapshot,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(range) = request.time_range else {
        return Ok(Arc::new(
            request.buffer_scan(request.columns.clone(), vec![Vec::new()])?,
        ));
    };
    let (mut parts, of_buffer, summary) = if snapshot.files.is_empty() {
        (Vec::new(), Intervals::union([range]), None)
    } else {
        let FilePlan {
            parts,
            of_buffer,
            summary,
        } = plan_files(request, snapshot, range)?;
        (parts, of_buffer, Some(summary))
    };

    let late = snapshot
        .late
        .iter()
        .filter_map(|&(first, last)| Interval::new(first, last));
    let late = Intervals::union(late);
    let unique_parts = select(&snapshot.batches, &of_buffer.without(&late));
    let slices = slices(
        &snapshot.batches,
        &of_buffer.and(&late),
        &request.layout,
        request.partition_count,
    );
    if !unique_parts.is_empty() || (slices.is_empty() && parts.is_empty()) {
        let row_count: usize = unique_parts.iter().map(BufferPart::row_count_max).sum();
        let partition_count = (row_count / ROWS_PER_PARTITION_MIN).clamp(1, request.partition_count.max(1));
        let partitions = spread(unique_parts, partition_count);
        let mut scan = request.buffer_scan(request.columns.clone(), partitions)?;
        if parts.is_empty() {
            // Otherwise the plan would not say that there are files.
            scan = scan.with_files(summary);
        }
        // The newest rows first.
        parts.insert(0, Arc::new(scan));
    }
    if !slices.is_empty() {
        let (input_columns, output_columns) = with_key_first(&request.layout, &request.columns);
        let input = Arc::new(request.buffer_scan(input_columns, slices)?);
        let key_column_count = request.layout.key_columns().len();
        let deduplicate =
            DeduplicateExec::try_new(input, key_column_count, output_columns, request.partition_count)?;
        parts.push(Arc::new(deduplicate));
    }
    match parts.pop() {
        Some(only) if parts.is_empty() => Ok(only),
        Some(last) => {
            parts.push(last);
            UnionExec::try_new(parts)
        }
        None => unreachable!("without other parts there is always a scan of the buffer"),
    }
}

impl ScanRequest<'_> {
    fn buffer_scan(&self, columns: Vec<usize>, partitions: Vec<Vec<BufferPart>>) -> Result<BufferScanExec> {
        Ok(BufferScanExec::new(
            Arc::clone(&self.table.name),
            Arc::clone(&self.layout),
            columns,
            self.key_filter()?,
            partitions,
        ))
    }

    /// The predicates as the buffer evaluates them.
    pub(crate) fn key_filter(&self) -> Result<KeyFilter> {
        KeyFilter::compile(&self.key_predicates, &self.layout, self.session)
    }
}

/// The rows of batches at some times.
pub(crate) fn select(batches: &[Arc<StoredBatch>], wanted: &Intervals) -> Vec<BufferPart> {
    if wanted.is_empty() {
        return Vec::new();
    }
    batches
        .iter()
        .filter_map(|batch| BufferPart::select(batch, wanted))
        .collect()
}

/// The key columns followed by what else is wanted, and where in those the wanted columns are.
pub(crate) fn with_key_first(layout: &TableLayout, wanted: &[usize]) -> (Vec<usize>, Arc<[usize]>) {
    let mut columns = layout.key_columns().to_vec();
    let positions = wanted
        .iter()
        .map(|wanted| {
            columns
                .iter()
                .position(|column| column == wanted)
                .unwrap_or_else(|| {
                    columns.push(*wanted);
                    columns.len() - 1
                })
        })
        .collect();
    (columns, positions)
}

/// Cuts the rows in `late` along the time axis, so that no point is in two slices. Each slice holds its rows in log
/// order.
fn slices(
    batches: &[Arc<StoredBatch>],
    late: &Intervals,
    layout: &TableLayout,
    partition_count: usize,
) -> Vec<Vec<BufferPart>> {
    let parts = select(batches, late);
    let mut samples: Vec<(i64, usize)> = parts
        .iter()
        .flat_map(|part| sample_times(part, late, layout))
        .collect();
    let row_count: usize = samples.iter().map(|(_, weight)| weight).sum();
    let for_parallelism = (row_count / ROWS_PER_PARTITION_MIN).min(partition_count);
    let slice_count = row_count.div_ceil(ROWS_PER_SLICE).max(for_parallelism);
    if slice_count <= 1 {
        return if parts.is_empty() { Vec::new() } else { vec![parts] };
    }

    samples.sort_unstable();
    let rows_per_slice = row_count.div_ceil(slice_count);
    let mut slices = Vec::with_capacity(slice_count);
    let mut first = i64::MIN;
    let mut rows_in_slice = 0;
    for (time, weight) in samples {
        // A cut lies before a sample of another time than the one before it, so that a slice is never empty.
        if rows_in_slice >= rows_per_slice
            && let Some(slice) = Interval::new(first, time.saturating_sub(1))
        {
            slices.push(slice);
            first = time;
            rows_in_slice = 0;
        }
        rows_in_slice += weight;
    }
    slices.extend(Interval::new(first, i64::MAX));
    slices
        .into_iter()
        .map(|slice| select(batches, &late.within(slice)))
        .filter(|parts| !parts.is_empty())
        .collect()
}

/// Some times of the rows meant, each with the number of rows that it stands for.
fn sample_times<'a>(
    part: &'a BufferPart,
    late: &'a Intervals,
    layout: &TableLayout,
) -> impl Iterator<Item = (i64, usize)> + 'a {
    let times = part.times(layout);
    let weight = part.row_count_max().div_ceil(SAMPLES_PER_BATCH);
    (0..part.row_count_max())
        .step_by(weight)
        .map(move |row| times.value(row))
        .filter(|&time| late.contains(time))
        .map(move |time| (time, weight))
}
