//! `parquet_files` of a database; `storage` of all, and `log`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, SchemaRef};
use tidemill_catalog::{Catalog, Database, INTERNAL_DATABASE, Table};
use tidemill_ingest::Ingest;
use tidemill_query::{SystemRows, SystemScan, SystemTables};
use tidemill_store::{DataFile, TableSnapshot};

use super::{TIMESTAMP, answer, instants, numbers, schema, strings};

const PARQUET_FILES: &str = "parquet_files";
const STORAGE: &str = "storage";
const LOG: &str = "log";

/// `parquet_files` in every database, `storage` and `log` in `_internal`.
pub(crate) struct StorageTables {
    catalog: Arc<Catalog>,
    ingest: Arc<Ingest>,
}

impl StorageTables {
    pub(crate) fn new(catalog: Arc<Catalog>, ingest: Arc<Ingest>) -> Self {
        Self { catalog, ingest }
    }

    /// One row a file, those of deleted tables too: they are there until they are removed for good.
    fn parquet_files(&self, database: &str) -> Vec<ArrayRef> {
        let state = self.catalog.state();
        let tables = state
            .database(database)
            .into_iter()
            .flat_map(|database| database.tables());
        let files: Vec<(&Table, Arc<DataFile>)> = tables
            .flat_map(|table| {
                let files = self.ingest.store().scan(table.id).files;
                let of_table = |file: &Arc<DataFile>| (&**table, Arc::clone(file));
                files.iter().map(of_table).collect::<Vec<_>>()
            })
            .collect();
        vec![
            strings(files.iter().map(|(table, _)| &table.name)),
            strings(files.iter().map(|(_, file)| &file.path)),
            numbers(files.iter().map(|(_, file)| file.byte_size)),
            numbers(files.iter().map(|(_, file)| file.row_count)),
            instants(files.iter().map(|(_, file)| Some(file.time_min))),
            instants(files.iter().map(|(_, file)| Some(file.time_max))),
        ]
    }

    /// One row: how far the log goes, up to where everything is in files, and what of it is kept.
    fn log(&self) -> Vec<ArrayRef> {
        let newest = self.ingest.committed().borrow().0;
        let stats = self.ingest.stats();
        [
            newest,
            stats.snapshot_lsn,
            stats.log_bytes,
            stats.log_segments,
            stats.log_replay_bytes,
            stats.log_backlog_bytes,
        ]
        .map(|number| numbers(std::iter::once(number)))
        .to_vec()
    }

    /// One row a table.
    fn storage(&self) -> Vec<ArrayRef> {
        let state = self.catalog.state();
        let mut tables: Vec<(&Database, &Table, TableSnapshot)> = Vec::new();
        for database in state.databases() {
            for table in database.tables() {
                tables.push((database, table, self.ingest.store().scan(table.id)));
            }
        }
        let of_files = |value: fn(&DataFile) -> u64| {
            numbers(
                tables
                    .iter()
                    .map(|(_, _, data)| data.files.iter().map(|file| value(file)).sum()),
            )
        };
        let of_snapshot = |value: fn(&TableSnapshot) -> usize| {
            numbers(tables.iter().map(|(_, _, data)| value(data) as u64))
        };
        let deleted: BooleanArray = tables
            .iter()
            .map(|(_, table, _)| Some(table.deleted.is_some()))
            .collect();
        vec![
            strings(tables.iter().map(|(database, _, _)| &database.name)),
            strings(tables.iter().map(|(_, table, _)| &table.name)),
            Arc::new(deleted),
            of_snapshot(|data| data.row_count),
            of_snapshot(|data| data.byte_size),
            of_snapshot(|data| data.files.len()),
            of_files(|file| file.row_count),
            of_files(|file| file.byte_size),
            of_snapshot(|data| data.deletes.len()),
            instants(tables.iter().map(|(_, _, data)| times(data).map(|times| times.0))),
            instants(tables.iter().map(|(_, _, data)| times(data).map(|times| times.1))),
        ]
    }
}

/// The least and the greatest time of rows that are there, deleted ones in files included.
fn times(data: &TableSnapshot) -> Option<(i64, i64)> {
    let of_files = data.files.iter().map(|file| (file.time_min, file.time_max));
    let of_batches = data.batches.iter().map(|batch| (batch.time_min, batch.time_max));
    of_files
        .chain(of_batches)
        .reduce(|first, second| (first.0.min(second.0), first.1.max(second.1)))
}

impl SystemTables for StorageTables {
    fn tables(&self, database: &str) -> Vec<(&'static str, SchemaRef)> {
        let mut tables = vec![(
            PARQUET_FILES,
            schema(&[
                ("table_name", DataType::Utf8, false),
                ("path", DataType::Utf8, false),
                ("size_bytes", DataType::UInt64, false),
                ("row_count", DataType::UInt64, false),
                ("min_time", TIMESTAMP, true),
                ("max_time", TIMESTAMP, true),
            ]),
        )];
        if database == INTERNAL_DATABASE {
            tables.push((
                STORAGE,
                schema(&[
                    ("database_name", DataType::Utf8, false),
                    ("table_name", DataType::Utf8, false),
                    ("deleted", DataType::Boolean, false),
                    ("buffer_rows", DataType::UInt64, false),
                    ("buffer_bytes", DataType::UInt64, false),
                    ("file_count", DataType::UInt64, false),
                    ("file_rows", DataType::UInt64, false),
                    ("file_bytes", DataType::UInt64, false),
                    ("pending_deletes", DataType::UInt64, false),
                    ("min_time", TIMESTAMP, true),
                    ("max_time", TIMESTAMP, true),
                ]),
            ));
            let numbers = [
                "newest_position",
                "snapshot_position",
                "log_bytes",
                "log_segments",
                "replay_bytes",
                "backlog_bytes",
            ];
            tables.push((LOG, schema(&numbers.map(|name| (name, DataType::UInt64, false)))));
        }
        tables
    }

    fn scan(&self, database: &str, table: &str, scan: SystemScan) -> SystemRows {
        let columns = match table {
            PARQUET_FILES => self.parquet_files(database),
            STORAGE => self.storage(),
            LOG => self.log(),
            _ => Vec::new(),
        };
        answer(self.tables(database), table, &scan, columns)
    }
}
