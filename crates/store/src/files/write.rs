//! Sorted rows become a file.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampNanosecondType;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use tidemill_catalog::Table;
use uuid::Uuid;

use crate::files::encoder::Encoder;
use crate::files::layout::SAMPLE_ROWS;
use crate::files::upload::{Upload, Uploaded};
use crate::sorted::SortedStream;
use crate::{CHUNK_ORDER_COLUMN, DataFile, Effort, FileError, FileId, FileStore, FileTail};

/// What a new file is to be.
#[derive(Debug, Clone, Copy)]
pub struct WriteSpec<'a> {
    /// The table that the rows are of.
    pub table: &'a Table,
    /// Where the object goes: `{path_prefix}/{database}/{table}/{file}-{random}.parquet`.
    pub path_prefix: &'a Path,
    /// The node that writes; noted in the file.
    pub node_id: &'a str,
    /// Least place in the log that the rows may have.
    pub lsn_first: u64,
    /// Greatest place in the log that the rows may have.
    pub lsn_last: u64,
    /// Row deletes up to this place in the log have been applied to the rows.
    pub deletes_through: u64,
    /// How small the file is to be.
    pub effort: Effort,
}

/// Writes all rows into one file, which is complete and durable when this returns; without any row there is no file, and
/// `allocate` is not called. The rows must have the columns of a [`FileSchema`](crate::FileSchema) of the table.
///
/// It is one file whatever the size: cut along the order of rows, two files would overlap both in time and in the log. It
/// is streamed into the object store, so that no more than a row group is in memory.
///
/// # Errors
/// Those of `rows`; [`FileError::Object`] when the store fails. What was written is removed then. An object may stay
/// where the future is dropped, or the process ends.
pub async fn write_file(
    files: &FileStore,
    spec: &WriteSpec<'_>,
    mut rows: SortedStream,
    allocate: impl FnOnce() -> FileId,
) -> Result<Option<DataFile>, FileError> {
    let first = loop {
        match rows.try_next().await? {
            None => return Ok(None),
            Some(batch) if batch.num_rows() > 0 => break batch,
            Some(_) => {}
        }
    };
    let id = allocate();
    let path = object_path(spec, id);
    let mut upload = Upload::new(files.objects().as_ref(), &path);
    match write_rows(&mut upload, spec, &path, first, rows).await {
        Ok((uploaded, extent, tail)) => Ok(Some(DataFile {
            id,
            database: spec.table.database_id,
            table: spec.table.id,
            path: path.as_ref().into(),
            byte_size: uploaded.byte_size,
            checksum: uploaded.checksum,
            row_count: extent.row_count,
            time_min: extent.time_min,
            time_max: extent.time_max,
            lsn_first: spec.lsn_first,
            lsn_last: spec.lsn_last,
            deletes_through: spec.deletes_through,
            effort: spec.effort,
            tail: Some(tail),
        })),
        Err(error) => {
            upload.abort().await;
            Err(error)
        }
    }
}

/// The path is never used twice, not even when an identity is: a crash forgets those that no manifest record names.
fn object_path(spec: &WriteSpec<'_>, id: FileId) -> Path {
    let random = Uuid::new_v4().simple();
    let (database, table) = (spec.table.database_id, spec.table.id);
    Path::from(format!(
        "{}/{database}/{table}/{id:010}-{random}.parquet",
        spec.path_prefix
    ))
}

async fn write_rows(
    upload: &mut Upload<'_>,
    spec: &WriteSpec<'_>,
    path: &Path,
    first: RecordBatch,
    rows: SortedStream,
) -> Result<(Uploaded, Extent, FileTail), FileError> {
    // The sample may take the last row: a stream is not asked again after its end.
    let mut rows: SortedStream = rows.fuse().boxed();
    let unwritable = |source| FileError::Object {
        action: "write",
        path: path.to_string(),
        source,
    };
    let time_column = time_column(&first, spec.table)?;
    let mut extent = Extent::default();
    let sampled = sample(first, &mut rows).await?;
    let mut encoder = Encoder::new(&sampled, time_column + 1, spec, path)?;
    let mut all = futures::stream::iter(sampled.into_iter().map(Ok)).chain(rows);
    while let Some(batch) = all.try_next().await? {
        if batch.num_rows() == 0 {
            continue;
        }
        extent.add(&batch, time_column)?;
        let encoded = encoder.write(batch).await?;
        if !encoded.is_empty() {
            upload.write(encoded.into()).await.map_err(unwritable)?;
        }
    }
    let (encoded, tail) = encoder.finish().await?;
    upload.write(encoded.into()).await.map_err(unwritable)?;
    let uploaded = upload.finish().await.map_err(unwritable)?;
    Ok((uploaded, extent, tail))
}

/// The first rows, by which encodings are chosen; at least one batch.
async fn sample(first: RecordBatch, rows: &mut SortedStream) -> Result<Vec<RecordBatch>, FileError> {
    let mut row_count = first.num_rows();
    let mut sample = vec![first];
    while row_count < SAMPLE_ROWS
        && let Some(batch) = rows.try_next().await?
    {
        row_count += batch.num_rows();
        sample.push(batch);
    }
    Ok(sample)
}

/// The position of time, after checking that the columns are a file's.
fn time_column(batch: &RecordBatch, table: &Table) -> Result<usize, FileError> {
    let schema = batch.schema();
    let time = schema.index_of(&table.time_column().name)?;
    let tags_are_first = schema.fields()[..time]
        .iter()
        .map(|field| field.name().as_str())
        .eq(table
            .tags()
            .map(|tag| &*tag.name)
            .filter(|name| schema.index_of(name).is_ok()));
    let order_is_last = schema
        .fields()
        .last()
        .is_some_and(|field| field.name() == CHUNK_ORDER_COLUMN);
    if tags_are_first && order_is_last {
        return Ok(time);
    }
    let names: Vec<&str> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    Err(FileError::Columns(format!(
        "a file of table '{}' was to have {names:?}",
        table.name
    )))
}

/// What is known of the rows after they have passed.
struct Extent {
    row_count: u64,
    time_min: i64,
    time_max: i64,
}

impl Default for Extent {
    fn default() -> Self {
        Self {
            row_count: 0,
            time_min: i64::MAX,
            time_max: i64::MIN,
        }
    }
}

impl Extent {
    fn add(&mut self, batch: &RecordBatch, time_column: usize) -> Result<(), FileError> {
        let times = batch
            .column(time_column)
            .as_primitive_opt::<TimestampNanosecondType>();
        let Some(times) = times.filter(|times| times.null_count() == 0) else {
            return Err(FileError::Columns(
                "time is not of type timestamp without nulls".to_owned(),
            ));
        };
        self.row_count += batch.num_rows() as u64;
        for time in times.values() {
            self.time_min = self.time_min.min(*time);
            self.time_max = self.time_max.max(*time);
        }
        Ok(())
    }
}
