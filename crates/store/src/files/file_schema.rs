//! Which columns a file has, in which order and under which names.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use tidemill_catalog::{Column, ColumnId, Table};
use tidemill_lineproto::ColumnType;

/// Column with the place in the log of each row, `UInt64` without nulls; never part of an answer.
pub const CHUNK_ORDER_COLUMN: &str = "__chunk_order";

/// The columns of a file of some table: tags in the order of the series key, time, fields in order of creation, and
/// [`CHUNK_ORDER_COLUMN`]. A column that no row has a value of is left out, so that wide tables with sparse rows cost
/// what their rows have.
///
/// Columns have the catalog's names, which never change, and their id + 1 as the field id that Parquet knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSchema {
    arrow: SchemaRef,
    columns: Vec<(ColumnId, ColumnType)>,
    tag_count: usize,
}

impl FileSchema {
    /// The columns of `table` that `present` says are there; time always is.
    pub fn new(table: &Table, present: impl Fn(ColumnId) -> bool) -> Self {
        let is_field = |column: &&Column| !matches!(column.column_type, ColumnType::Tag | ColumnType::Time);
        let tags = table.tags().filter(|column| present(column.id));
        let fields = table
            .columns
            .iter()
            .filter(is_field)
            .filter(|column| present(column.id));
        let time = std::iter::once(table.time_column());
        let ordered: Vec<&Column> = tags.chain(time).chain(fields).collect();

        let chunk_order = Field::new(CHUNK_ORDER_COLUMN, DataType::UInt64, false);
        let arrow_fields: Vec<Field> = ordered
            .iter()
            .map(|column| arrow_field(column))
            .chain([chunk_order])
            .collect();
        let columns: Vec<_> = ordered
            .iter()
            .map(|column| (column.id, column.column_type))
            .collect();
        let tag_count = columns
            .iter()
            .filter(|(_, kind)| *kind == ColumnType::Tag)
            .count();
        Self {
            arrow: Arc::new(Schema::new(arrow_fields)),
            columns,
            tag_count,
        }
    }

    /// As Arrow has it.
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    /// How many of the first columns identify a point: the tags and time.
    pub fn key_columns(&self) -> usize {
        self.tag_count + 1
    }

    /// The table's columns in the order of the file; [`CHUNK_ORDER_COLUMN`], which comes after them, is none.
    pub fn columns(&self) -> &[(ColumnId, ColumnType)] {
        &self.columns
    }
}

fn arrow_field(column: &Column) -> Field {
    let is_nullable = column.column_type != ColumnType::Time;
    let field_id = (u32::from(column.id.0) + 1).to_string();
    Field::new(&*column.name, column.column_type.arrow_type(), is_nullable)
        .with_metadata(HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), field_id)]))
}
