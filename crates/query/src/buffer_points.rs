//! Rows of the memory buffer in the order of files, to be merged with them.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, new_null_array};
use datafusion::arrow::compute::filter;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use futures::StreamExt;
use tidemill_catalog::{ColumnId, Table};
use tidemill_store::{FileError, SortedRows, SortedStream, StoredBatch};

use crate::buffer_part::BufferPart;
use crate::key_filter::{KeyFilter, Rows};
use crate::layout::TableLayout;

/// What is kept of each row to sort it.
const ORDER_BYTES_PER_ROW: usize = 24;

/// Some columns of the buffer's rows that pass a filter, each point once.
#[derive(Debug)]
pub(crate) struct BufferPoints {
    table: Arc<Table>,
    layout: Arc<TableLayout>,
    columns: Vec<usize>,
    schema: SchemaRef,
    filter: KeyFilter,
}

/// Sorted rows, and the memory that they take.
pub(crate) struct SortedPoints {
    pub(crate) stream: SortedStream,
    pub(crate) bytes: usize,
}

impl BufferPoints {
    /// `columns`, by their position in the layout, begin with those of the key.
    pub(crate) fn new(
        table: Arc<Table>,
        layout: Arc<TableLayout>,
        columns: Vec<usize>,
        filter: KeyFilter,
    ) -> Self {
        let schema = layout.project(&columns);
        Self {
            table,
            layout,
            columns,
            schema,
            filter,
        }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The points of `parts`, which are in log order; `None` if no row passes.
    pub(crate) fn sorted(&self, parts: &[BufferPart]) -> Result<Option<SortedPoints>> {
        let mut batches = Vec::with_capacity(parts.len());
        let mut bytes = 0;
        for part in parts {
            let Some(batch) = self.selected(part)? else {
                continue;
            };
            bytes += batch.byte_size + batch.row_count * ORDER_BYTES_PER_ROW;
            batches.push(Arc::new(batch));
        }
        if batches.is_empty() {
            return Ok(None);
        }
        let rows = SortedRows::new(&self.table, &batches).map_err(from_file_error)?;
        let places: Vec<Option<usize>> = self
            .columns
            .iter()
            .map(|&column| {
                let id = self.layout.column(column).id;
                rows.schema()
                    .columns()
                    .iter()
                    .position(|(present, _)| *present == id)
            })
            .collect();
        let schema = Arc::clone(&self.schema);
        let stream = rows
            .into_stream()
            .map(move |rows| rows.and_then(|rows| arranged(&rows, &places, &schema)))
            .boxed();
        Ok(Some(SortedPoints { stream, bytes }))
    }

    /// The rows of a part that pass, with the columns that are wanted.
    fn selected(&self, part: &BufferPart) -> Result<Option<StoredBatch>> {
        let mask = match self.filter.rows(part, &self.layout)? {
            Rows::None => return Ok(None),
            Rows::All => None,
            Rows::Some(mask) => Some(BooleanArray::new(mask, None)),
        };
        let mut columns: Vec<(ColumnId, ArrayRef)> = Vec::with_capacity(self.columns.len());
        let mut byte_size = 0;
        for &position in &self.columns {
            let Some(column) = part.present_column(&self.layout, position) else {
                continue;
            };
            let column = match &mask {
                None => column,
                Some(mask) => {
                    let passing = filter(&column, mask)?;
                    // Whole columns and dictionaries are the store's.
                    byte_size += passing.to_data().get_slice_memory_size().unwrap_or_default();
                    passing
                }
            };
            columns.push((self.layout.column(position).id, column));
        }
        let row_count = mask
            .as_ref()
            .map_or(part.row_count_max(), BooleanArray::true_count);
        let hull = part.time_hull();
        Ok(Some(StoredBatch {
            lsn_first: 0,
            lsn_last: 0,
            // Nobody asks for the place in the log of these rows; the order of batches is that of the log.
            lsn_runs: vec![(row_count as u32, 0)],
            columns,
            row_count,
            time_column: self.table.time_column().id,
            time_min: hull.first,
            time_max: hull.last,
            byte_size,
        }))
    }
}

/// The columns at `places`, null where there is none.
fn arranged(
    rows: &RecordBatch,
    places: &[Option<usize>],
    schema: &SchemaRef,
) -> Result<RecordBatch, FileError> {
    let columns = places
        .iter()
        .zip(schema.fields())
        .map(|(place, field)| match place {
            Some(place) => Arc::clone(rows.column(*place)),
            None => new_null_array(field.data_type(), rows.num_rows()),
        });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect())?)
}

/// As the engine's errors are: one that came from there is itself again.
pub(crate) fn from_file_error(error: FileError) -> DataFusionError {
    match error {
        FileError::Input(cause) => match cause.downcast::<DataFusionError>() {
            Ok(error) => *error,
            Err(cause) => DataFusionError::External(cause),
        },
        FileError::Arrow(error) => error.into(),
        error => DataFusionError::External(Box::new(error)),
    }
}
