//! Parsed columns turned back into rows, to be compared and read.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType, UInt64Type};
use tidemill_lineproto::{ColumnType, ParsedBody, ParsedTable};

/// A field value, rendered with the suffixes and quotes of line protocol; floats as Rust prints them.
pub(crate) type FieldText = String;

/// One row, with nothing that depends on how it was spelled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    pub(crate) line_number: usize,
    pub(crate) table: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) fields: BTreeMap<String, FieldText>,
    pub(crate) time_ns: i64,
}

/// All rows in the order of the lines.
pub(crate) fn rows(parsed: &ParsedBody) -> Vec<Row> {
    let mut rows: Vec<Row> = parsed.tables.iter().flat_map(table_rows).collect();
    rows.sort_by_key(|row| row.line_number);
    rows
}

fn table_rows(table: &ParsedTable) -> impl Iterator<Item = Row> {
    (0..table.row_count).map(|index| {
        let mut row = Row {
            line_number: table.line_numbers[index] as usize,
            table: table.name.clone(),
            tags: BTreeMap::new(),
            fields: BTreeMap::new(),
            time_ns: 0,
        };
        for column in &table.columns {
            if column.array.is_null(index) {
                continue;
            }
            match column.column_type {
                ColumnType::Time => {
                    row.time_ns = column
                        .array
                        .as_primitive::<TimestampNanosecondType>()
                        .value(index);
                }
                ColumnType::Tag => {
                    row.tags
                        .insert(column.name.clone(), tag_value(&column.array, index));
                }
                _ => {
                    let text = field_text(column.column_type, &column.array, index);
                    assert!(
                        row.fields.insert(column.name.clone(), text).is_none(),
                        "one value a name"
                    );
                }
            }
        }
        row
    })
}

fn tag_value(array: &ArrayRef, index: usize) -> String {
    let dictionary = array.as_dictionary::<Int32Type>();
    let key = dictionary.keys().value(index) as usize;
    dictionary.values().as_string::<i32>().value(key).to_owned()
}

fn field_text(column_type: ColumnType, array: &ArrayRef, index: usize) -> FieldText {
    match column_type {
        ColumnType::Float => format!("{:?}", array.as_primitive::<Float64Type>().value(index)),
        ColumnType::Integer => format!("{}i", array.as_primitive::<Int64Type>().value(index)),
        ColumnType::UInteger => format!("{}u", array.as_primitive::<UInt64Type>().value(index)),
        ColumnType::Boolean => array.as_boolean().value(index).to_string(),
        ColumnType::String => format!("{:?}", array.as_string::<i32>().value(index)),
        ColumnType::Tag | ColumnType::Time => unreachable!("not a field"),
    }
}

/// The whole of `parsed` as text: each table with its columns and, line by line, its rows; then the errors.
pub(crate) fn render(parsed: &ParsedBody) -> String {
    let mut lines = Vec::new();
    for table in &parsed.tables {
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|column| format!("{} {}", column.name, column.column_type.schema_name()))
            .collect();
        lines.push(format!("{}: {}", table.name, columns.join(", ")));
        for index in 0..table.row_count {
            let values: Vec<String> = table
                .columns
                .iter()
                .map(|column| match (column.column_type, column.array.is_null(index)) {
                    (_, true) => "-".to_owned(),
                    (ColumnType::Tag, _) => tag_value(&column.array, index),
                    (ColumnType::Time, _) => column
                        .array
                        .as_primitive::<TimestampNanosecondType>()
                        .value(index)
                        .to_string(),
                    (field, _) => field_text(field, &column.array, index),
                })
                .collect();
            lines.push(format!(
                "  {}: {} (set {})",
                table.line_numbers[index],
                values.join(", "),
                table.tag_set_of_row[index]
            ));
        }
    }
    for error in &parsed.errors {
        lines.push(format!(
            "error {}: {} | {}",
            error.line_number, error.message, error.original_line
        ));
    }
    lines.join("\n")
}
