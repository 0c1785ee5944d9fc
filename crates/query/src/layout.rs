//! The columns of a table as SQL sees them.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use tidemill_catalog::{ColumnId, Table};
use tidemill_lineproto::ColumnType;

/// Field metadata that clients build points from; the value is [`ColumnType::iox_name`].
const COLUMN_TYPE_KEY: &str = "iox::column::type";

/// A table's columns in the order of `SELECT *`: by name, `time` among them.
#[derive(Debug)]
pub(crate) struct TableLayout {
    schema: SchemaRef,
    columns: Vec<LayoutColumn>,
    /// By the identity of a column, which is its place in the catalog's list.
    positions: Vec<usize>,
    key_columns: Vec<usize>,
    time: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct LayoutColumn {
    pub(crate) id: ColumnId,
    pub(crate) column_type: ColumnType,
}

impl TableLayout {
    pub(crate) fn new(table: &Table) -> Self {
        let mut sorted: Vec<_> = table.columns.iter().collect();
        sorted.sort_unstable_by(|a, b| a.name.cmp(&b.name));

        let fields: Vec<Field> = sorted
            .iter()
            .map(|column| {
                let nullable = column.column_type != ColumnType::Time;
                let metadata = HashMap::from([(
                    COLUMN_TYPE_KEY.to_owned(),
                    column.column_type.iox_name().to_owned(),
                )]);
                Field::new(&*column.name, column.column_type.arrow_type(), nullable).with_metadata(metadata)
            })
            .collect();
        let columns: Vec<LayoutColumn> = sorted
            .iter()
            .map(|column| LayoutColumn {
                id: column.id,
                column_type: column.column_type,
            })
            .collect();
        let mut positions = vec![0; columns.len()];
        for (position, column) in columns.iter().enumerate() {
            positions[usize::from(column.id.0)] = position;
        }
        let position = |id: ColumnId| positions[usize::from(id.0)];
        let time = position(table.time_column().id);
        let key_columns = table.tags().map(|tag| position(tag.id)).chain([time]).collect();
        Self {
            schema: Arc::new(Schema::new(fields)),
            columns,
            positions,
            key_columns,
            time,
        }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn column(&self, position: usize) -> LayoutColumn {
        self.columns[position]
    }

    /// The position of a column; `None` if the table has none of this identity.
    pub(crate) fn position(&self, id: ColumnId) -> Option<usize> {
        self.positions.get(usize::from(id.0)).copied()
    }

    /// The positions of what identifies a point: all tags in the order of the series key, then `time`.
    pub(crate) fn key_columns(&self) -> &[usize] {
        &self.key_columns
    }

    pub(crate) fn time(&self) -> usize {
        self.time
    }

    /// The position of a column that is part of the key.
    pub(crate) fn key_column(&self, name: &str) -> Option<usize> {
        let position = self.schema.index_of(name).ok()?;
        self.key_columns.contains(&position).then_some(position)
    }

    /// The schema of some of the columns.
    pub(crate) fn project(&self, positions: &[usize]) -> SchemaRef {
        let fields = self.schema.fields();
        Arc::new(Schema::new(
            positions
                .iter()
                .map(|&position| Arc::clone(&fields[position]))
                .collect::<Vec<_>>(),
        ))
    }
}
