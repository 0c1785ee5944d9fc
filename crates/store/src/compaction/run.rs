//! A job is done: files are merged, the outputs made durable, and then the manifest and what queries see changed.
//!
//! Output is cut along time while rows come sorted by tags, so every output is a pass of its own over the inputs that
//! have rows of its span. That needs one writer and a batch of each input at a time, whatever the size of the job; what is
//! decoded more than once for it costs little beside encoding.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{SchemaRef, TimestampNanosecondType};
use futures::{StreamExt, TryStreamExt};
use tidemill_catalog::{ColumnId, TIME_COLUMN, Table};

use crate::compaction::cuts::cut_times;
use crate::compaction::overlap::Hull;
use crate::compaction::plan::Plan;
use crate::compaction::time_histogram::TimeHistogram;
use crate::compaction::{CompactionError, Compactor};
use crate::{
    DataFile, Edit, Effort, FileError, FileId, FileSchema, ManifestError, RowDelete, SortedStream, WriteSpec,
    merge_sorted, scan_file, write_file,
};

/// What a job needs beside its plan.
pub(crate) struct JobContext<'a> {
    pub(crate) compactor: &'a Compactor,
    pub(crate) table: &'a Table,
    /// All that the table's files await.
    pub(crate) deletes: &'a [Arc<RowDelete>],
    /// Rows before this instant have expired.
    pub(crate) keep_from: i64,
}

/// What became of a job.
pub(crate) enum JobOutcome {
    /// These files took the place of the inputs.
    Done(Vec<Arc<DataFile>>),
    /// An input had been removed meanwhile; nothing was changed.
    Superseded,
}

/// Does a job. On an error nothing has changed, and what was written is removed as well as it can be.
pub(crate) async fn run_job(job: &JobContext<'_>, plan: &Plan) -> Result<JobOutcome, CompactionError> {
    let mut outputs = Vec::new();
    if !plan.is_removal
        && let Err(error) = write_outputs(job, plan, &mut outputs).await
    {
        remove_unnamed(job, &outputs).await;
        return Err(error.into());
    }
    let ids: Vec<FileId> = outputs.iter().map(|file| file.id).collect();
    let removed = plan.inputs.iter().map(|file| Edit::RemoveFile { id: file.id });
    let edits = removed
        .chain(outputs.iter().cloned().map(Edit::AddFile))
        .collect();
    match job.compactor.commit(edits).await {
        Ok(state) => Ok(JobOutcome::Done(
            ids.iter().filter_map(|id| state.file(*id).cloned()).collect(),
        )),
        Err(error) => {
            // Nothing names them.
            remove_unnamed(job, &outputs).await;
            match error {
                ManifestError::Refused(reason) => {
                    tracing::debug!(%reason, table = %job.table.name, "compaction came too late");
                    Ok(JobOutcome::Superseded)
                }
                error => Err(error.into()),
            }
        }
    }
}

async fn write_outputs(
    job: &JobContext<'_>,
    plan: &Plan,
    outputs: &mut Vec<DataFile>,
) -> Result<(), FileError> {
    for file in plan.inputs.iter().filter(|file| file.tail.is_none()) {
        // What is rewritten gets new checksums, which would vouch for damage.
        job.compactor.files.check_whole(file).await?;
    }
    let schema = common_schema(job, &plan.inputs).await?;
    let deletes_through = deletes_through(job.deletes, &plan.inputs);
    for (first, last) in slices(job, plan).await? {
        let inputs: Vec<&Arc<DataFile>> = plan
            .inputs
            .iter()
            .filter(|file| file.time_min <= last && first <= file.time_max)
            .collect();
        let hull = Hull::of(inputs.iter().copied());
        let streams = inputs
            .iter()
            .map(|file| scan(job, file, schema.arrow(), (first, last), job.deletes))
            .collect();
        let merged = merge_sorted(Arc::clone(schema.arrow()), schema.key_columns(), streams);
        let spec = WriteSpec {
            table: job.table,
            path_prefix: &job.compactor.path_prefix,
            node_id: job.compactor.storage.node_id(),
            lsn_first: hull.lsn_first,
            lsn_last: hull.lsn_last,
            deletes_through,
            effort: Effort::High,
        };
        outputs.extend(
            write_file(&job.compactor.files, &spec, merged, || {
                job.compactor.storage.manifest().allocate_file_id()
            })
            .await?,
        );
    }
    Ok(())
}

