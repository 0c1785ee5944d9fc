//! Rows as the bytes of a Parquet object, and back.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::layout::Layout;

const DECODED_ROWS_MAX: usize = 8 * 1024;

pub(crate) fn encode(schema: SchemaRef, batches: &[RecordBatch]) -> Result<Bytes, String> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .build();
    let encode = || {
        let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
        for batch in batches {
            writer.write(batch)?;
        }
        writer.into_inner()
    };
    encode().map(Bytes::from).map_err(|error| error.to_string())
}

/// The rows of an object, in order, with the columns of the layout, or what is wrong with it.
pub(crate) fn decode(layout: &Layout, object: Bytes) -> Result<Vec<RecordBatch>, String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(object).map_err(|error| error.to_string())?;
    let names = layout.schema().fields().iter().map(|field| field.name().as_str());
    let columns = ProjectionMask::columns(builder.parquet_schema(), names);
    let reader = builder
        .with_projection(columns)
        .with_batch_size(DECODED_ROWS_MAX)
        .build()
        .map_err(|error| error.to_string())?;
    reader
        .map(|batch| layout.fit(&batch?))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}
