//! System tables that show the catalog.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_catalog::{Catalog, Database, Deletion, INTERNAL_DATABASE, Table};

use crate::system::{SystemRows, SystemScan, SystemTables};

const INFLUXDB_SCHEMA: &str = "influxdb_schema";
const DATABASES: &str = "databases";
const TABLES: &str = "tables";

/// `influxdb_schema` in every database; `databases` and `tables` in `_internal`.
pub(crate) struct CatalogTables {
    catalog: Arc<Catalog>,
}

impl CatalogTables {
    pub(crate) fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog }
    }

    /// One row for each column of each table that is not deleted.
    fn influxdb_schema(&self, database: &str) -> Vec<ArrayRef> {
        let state = self.catalog.state();
        let columns = || {
            let database = state.database(database);
            let tables = database.into_iter().flat_map(|database| database.tables());
            tables
                .filter(|table| table.deleted.is_none())
                .flat_map(|table| table.columns.iter().map(move |column| (table, column)))
        };
        vec![
            strings(columns().map(|(table, _)| &*table.name)),
            strings(columns().map(|(_, column)| &*column.name)),
            strings(columns().map(|(_, column)| column.column_type.schema_name())),
        ]
    }

    fn databases(&self) -> Vec<ArrayRef> {
        let state = self.catalog.state();
        let databases: Vec<&Arc<Database>> = state.databases().collect();
        let retention = databases.iter().map(|database| database.retention_ns);
        vec![
            strings(databases.iter().map(|database| &*database.name)),
            Arc::new(retention.collect::<UInt64Array>()),
            booleans(databases.iter().map(|database| database.deleted.is_some())),
            instants(
                databases
                    .iter()
                    .map(|database| hard_deletion(database.deleted.as_ref())),
            ),
        ]
    }

    fn tables(&self) -> Vec<ArrayRef> {
        let state = self.catalog.state();
        let tables: Vec<(&Arc<Database>, &Arc<Table>)> = state
            .databases()
            .flat_map(|database| database.tables().map(move |table| (database, table)))
            .collect();
        let series_key = |table: &Table| table.tags().map(|tag| &*tag.name).collect::<Vec<_>>().join(", ");
        let no_caches = || Arc::new(UInt64Array::from(vec![0; tables.len()]));
        vec![
            strings(tables.iter().map(|(database, _)| &*database.name)),
            strings(tables.iter().map(|(_, table)| &*table.name)),
            Arc::new(
                tables
                    .iter()
                    .map(|(_, table)| Some(table.columns.len() as u64))
                    .collect::<UInt64Array>(),
            ),
            strings(tables.iter().map(|(_, table)| series_key(table))),
            no_caches(),
            no_caches(),
            booleans(tables.iter().map(|(_, table)| table.deleted.is_some())),
            instants(
                tables
                    .iter()
                    .map(|(_, table)| hard_deletion(table.deleted.as_ref())),
            ),
            Arc::new(
                tables
                    .iter()
                    .map(|(database, table)| database.retention_of(table))
                    .collect::<UInt64Array>(),
            ),
        ]
    }
}

impl SystemTables for CatalogTables {
    fn tables(&self, database: &str) -> Vec<(&'static str, SchemaRef)> {
        let mut tables = vec![(
            INFLUXDB_SCHEMA,
            schema(&[
                ("measurement", DataType::Utf8, false),
                ("key", DataType::Utf8, false),
                ("data_type", DataType::Utf8, false),
            ]),
        )];
        if database == INTERNAL_DATABASE {
            let instant = DataType::Timestamp(TimeUnit::Nanosecond, None);
            tables.push((
                DATABASES,
                schema(&[
                    ("database_name", DataType::Utf8, false),
                    ("retention_period_ns", DataType::UInt64, true),
                    ("deleted", DataType::Boolean, false),
                    ("hard_deletion_time", instant.clone(), true),
                ]),
            ));
            tables.push((
                TABLES,
                schema(&[
                    ("database_name", DataType::Utf8, false),
                    ("table_name", DataType::Utf8, false),
                    ("column_count", DataType::UInt64, false),
                    ("series_key_columns", DataType::Utf8, false),
                    ("last_cache_count", DataType::UInt64, false),
                    ("distinct_cache_count", DataType::UInt64, false),
                    ("deleted", DataType::Boolean, false),
                    ("hard_deletion_time", instant, true),
                    // The one that is in effect: the table's own or that of its database.
                    ("retention_period_ns", DataType::UInt64, true),
                ]),
            ));
        }
        tables
    }

    fn scan(&self, database: &str, table: &str, scan: SystemScan) -> SystemRows {
        let known = SystemTables::tables(self, database);
        let schema = known
            .into_iter()
            .find(|(name, _)| *name == table)
            .map(|(_, schema)| schema);
        let columns = match table {
            INFLUXDB_SCHEMA => self.influxdb_schema(database),
            DATABASES => self.databases(),
            TABLES => self.tables(),
            _ => Vec::new(),
        };
        let rows = schema
            .ok_or_else(|| format!("there is no table {table}"))
            .and_then(|schema| RecordBatch::try_new(schema, columns).map_err(|error| error.to_string()));
        scan.answer(rows)
    }
}

fn schema(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    let field = |(name, data_type, nullable): &(&str, DataType, bool)| {
        Field::new(*name, data_type.clone(), *nullable)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

fn strings<T: AsRef<str>>(values: impl Iterator<Item = T>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<StringArray>())
}

fn booleans(values: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(BooleanArray::from(values.collect::<Vec<_>>()))
}

fn instants(values: impl Iterator<Item = Option<DateTime<Utc>>>) -> ArrayRef {
    let nanoseconds = values.map(|instant| instant.and_then(|instant| instant.timestamp_nanos_opt()));
    Arc::new(nanoseconds.collect::<TimestampNanosecondArray>())
}

fn hard_deletion(deletion: Option<&Deletion>) -> Option<DateTime<Utc>> {
    deletion.and_then(|deletion| deletion.hard_delete_at)
}
