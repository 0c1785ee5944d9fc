//! Batches of rows become the bytes of a file.

use arrow::array::RecordBatch;
use crc_fast::crc32_iscsi;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;

use crate::files::blocks::BlockChecksums;
use crate::files::layout::{ROW_GROUP_ROWS, SAMPLE_ROWS, has_few_values, writer_properties};
use crate::{FileError, FileTail, WriteSpec};

/// Version of the layout of files; it stands in their metadata under `tidemill.format`.
const FORMAT_VERSION: u32 = 1;
/// Encoding fewer rows than this is not worth another thread.
const BACKGROUND_ROWS_MIN: usize = 512;

/// Encodes on threads that may block: it is work for milliseconds.
pub(crate) struct Encoder {
    /// Absent only while a thread has it.
    encoding: Option<Box<Encoding>>,
    path: Path,
}

struct Encoding {
    writer: ArrowWriter<Vec<u8>>,
    checksums: BlockChecksums,
}

impl Encoding {
    /// The bytes of rows that have come out of the writer.
    fn take_rows(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(self.writer.inner_mut());
        self.checksums.update(&bytes);
        bytes
    }

    /// The rest of the rows, and the tail.
    fn finish(&mut self) -> parquet::errors::Result<(Vec<u8>, FileTail)> {
        self.writer.flush()?;
        self.writer.sync()?;
        let mut bytes = self.take_rows();
        self.writer.write_all(&self.checksums.encode())?;
        self.writer.finish()?;
        let tail_bytes = std::mem::take(self.writer.inner_mut());
        bytes.extend_from_slice(&tail_bytes);
        let tail = FileTail {
            start: self.checksums.byte_count(),
            checksum: crc32_iscsi(&tail_bytes),
        };
        Ok((bytes, tail))
    }
}

impl Encoder {
    /// For rows like those of `sample`, which has at least one batch.
    pub(crate) fn new(
        sample: &[RecordBatch],
        key_columns: usize,
        spec: &WriteSpec<'_>,
        path: &Path,
    ) -> Result<Self, FileError> {
        let schema = sample[0].schema();
        // The place in the log, which comes last, grows along a series: it is best as deltas.
        let fields = key_columns..schema.fields().len() - 1;
        let few_values: Vec<bool> = (0..schema.fields().len())
            .map(|position| fields.contains(&position) && has_few_values(sample, position))
            .collect();
        let noted = |key: &str, value: String| KeyValue::new(format!("tidemill.{key}"), value);
        let key_values = vec![
            noted("format", FORMAT_VERSION.to_string()),
            noted("node", spec.node_id.to_owned()),
            noted("database", spec.table.database_id.to_string()),
            noted("table", spec.table.id.to_string()),
            noted("table_name", spec.table.name.to_string()),
            noted("lsn_first", spec.lsn_first.to_string()),
            noted("lsn_last", spec.lsn_last.to_string()),
            noted("deletes_through", spec.deletes_through.to_string()),
        ];
        let sampled: usize = sample.iter().map(RecordBatch::num_rows).sum();
        // Fewer than a sample are all that there are. A bloom filter for more would cost more than the file.
        let group_rows_max = if sampled < SAMPLE_ROWS {
            sampled
        } else {
            ROW_GROUP_ROWS
        };
        let properties = writer_properties(
            &schema,
            key_columns,
            &few_values,
            group_rows_max,
            spec.effort,
            key_values,
        );
        let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties));
        let writer = writer.map_err(|source| FileError::Encode {
            path: path.to_string(),
            source,
        })?;
        Ok(Self {
            encoding: Some(Box::new(Encoding {
                writer,
                checksums: BlockChecksums::default(),
            })),
            path: path.clone(),
        })
    }

    /// Encodes rows and returns the bytes of the file that are complete.
    pub(crate) async fn write(&mut self, batch: RecordBatch) -> Result<Vec<u8>, FileError> {
        let row_count = batch.num_rows();
        let encode = move |encoding: &mut Encoding| {
            encoding.writer.write(&batch)?;
            Ok(encoding.take_rows())
        };
        self.run(row_count, encode).await
    }

    /// Returns the rest of the file, and what of the file comes after the rows.
    pub(crate) async fn finish(mut self) -> Result<(Vec<u8>, FileTail), FileError> {
        let encoding = self.encoding.as_ref();
        let row_count = encoding.map_or(0, |encoding| encoding.writer.in_progress_rows());
        self.run(row_count, Encoding::finish).await
    }

    async fn run<T: Send + 'static>(
        &mut self,
        row_count: usize,
        encode: impl FnOnce(&mut Encoding) -> parquet::errors::Result<T> + Send + 'static,
    ) -> Result<T, FileError> {
        let stopped = |reason: String| FileError::Stopped {
            path: self.path.to_string(),
            reason,
        };
        let taken = self.encoding.take();
        let mut encoding = taken.ok_or_else(|| stopped("it has failed before".to_owned()))?;
        let work = move || {
            let encoded = encode(&mut encoding);
            (encoding, encoded)
        };
        let (encoding, encoded) = if row_count < BACKGROUND_ROWS_MIN {
            work()
        } else {
            let joined = tokio::task::spawn_blocking(work).await;
            joined.map_err(|error| stopped(error.to_string()))?
        };
        self.encoding = Some(encoding);
        encoded.map_err(|source| FileError::Encode {
            path: self.path.to_string(),
            source,
        })
    }
}
