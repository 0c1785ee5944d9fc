//! From a snapshot of the memory buffer to a plan that yields every point of a time range once.
//!
//! Most rows are known to be the only write of their point and pass straight through. Only in the *late windows* of
//! the snapshot may a point have been written twice: rows whose time lies there go through deduplication, cut along
//! the time axis into slices that are worked on in parallel and bound the memory needed.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use tidemill_store::{StoredBatch, TableSnapshot};

use crate::buffer_part::{BufferPart, spread};
use crate::buffer_scan::BufferScanExec;
use crate::deduplicate::DeduplicateExec;
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
pub(crate) struct ScanRequest {
    pub(crate) table_name: Arc<str>,
    pub(crate) layout: Arc<TableLayout>,
    /// The columns to yield, in this order.
    pub(crate) columns: Vec<usize>,
    /// Only rows of these times are wanted; `None`: no row is.
    pub(crate) time_range: Option<Interval>,
    pub(crate) partition_count: usize,
}

/// The plan for `request`. `compile_filter` makes the predicate on tags and time; it is asked once for each leaf.
pub(crate) fn plan_scan(
    request: &ScanRequest,
    snapshot: &TableSnapshot,
    compile_filter: impl Fn() -> Result<KeyFilter>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let late = snapshot
        .late
        .iter()
        .filter_map(|&(first, last)| Interval::new(first, last));
    let (unique, late) = match request.time_range {
        Some(range) => {
            let late = Intervals::union(late);
            (late.gaps_within(range), late.within(range))
        }
        None => (Intervals::default(), Intervals::default()),
    };
    let unique_parts = select(&snapshot.batches, &unique);
    let slices = slices(&snapshot.batches, &late, &request.layout, request.partition_count);

    let plain = if unique_parts.is_empty() && !slices.is_empty() {
        None
    } else {
        let row_count: usize = unique_parts.iter().map(BufferPart::row_count_max).sum();
        let partition_count = (row_count / ROWS_PER_PARTITION_MIN).clamp(1, request.partition_count.max(1));
        let partitions = spread(unique_parts, partition_count);
        Some(request.scan(request.columns.clone(), compile_filter()?, partitions))
    };
    let deduplicated = if slices.is_empty() {
        None
    } else {
        let (input_columns, output_columns) = with_key_first(&request.layout, &request.columns);
        let input = request.scan(input_columns, compile_filter()?, slices);
        let key_column_count = request.layout.key_columns().len();
        let deduplicate =
            DeduplicateExec::try_new(input, key_column_count, output_columns, request.partition_count)?;
        Some(Arc::new(deduplicate) as Arc<dyn ExecutionPlan>)
    };
    match (plain, deduplicated) {
        (Some(plain), Some(deduplicated)) => UnionExec::try_new(vec![plain, deduplicated]),
        (Some(only), None) | (None, Some(only)) => Ok(only),
        (None, None) => unreachable!("without slices there is always a plain scan"),
    }
}

impl ScanRequest {
    fn scan(
        &self,
        columns: Vec<usize>,
        filter: KeyFilter,
        partitions: Vec<Vec<BufferPart>>,
    ) -> Arc<dyn ExecutionPlan> {
        let (table_name, layout) = (Arc::clone(&self.table_name), Arc::clone(&self.layout));
        Arc::new(BufferScanExec::new(
            table_name, layout, columns, filter, partitions,
        ))
    }
}

fn select(batches: &[Arc<StoredBatch>], wanted: &Intervals) -> Vec<BufferPart> {
    if wanted.is_empty() {
        return Vec::new();
    }
    batches
        .iter()
        .filter_map(|batch| BufferPart::select(batch, wanted))
        .collect()
}

/// The key columns followed by what else is wanted, and where in those the wanted columns are.
fn with_key_first(layout: &TableLayout, wanted: &[usize]) -> (Vec<usize>, Arc<[usize]>) {
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
