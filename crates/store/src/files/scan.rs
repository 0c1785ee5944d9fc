//! A file as a stream of sorted rows, for merging.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{SchemaRef, TimestampNanosecondType};
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use tidemill_catalog::TIME_COLUMN;

use crate::sorted::{BATCH_ROWS, SortedStream};
use crate::{DataFile, DeleteFilter, FileDamage, FileError, FileStore, RowDelete};

/// The rows of a file in its order, with the columns of `schema` (that of a [`FileSchema`](crate::FileSchema) with at
/// least the columns that `deletes` have conditions on): a column that the file does not have is null. Only rows between
/// the two instants, both included, that none of the `deletes` removes; deletes that do not concern the file are ignored.
pub fn scan_file(
    files: &Arc<FileStore>,
    file: &Arc<DataFile>,
    schema: SchemaRef,
    time: Option<(i64, i64)>,
    deletes: &[Arc<RowDelete>],
) -> SortedStream {
    let concerning = deletes.iter().filter(|delete| delete.concerns(file)).cloned();
    let scan = FileScan {
        files: Arc::clone(files),
        file: Arc::clone(file),
        schema,
        time: time.filter(|(first, last)| file.time_min < *first || *last < file.time_max),
        deletes: concerning.collect(),
    };
    futures::stream::once(scan.open()).try_flatten().boxed()
}

struct FileScan {
    files: Arc<FileStore>,
    file: Arc<DataFile>,
    schema: SchemaRef,
    time: Option<(i64, i64)>,
    deletes: Vec<Arc<RowDelete>>,
}

impl FileScan {
    async fn open(self) -> Result<SortedStream, FileError> {
        let unreadable = |source: ParquetError| self.read_error(source);
        let mut reader = self.files.reader(&self.file);
        let metadata = reader.metadata().await?;
        let opened = catch_unwind(|| ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new()));
        let metadata = opened
            .map_err(|payload| self.panicked(&*payload))?
            .map_err(unreadable)?;
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, metadata);
        let is_wanted = |name: &str| self.schema.index_of(name).is_ok();
        let roots = builder.schema().fields().iter().enumerate();
        let wanted = roots
            .filter(|(_, field)| is_wanted(field.name()))
            .map(|(position, _)| position);
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.collect::<Vec<_>>());
        let rows = builder
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(unreadable)?;

        let filter = DeleteFilter::new(&self.schema, &self.deletes)?;
        // After a panic the stream is not asked again.
        let rows = AssertUnwindSafe(rows).catch_unwind().map(move |batch| {
            let batch = batch.map_err(|payload| self.panicked(&*payload))?;
            let batch = batch.map_err(|source| self.read_error(source))?;
            let batch = self.with_schema(&batch)?;
            let batch = self.within_time(batch)?;
            match filter.kept(&batch)? {
                None => Ok(batch),
                Some(kept) => Ok(filter_record_batch(&batch, &kept)?),
            }
        });
        Ok(rows
            .try_filter(|batch| std::future::ready(batch.num_rows() > 0))
            .boxed())
    }

    fn with_schema(&self, batch: &RecordBatch) -> Result<RecordBatch, FileError> {
        let columns = self
            .schema
            .fields()
            .iter()
            .map(|field| match batch.column_by_name(field.name()) {
                None => Ok(new_null_array(field.data_type(), batch.num_rows())),
                Some(array) if array.data_type() == field.data_type() => Ok(Arc::clone(array)),
                Some(array) => Err(FileError::Columns(format!(
                    "file '{}' has column '{}' as {} instead of {}",
                    self.file.path,
                    field.name(),
                    array.data_type(),
                    field.data_type()
                ))),
            });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns,
            &options,
        )?)
    }

    fn within_time(&self, batch: RecordBatch) -> Result<RecordBatch, FileError> {
        let Some((first, last)) = self.time else {
            return Ok(batch);
        };
        let times = batch.column_by_name(TIME_COLUMN);
        let times = times.and_then(|times| times.as_primitive_opt::<TimestampNanosecondType>());
        let times = times
            .ok_or_else(|| FileError::Columns(format!("'{TIME_COLUMN}' is missing or of another type")))?;
        let times = times.values();
        let inside =
            BooleanBuffer::collect_bool(times.len(), |row| first <= times[row] && times[row] <= last);
        Ok(filter_record_batch(&batch, &BooleanArray::new(inside, None))?)
    }

    /// What no checksum has confirmed may make Parquet stumble.
    fn panicked(&self, payload: &(dyn Any + Send)) -> FileError {
        self.files.damaged(&self.file, FileDamage::from_panic(payload))
    }

    /// A [`FileError`] that went through Parquet's reader comes out as what it was.
    fn read_error(&self, source: ParquetError) -> FileError {
        let undecodable = |reason: String| self.files.damaged(&self.file, FileDamage::Undecodable(reason));
        match source {
            ParquetError::External(error) => match error.downcast::<FileError>() {
                Ok(error) => *error,
                Err(error) => undecodable(error.to_string()),
            },
            other => undecodable(other.to_string()),
        }
    }
}
