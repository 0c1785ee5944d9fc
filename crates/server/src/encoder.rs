//! Batches as bytes, in the formats that can be sent while the rest of the answer is still computed.

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::{ArrayWriter, LineDelimitedWriter};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

/// Batches with more values are encoded on the blocking pool: an async thread must not be kept for milliseconds.
const INLINE_VALUES_MAX: usize = 4096;

/// Bytes of one row group of a Parquet answer at most, give or take a batch: it is held until it is complete.
const ROW_GROUP_BYTES_MAX: usize = 32 << 20;

/// Why rows cannot be written in a format.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    #[error("the answer could not be encoded; the server's log has the details")]
    Panicked,
}

/// Writes the batches of one answer.
pub(crate) struct Encoder {
    kind: Kind,
    started: bool,
}

enum Kind {
    Json,
    JsonLines,
    Csv,
    Parquet(Box<ArrowWriter<Vec<u8>>>),
}

impl Encoder {
    /// One array of objects.
    pub(crate) fn json() -> Self {
        Self::new(Kind::Json)
    }

    /// One object a line.
    pub(crate) fn json_lines() -> Self {
        Self::new(Kind::JsonLines)
    }

    /// A line of names, then one line a row.
    pub(crate) fn csv() -> Self {
        Self::new(Kind::Csv)
    }

    /// A Parquet file.
    pub(crate) fn parquet(schema: SchemaRef) -> Result<Self, EncodeError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
        Ok(Self::new(Kind::Parquet(Box::new(writer))))
    }

    fn new(kind: Kind) -> Self {
        Self { kind, started: false }
    }

    /// Whether a row was written.
    pub(crate) fn has_started(&self) -> bool {
        self.started
    }

    /// The bytes that one more batch adds, which may be none. A large batch is encoded on the blocking pool.
    pub(crate) async fn encode(mut self, batch: RecordBatch) -> Result<(Self, Vec<u8>), EncodeError> {
        let values = batch.num_rows().saturating_mul(batch.num_columns().max(1));
        if values <= INLINE_VALUES_MAX {
            let bytes = self.encode_here(&batch)?;
            return Ok((self, bytes));
        }
        let work = move || self.encode_here(&batch).map(|bytes| (self, bytes));
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or(Err(EncodeError::Panicked))
    }

    fn encode_here(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        if batch.num_rows() == 0 {
            return Ok(out);
        }
        match &mut self.kind {
            Kind::Json => {
                let mut writer = ArrayWriter::new(&mut out);
                writer.write(batch)?;
                writer.finish()?;
                // Each batch comes as an array of its own: the brackets between them become commas.
                out[0] = if self.started { b',' } else { b'[' };
                out.pop();
            }
            Kind::JsonLines => LineDelimitedWriter::new(&mut out).write(batch)?,
            Kind::Csv => csv::WriterBuilder::new()
                .with_header(!self.started)
                .build(&mut out)
                .write(batch)?,
            Kind::Parquet(writer) => {
                writer.write(batch)?;
                if writer.in_progress_size() > ROW_GROUP_BYTES_MAX {
                    writer.flush()?;
                }
                out = std::mem::take(writer.inner_mut());
            }
        }
        self.started = true;
        Ok(out)
    }

    /// The bytes at the end.
    pub(crate) fn finish(self) -> Result<Vec<u8>, EncodeError> {
        Ok(match self.kind {
            Kind::Json if self.started => b"]".to_vec(),
            Kind::Json => b"[]".to_vec(),
            Kind::JsonLines | Kind::Csv => Vec::new(),
            Kind::Parquet(writer) => writer.into_inner()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    }

    async fn encoded(mut encoder: Encoder, batches: impl IntoIterator<Item = RecordBatch>) -> Vec<u8> {
        let mut all = Vec::new();
        for batch in batches {
            let bytes;
            (encoder, bytes) = encoder.encode(batch).await.unwrap();
            all.extend(bytes);
        }
        all.extend(encoder.finish().unwrap());
        all
    }

    #[tokio::test]
    async fn batches_are_joined_into_one_answer() {
        let batches = || [numbers(0..0), numbers(1..3), numbers(0..0), numbers(3..4)];
        assert_eq!(
            encoded(Encoder::json(), batches()).await,
            br#"[{"n":1},{"n":2},{"n":3}]"#
        );
        assert_eq!(
            encoded(Encoder::json_lines(), batches()).await,
            b"{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n"
        );
        assert_eq!(encoded(Encoder::csv(), batches()).await, b"n\n1\n2\n3\n");
        assert_eq!(encoded(Encoder::json(), [numbers(0..0)]).await, b"[]");
        assert_eq!(encoded(Encoder::csv(), [numbers(0..0)]).await, b"");
    }

    #[tokio::test]
    async fn a_parquet_file_comes_in_pieces_that_are_one_file() {
        let schema = numbers(0..0).schema();
        let empty = encoded(Encoder::parquet(Arc::clone(&schema)).unwrap(), []).await;
        let rows = |file: Vec<u8>| -> usize {
            let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).unwrap();
            reader
                .build()
                .unwrap()
                .map(|batch| batch.unwrap().num_rows())
                .sum()
        };
        assert_eq!(rows(empty), 0);
        let batches = (0..100).map(|batch| numbers(batch * 10_000..(batch + 1) * 10_000));
        let file = encoded(Encoder::parquet(schema).unwrap(), batches).await;
        assert_eq!(rows(file), 1_000_000);
    }
}
