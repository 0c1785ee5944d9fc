//! The format for people: a table drawn with characters. Its column widths are known only at its end, so that it is held
//! as a whole; hence it has bounds.

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;
use arrow::util::pretty::pretty_format_batches;
use futures::StreamExt;
use http::StatusCode;
use tidemill_query::BatchStream;

use crate::error::ApiError;

/// Cells of one table at most: laying one out takes some hundred bytes.
const CELLS_MAX: usize = 2_500_000;

/// Bytes of one table at most. All rows are as wide as the widest.
const TABLE_BYTES_MAX: usize = 256 << 20;

/// No number, time or boolean is wider.
const SCALAR_WIDTH_MAX: usize = 40;

/// Draws all rows.
///
/// Errors: those of the query, and a table beyond the bounds.
pub(crate) async fn table(mut batches: BatchStream) -> Result<String, ApiError> {
    let mut size = TableSize::default();
    let mut collected = Vec::new();
    while let Some(batch) = batches.next().await.transpose()? {
        if batch.num_rows() > 0 {
            size.add(&batch)?;
            collected.push(batch);
        }
    }
    let draw = move || pretty_format_batches(&collected).map(|table| table.to_string());
    let drawn = tokio::task::spawn_blocking(draw).await;
    drawn.map_err(ApiError::internal)?.map_err(ApiError::internal)
}

/// How large a table will be.
#[derive(Default)]
struct TableSize {
    row_count: usize,
    widths: Vec<usize>,
}

impl TableSize {
    fn add(&mut self, batch: &RecordBatch) -> Result<(), ApiError> {
        self.row_count += batch.num_rows();
        self.widths.resize(batch.num_columns(), 0);
        for (width, column) in self.widths.iter_mut().zip(batch.columns()) {
            *width = (*width).max(widest(column));
        }
        let row_bytes: usize = self.widths.iter().map(|width| width.saturating_add(3)).sum();
        let within_bounds = self.row_count.saturating_mul(self.widths.len()) <= CELLS_MAX
            && self.row_count.saturating_mul(row_bytes) <= TABLE_BYTES_MAX;
        if within_bounds {
            Ok(())
        } else {
            Err(ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Resources exhausted: the answer is too large for the format 'pretty', ask for fewer rows or for \
                 json, jsonl, csv or parquet",
            ))
        }
    }
}

/// An upper bound of the bytes that a cell of this column takes.
fn widest(column: &ArrayRef) -> usize {
    match column.data_type() {
        DataType::Utf8 => longest(column.as_string::<i32>().offsets()),
        DataType::LargeUtf8 => longest(column.as_string::<i64>().offsets()),
        // Two characters a byte.
        DataType::Binary => 2 * longest(column.as_binary::<i32>().offsets()),
        DataType::LargeBinary => 2 * longest(column.as_binary::<i64>().offsets()),
        DataType::Dictionary(..) => widest(column.as_any_dictionary().values()),
        data_type if data_type.is_nested() => {
            let bytes = column.to_data().get_slice_memory_size().unwrap_or(usize::MAX);
            bytes.saturating_mul(2)
        }
        _ => SCALAR_WIDTH_MAX,
    }
}

fn longest<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> usize {
    offsets.lengths().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use futures::stream;

    use super::*;

    async fn drawn(columns: Vec<(&str, ArrayRef)>, times: usize) -> Option<String> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let batches: BatchStream = Box::pin(stream::iter(std::iter::repeat_n(Ok(batch), times)));
        table(batches).await.ok()
    }

    #[tokio::test]
    async fn a_table_is_drawn_within_bounds_only() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let expected = "+---+\n| n |\n+---+\n| 1 |\n| 2 |\n+---+";
        assert_eq!(
            drawn(vec![("n", Arc::clone(&numbers))], 1).await.as_deref(),
            Some(expected)
        );
        assert_eq!(drawn(vec![("n", numbers)], 0).await.as_deref(), Some("++\n++"));

        let many: ArrayRef = Arc::new(Int64Array::from(vec![0; 10_000]));
        assert!(drawn(vec![("n", many)], 251).await.is_none(), "too many cells");
        // One long text makes every row long.
        let texts = std::iter::once("x".repeat(1 << 20)).chain(std::iter::repeat_n(String::new(), 300));
        let wide: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        assert!(drawn(vec![("t", wide)], 1).await.is_none(), "too many bytes");
    }
}
