//! System tables about the server and what it stores. Those that show the catalog are made by the query engine.

mod compactions;
mod node;
mod storage;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_query::{SystemRows, SystemScan};

pub(crate) use compactions::CompactionTables;
pub(crate) use node::{NodeInfo, NodeTables};
pub(crate) use storage::StorageTables;

const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);

/// A schema of columns: name, type, and whether it has nulls.
fn schema(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    let field = |(name, data_type, nullable): &(&str, DataType, bool)| {
        Field::new(*name, data_type.clone(), *nullable)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

fn strings<T: AsRef<str>>(values: impl Iterator<Item = T>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<StringArray>())
}

fn numbers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn instants(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampNanosecondArray>())
}

/// The answer to a scan of one of `tables`, given all its columns.
fn answer(
    tables: Vec<(&'static str, SchemaRef)>,
    table: &str,
    scan: &SystemScan,
    columns: Vec<ArrayRef>,
) -> SystemRows {
    let schema = tables
        .into_iter()
        .find(|(name, _)| *name == table)
        .map(|(_, schema)| schema);
    let rows = schema
        .ok_or_else(|| format!("there is no table {table}"))
        .and_then(|schema| RecordBatch::try_new(schema, columns).map_err(|error| error.to_string()));
    scan.answer(rows)
}
