//! `compactions`: what compaction did lately.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, SchemaRef};
use tidemill_catalog::{Catalog, INTERNAL_DATABASE};
use tidemill_query::{SystemRows, SystemScan, SystemTables};
use tidemill_store::compaction::{CompactionRecord, Compactor};

use super::{TIMESTAMP, answer, instants, numbers, schema, strings};

const COMPACTIONS: &str = "compactions";

/// A table in every database, of its own tables; in `_internal` of all.
pub(crate) struct CompactionTables {
    catalog: Arc<Catalog>,
    compactor: Arc<Compactor>,
}

impl CompactionTables {
    pub(crate) fn new(catalog: Arc<Catalog>, compactor: Arc<Compactor>) -> Self {
        Self { catalog, compactor }
    }

    /// One row a job, in the order in which they were done. Tables and databases that were forgotten meanwhile have their
    /// numbers for names.
    fn compactions(&self, database: &str) -> Vec<ArrayRef> {
        let state = self.catalog.state();
        let database_name = |record: &CompactionRecord| match state.database_by_id(record.database) {
            Some(database) => database.name.to_string(),
            None => record.database.to_string(),
        };
        let table_name = |record: &CompactionRecord| match state.table_by_id(record.table) {
            Some(table) => table.name.to_string(),
            None => record.table.to_string(),
        };
        let mut records = self.compactor.history();
        records.retain(|record| database == INTERNAL_DATABASE || database_name(record) == database);
        records.sort_by_key(|record| record.finished_ns);
        let of_records = |value: fn(&CompactionRecord) -> u64| numbers(records.iter().map(value));
        vec![
            instants(records.iter().map(|record| Some(record.finished_ns))),
            strings(records.iter().map(database_name)),
            strings(records.iter().map(table_name)),
            strings(records.iter().map(|record| record.reason.as_str())),
            of_records(|record| record.files_in),
            of_records(|record| record.files_out),
            of_records(|record| record.bytes_in),
            of_records(|record| record.bytes_out),
            of_records(|record| record.rows_in),
            of_records(|record| record.rows_out),
            of_records(|record| u64::try_from(record.duration.as_nanos()).unwrap_or(u64::MAX)),
        ]
    }
}

impl SystemTables for CompactionTables {
    fn tables(&self, _database: &str) -> Vec<(&'static str, SchemaRef)> {
        vec![(
            COMPACTIONS,
            schema(&[
                ("finished_at", TIMESTAMP, false),
                ("database_name", DataType::Utf8, false),
                ("table_name", DataType::Utf8, false),
                ("reason", DataType::Utf8, false),
                ("files_in", DataType::UInt64, false),
                ("files_out", DataType::UInt64, false),
                ("bytes_in", DataType::UInt64, false),
                ("bytes_out", DataType::UInt64, false),
                ("rows_in", DataType::UInt64, false),
                ("rows_out", DataType::UInt64, false),
                ("duration_ns", DataType::UInt64, false),
            ]),
        )]
    }

    fn scan(&self, database: &str, table: &str, scan: SystemScan) -> SystemRows {
        answer(self.tables(database), table, &scan, self.compactions(database))
    }
}
