//! From the files of a snapshot to the parts of a plan that read them.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;
use tidemill_store::{DataFile, TableSnapshot};

use crate::buffer_part::{BufferPart, batch_hull};
use crate::buffer_points::BufferPoints;
use crate::described_files::{DescribedFiles, FileSummary};
use crate::file_bytes::WhenFull;
use crate::file_scan::{FileScan, FilesToRead};
use crate::intervals::{Interval, Intervals};
use crate::merge::{MergeExec, MergeInput, MergeSlice};
use crate::row_count::RowCountExec;
use crate::row_deletes::PendingDeletes;
use crate::scan_plan::{ScanRequest, select, with_key_first};
use crate::time_shares::{Slice, TimeShares};

/// How the files of a table are read.
pub(crate) struct FilePlan {
    /// Parts that yield the columns wanted; no point is in two of them.
    pub(crate) parts: Vec<Arc<dyn ExecutionPlan>>,
    /// The times for which the buffer is still to be read.
    pub(crate) of_buffer: Intervals,
    /// What was found, without what is read.
    pub(crate) summary: FileSummary,
}

/// Plans the files of `snapshot`, and the buffer where both have rows.
pub(crate) fn plan_files(
    request: &ScanRequest<'_>,
    snapshot: &TableSnapshot,
    range: Interval,
) -> Result<FilePlan> {
    let deletes = PendingDeletes::new(&request.table, &snapshot.deletes, range);
    let files = shown(&snapshot.files, &deletes);
    let buffer = Intervals::union(snapshot.batches.iter().map(|batch| batch_hull(batch)));
    let shares = TimeShares::new(&files, &buffer, range, request.partition_count);
    let hidden_count = snapshot.files.len() - files.len();
    let mut planner = FilePlanner {
        request,
        deletes,
        summary: FileSummary {
            of_files: snapshot.files.len(),
            files_pruned: shares.outside_count + hidden_count,
            ..FileSummary::default()
        },
        parts: Vec::new(),
    };
    planner.scan(shares.whole, shares.cut, &shares.alone)?;
    planner.merge(&shares.slices, snapshot)?;
    Ok(FilePlan {
        parts: planner.parts,
        of_buffer: shares.alone,
        summary: planner.summary,
    })
}

/// The files of which something is left.
fn shown<'a>(files: &'a [Arc<DataFile>], deletes: &PendingDeletes<'_>) -> Cow<'a, [Arc<DataFile>]> {
    if files.iter().any(|file| deletes.hide(file)) {
        let shown = files.iter().filter(|file| !deletes.hide(file));
        Cow::Owned(shown.cloned().collect())
    } else {
        Cow::Borrowed(files)
    }
}

struct FilePlanner<'a> {
    request: &'a ScanRequest<'a>,
    deletes: PendingDeletes<'a>,
    summary: FileSummary,
    parts: Vec<Arc<dyn ExecutionPlan>>,
}

impl FilePlanner<'_> {
    /// Files whose rows are the only ones of their points.
    fn scan(&mut self, whole: Vec<Arc<DataFile>>, cut: Vec<Arc<DataFile>>, alone: &Intervals) -> Result<()> {
        if whole.is_empty() && cut.is_empty() {
            return Ok(());
        }
        let scan = self.file_scan(&self.request.columns, WhenFull::Exceed)?;
        let table_name = &self.request.table.name;
        for (files, times) in [(whole, None), (cut, Some(alone))] {
            for (deletes, files) in self.deletes.group(files) {
                let files = FilesToRead {
                    files,
                    deletes,
                    times: times.cloned(),
                };
                let summary = self.summary_of(files.files.iter());
                if self.request.columns.is_empty() && !scan.has_predicate(&files) {
                    let row_count: u64 = files.files.iter().map(|file| file.row_count).sum();
                    let count = RowCountExec::new(Arc::clone(table_name), summary, row_count as usize);
                    self.parts.push(Arc::new(count));
                } else {
                    let config = scan.config(&files, self.request.partition_count)?;
                    let described = DescribedFiles::new(config, scan.unchecked(&files), table_name, &summary);
                    self.parts.push(DataSourceExec::from_data_source(described));
                }
            }
        }
        Ok(())
    }

    /// Where files overlap with each other or with the buffer.
    fn merge(&mut self, slices: &[Slice], snapshot: &TableSnapshot) -> Result<()> {
        if slices.is_empty() {
            return Ok(());
        }
        let request = self.request;
        let (input_columns, output_columns) = with_key_first(&request.layout, &request.columns);
        let file_scan = self.file_scan(&input_columns, WhenFull::Fail)?;
        let mut read: Vec<&Arc<DataFile>> = slices.iter().flat_map(|slice| &slice.files).collect();
        read.sort_unstable_by_key(|file| file.id);
        read.dedup_by_key(|file| file.id);
        let input = MergeInput {
            table_name: Arc::clone(&request.table.name),
            slices: slices
                .iter()
                .map(|slice| self.merge_slice(slice, snapshot))
                .collect(),
            files: self.summary_of(read.into_iter()),
            file_scan,
            buffer: BufferPoints::new(
                Arc::clone(&request.table),
                Arc::clone(&request.layout),
                input_columns,
                request.key_filter()?,
            ),
            key_column_count: request.layout.key_columns().len(),
        };
        let merge = MergeExec::try_new(input, output_columns, request.partition_count)?;
        self.parts.push(Arc::new(merge));
        Ok(())
    }

    fn merge_slice(&self, slice: &Slice, snapshot: &TableSnapshot) -> MergeSlice {
        let with_deletes = |file: &Arc<DataFile>| (Arc::clone(file), self.deletes.set_of(file));
        let buffer: Vec<BufferPart> = select(&snapshot.batches, &slice.times);
        MergeSlice {
            times: slice.times.clone(),
            files: slice.files.iter().map(with_deletes).collect(),
            buffer,
        }
    }

    fn file_scan(&self, columns: &[usize], when_full: WhenFull) -> Result<FileScan> {
        let request = self.request;
        FileScan::new(
            request.files,
            &request.layout,
            columns,
            &request.key_predicates,
            &self.deletes,
            when_full,
            request.session,
        )
    }

    fn summary_of<'f>(&self, files: impl ExactSizeIterator<Item = &'f Arc<DataFile>>) -> FileSummary {
        FileSummary {
            files: files.len(),
            bytes: files.map(|file| file.byte_size).sum(),
            ..self.summary.clone()
        }
    }
}
