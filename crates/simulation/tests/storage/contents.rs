//! Reading everything back, by nothing but the order of files and batches: no merge, no plan, no statistics.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType};
use futures::TryStreamExt;
use tidemill_catalog::Table;
use tidemill_lineproto::ColumnType;
use tidemill_store::{FileError, FileSchema, FileStore, TableSnapshot, scan_file};

use crate::model::{PointKey, Points};

/// The points of a table: file after file in log order, then the buffer, later fields over earlier ones.
pub(crate) async fn read_table(
    files: &Arc<FileStore>,
    table: &Table,
    snapshot: &TableSnapshot,
    points: &mut Points,
) -> Result<(), FileError> {
    let schema = FileSchema::new(table, |_| true);
    for file in snapshot.files.iter() {
        let rows = scan_file(files, file, Arc::clone(schema.arrow()), None, &snapshot.deletes);
        let batches: Vec<RecordBatch> = rows.try_collect().await?;
        for batch in &batches {
            let column = |name: &str| batch.column_by_name(name).cloned();
            overlay(table, column, batch.num_rows(), points);
        }
    }
    for batch in &snapshot.batches {
        let column = |name: &str| batch.column(table.column(name)?.id).cloned();
        overlay(table, column, batch.row_count, points);
    }
    Ok(())
}

fn overlay(table: &Table, column: impl Fn(&str) -> Option<ArrayRef>, row_count: usize, points: &mut Points) {
    let columns: Vec<(&str, ColumnType, ArrayRef)> = table
        .columns
        .iter()
        .filter_map(|known| Some((&*known.name, known.column_type, column(&known.name)?)))
        .collect();
    for row in 0..row_count {
        let mut tags = BTreeMap::new();
        let mut fields = BTreeMap::new();
        let mut time = None;
        for (name, kind, values) in &columns {
            match kind {
                ColumnType::Time => time = Some(values.as_primitive::<TimestampNanosecondType>().value(row)),
                ColumnType::Tag => {
                    let keys = values.as_dictionary::<Int32Type>();
                    if let Some(key) = keys.key(row) {
                        let value = keys.values().as_string::<i32>().value(key);
                        tags.insert((*name).to_owned(), value.to_owned());
                    }
                }
                _ if values.is_valid(row) => {
                    fields.insert((*name).to_owned(), values.as_primitive::<Int64Type>().value(row));
                }
                _ => {}
            }
        }
        let key = PointKey {
            table: table.name.to_string(),
            tags,
            time: time.expect("every row has a time"),
        };
        points.entry(key).or_default().extend(fields);
    }
}
