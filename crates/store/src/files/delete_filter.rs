//! Which rows of a file have been deleted.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Int32Type, Schema, TimestampNanosecondType, UInt64Type};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use tidemill_catalog::ColumnId;

use crate::{CHUNK_ORDER_COLUMN, FileError, RowDelete, TagCondition};

/// Row deletes as a filter over batches with the columns of some [`FileSchema`](crate::FileSchema).
#[derive(Debug)]
pub struct DeleteFilter {
    deletes: Vec<CompiledDelete>,
    time_column: usize,
    order_column: usize,
}

#[derive(Debug)]
struct CompiledDelete {
    delete: Arc<RowDelete>,
    /// The column of each condition.
    columns: Vec<usize>,
}

impl DeleteFilter {
    /// The filter of `deletes`, all of the table that `schema` belongs to. A delete with a condition on a tag that the
    /// schema does not have removes nothing: no row has the tag.
    ///
    /// # Errors
    /// [`FileError::Columns`] when the schema has no time or no [`CHUNK_ORDER_COLUMN`].
    pub fn new(schema: &Schema, deletes: &[Arc<RowDelete>]) -> Result<Self, FileError> {
        let missing = |name: &str| FileError::Columns(format!("there is no column '{name}'"));
        let time_column = schema
            .index_of(tidemill_catalog::TIME_COLUMN)
            .map_err(|_| missing(tidemill_catalog::TIME_COLUMN))?;
        let order_column = schema
            .index_of(CHUNK_ORDER_COLUMN)
            .map_err(|_| missing(CHUNK_ORDER_COLUMN))?;
        let compile = |delete: &Arc<RowDelete>| {
            let columns = delete
                .conditions
                .iter()
                .map(|condition| column_of(schema, condition.column));
            Some(CompiledDelete {
                columns: columns.collect::<Option<_>>()?,
                delete: Arc::clone(delete),
            })
        };
        Ok(Self {
            deletes: deletes.iter().filter_map(compile).collect(),
            time_column,
            order_column,
        })
    }

    /// For each row whether it stays; `None`: all do.
    ///
    /// # Errors
    /// [`FileError::Columns`] when a column has another type than it has in files.
    pub fn kept(&self, batch: &RecordBatch) -> Result<Option<BooleanArray>, FileError> {
        if self.deletes.is_empty() || batch.num_rows() == 0 {
            return Ok(None);
        }
        let wrong_type = || FileError::Columns("time, order or tags are of another type".to_owned());
        let times = batch
            .column(self.time_column)
            .as_primitive_opt::<TimestampNanosecondType>()
            .ok_or_else(wrong_type)?
            .values();
        let orders = batch
            .column(self.order_column)
            .as_primitive_opt::<UInt64Type>()
            .ok_or_else(wrong_type)?
            .values();
        let mut kept = BooleanBuffer::new_set(batch.num_rows());
        for CompiledDelete { delete, columns } in &self.deletes {
            let span = delete.time_first..=delete.time_last;
            let mut deleted = BooleanBuffer::collect_bool(batch.num_rows(), |row| {
                span.contains(&times[row]) && orders[row] < delete.lsn
            });
            for (condition, column) in delete.conditions.iter().zip(columns) {
                if deleted.count_set_bits() == 0 {
                    break;
                }
                let holds =
                    condition_holds(condition, batch.column(*column).as_ref()).ok_or_else(wrong_type)?;
                deleted = &deleted & &holds;
            }
            kept = &kept & &!&deleted;
        }
        let all_stay = kept.count_set_bits() == batch.num_rows();
        Ok((!all_stay).then(|| BooleanArray::new(kept, None)))
    }
}

/// For each row whether the condition holds; `None` when the column is no tag.
fn condition_holds(condition: &TagCondition, tags: &dyn Array) -> Option<BooleanBuffer> {
    let tags = tags.as_dictionary_opt::<Int32Type>()?;
    let values = tags.values().as_string_opt::<i32>()?;
    let holds_for_value: Vec<bool> = values
        .iter()
        .map(|value| {
            value.is_some_and(|value| {
                let is_listed = condition.values.iter().any(|listed| **listed == *value);
                is_listed != condition.negated
            })
        })
        .collect();
    let keys = tags.keys();
    Some(BooleanBuffer::collect_bool(keys.len(), |row| {
        // A key under a null may be anything.
        keys.is_valid(row)
            && holds_for_value
                .get(keys.value(row) as usize)
                .copied()
                .unwrap_or(false)
    }))
}

/// The position of a table's column in the schema of a file.
fn column_of(schema: &Schema, column: ColumnId) -> Option<usize> {
    let field_id = (u32::from(column.0) + 1).to_string();
    let has_id = |field: &Arc<arrow::datatypes::Field>| {
        field.metadata().get(PARQUET_FIELD_ID_META_KEY) == Some(&field_id)
    };
    schema.fields().iter().position(has_id)
}