/// Up to where all deletes have been applied to what is written. The list has all that some input awaits; of those
/// before the last of the list, none is awaited beside it.
fn deletes_through(deletes: &[Arc<RowDelete>], inputs: &[Arc<DataFile>]) -> u64 {
    let applied = deletes.iter().map(|delete| delete.lsn).max().unwrap_or(0);
    let before = inputs.iter().map(|file| file.deletes_through).min().unwrap_or(0);
    applied.max(before)
}

/// The columns that some input has.
async fn common_schema(job: &JobContext<'_>, inputs: &[Arc<DataFile>]) -> Result<FileSchema, FileError> {
    let mut present: HashSet<ColumnId> = HashSet::new();
    for file in inputs {
        let columns = job.compactor.files.columns(file).await?;
        if let Some(unknown) = columns.iter().find(|id| job.table.column_by_id(**id).is_none()) {
            return Err(FileError::Columns(format!(
                "file '{}' has column {}, which table '{}' does not have",
                file.path, unknown.0, job.table.name
            )));
        }
        present.extend(columns);
    }
    Ok(FileSchema::new(job.table, |id| present.contains(&id)))
}

/// The spans of time of the outputs, both ends included.
async fn slices(job: &JobContext<'_>, plan: &Plan) -> Result<Vec<(i64, i64)>, FileError> {
    let rows_per_file = job
        .compactor
        .policy
        .rows_per_file(plan.inputs.iter().map(|file| &**file));
    let rows: u64 = plan.inputs.iter().map(|file| file.row_count).sum();
    let is_one_file = plan.outputs_max <= 1 && rows <= rows_per_file;
    let cuts = if is_one_file {
        Vec::new()
    } else {
        let times = FileSchema::new(job.table, |_| false);
        let mut histogram = TimeHistogram::default();
        for file in &plan.inputs {
            let mut rows = scan(job, file, times.arrow(), (i64::MIN, i64::MAX), &[]);
            while let Some(batch) = rows.try_next().await? {
                let column = batch.column_by_name(TIME_COLUMN);
                let column = column.and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>());
                histogram.add(column.map_or(&[], |times| times.values()));
            }
        }
        cut_times(&histogram.buckets(), rows_per_file, plan.outputs_max)
    };
    let starts = std::iter::once(i64::MIN).chain(cuts.iter().copied());
    let ends = cuts.iter().map(|cut| cut - 1).chain([i64::MAX]);
    Ok(starts.zip(ends).collect())
}

/// The rows of a file within a span, without those that have expired, at the pace that is allowed.
fn scan(
    job: &JobContext<'_>,
    file: &Arc<DataFile>,
    schema: &SchemaRef,
    (first, last): (i64, i64),
    deletes: &[Arc<RowDelete>],
) -> SortedStream {
    let first = first.max(job.keep_from);
    if first > last {
        return futures::stream::empty().boxed();
    }
    let rows = scan_file(
        &job.compactor.files,
        file,
        Arc::clone(schema),
        Some((first, last)),
        deletes,
    );
    let Some(throttle) = job.compactor.throttle.clone() else {
        return rows;
    };
    rows.then(move |batch| {
        let throttle = Arc::clone(&throttle);
        async move {
            throttle.pace().await;
            batch
        }
    })
    .boxed()
}

async fn remove_unnamed(job: &JobContext<'_>, outputs: &[DataFile]) {
    let paths: Vec<Arc<str>> = outputs.iter().map(|file| Arc::clone(&file.path)).collect();
    job.compactor.files.remove_unnamed(&paths).await;
}
