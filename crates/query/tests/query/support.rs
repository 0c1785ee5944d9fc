//! A query engine over a real catalog and store, filled with line protocol.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::TimestampNanosecondType;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::arrow::util::pretty::pretty_format_batches_with_schema;
use datafusion::object_store::ObjectStore;
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use futures::{StreamExt, TryStreamExt};
use tidemill_catalog::{Catalog, ColumnId, Limits, TableId, Transaction};
use tidemill_lineproto::{ColumnType, ParseOptions, ParsedTable, Precision, parse};
use tidemill_query::{Params, QueryConfig, QueryEngine, QueryError, SystemTables};
use tidemill_store::{
    DataFile, Effort, FileId, FileStore, FileStoreConfig, RowDelete, SeriesOfRows, Store, StoreConfig,
    TableBatch, TableSnapshot, TagCondition, WriteSpec, sort_batches, write_file,
};

/// The database that everything is written to.
pub(crate) const DATABASE: &str = "db";

pub(crate) struct Fixture {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) store: Arc<Store>,
    pub(crate) files: Arc<FileStore>,
    pub(crate) engine: QueryEngine,
    /// Files are written as this version does, and not as those before.
    pub(crate) writes_checksums: bool,
    lsn: u64,
    next_file: u64,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(
            QueryConfig {
                threads: 2,
                ..QueryConfig::default()
            },
            Vec::new(),
        )
        .await
    }

    pub(crate) async fn with(config: QueryConfig, system: Vec<Arc<dyn SystemTables>>) -> Self {
        Self::over(Arc::new(InMemory::new()), config, system).await
    }

    /// With files in `objects`.
    pub(crate) async fn over(
        objects: Arc<dyn ObjectStore>,
        config: QueryConfig,
        system: Vec<Arc<dyn SystemTables>>,
    ) -> Self {
        let catalog = Catalog::open(Arc::new(InMemory::new()), "node0", Limits::default())
            .await
            .unwrap();
        catalog
            .transact(|transaction| transaction.create_database(DATABASE, None))
            .await
            .unwrap();
        let (catalog, store) = (Arc::new(catalog), Arc::new(Store::new(StoreConfig::default())));
        let files = Arc::new(FileStore::new(objects, FileStoreConfig::default()));
        let engine = QueryEngine::new(
            Arc::clone(&catalog),
            Arc::clone(&store),
            Arc::clone(&files),
            system,
            config,
        );
        Self {
            catalog,
            store,
            files,
            engine,
            writes_checksums: true,
            lsn: 0,
            next_file: 0,
        }
    }

    /// Commits lines, whose times are in nanoseconds, as one record.
    pub(crate) async fn write(&mut self, lines: &str) {
        let parsed = parse(lines, &ParseOptions::new(Precision::Nanosecond, 0));
        assert_eq!(parsed.errors, [], "{lines}");
        self.lsn += 1;
        for table in parsed.tables {
            let batch = self.table_batch(table).await;
            self.store.apply(self.lsn, &Arc::new(batch));
        }
    }

    /// The table of that name; it is created if it is missing.
    pub(crate) async fn table(&self, name: &str) -> TableId {
        let state = self.catalog.state();
        let database = state.database(DATABASE).unwrap();
        if let Some(table) = database.table(name) {
            return table.id;
        }
        let create = |transaction: &mut Transaction| transaction.create_table(database.id, name, Vec::new());
        self.catalog.transact(create).await.unwrap()
    }

    /// Makes files of all rows in memory, one a table.
    pub(crate) async fn flush(&mut self) {
        self.flush_cut(&[]).await;
    }

    /// Makes files of all rows in memory: of each table one for the rows before each of `cuts`, and one for the others.
    pub(crate) async fn flush_cut(&mut self, cuts: &[i64]) {
        let frozen = self.store.freeze(self.lsn);
        let mut installed: HashMap<TableId, Vec<Arc<DataFile>>> = HashMap::new();
        for rows in &frozen.tables {
            let state = self.catalog.state();
            let table = state.table_by_id(rows.table).unwrap();
            let batches = sort_batches(table, &rows.batches).unwrap();
            let places = rows.batches.iter().map(|batch| (batch.lsn_first, batch.lsn_last));
            let lsn_first = places.clone().map(|(first, _)| first).min().unwrap();
            let spec = WriteSpec {
                table,
                path_prefix: &Path::from("node0/files"),
                node_id: "node0",
                lsn_first,
                lsn_last: places.map(|(_, last)| last).max().unwrap(),
                deletes_through: frozen.lsn,
                effort: Effort::Low,
            };
            let mut first = i64::MIN;
            for last in cuts.iter().map(|cut| cut - 1).chain([i64::MAX]) {
                let part: Vec<RecordBatch> =
                    batches.iter().map(|batch| between(batch, first, last)).collect();
                let part = futures::stream::iter(part.into_iter().map(Ok)).boxed();
                let id = FileId(self.next_file);
                if let Some(mut file) = write_file(&self.files, &spec, part, || id).await.unwrap() {
                    file.tail = file.tail.filter(|_| self.writes_checksums);
                    installed.entry(rows.table).or_default().push(Arc::new(file));
                    self.next_file += 1;
                }
                first = last.saturating_add(1);
            }
        }
        self.store.install_snapshot(&installed);
    }

    /// Deletes rows of a table that has none in memory.
    pub(crate) async fn delete_in_files(
        &mut self,
        table: &str,
        times: (i64, i64),
        conditions: &[(&str, bool, &[&str])],
    ) {
        self.lsn += 1;
        let table = self.table(table).await;
        let state = self.catalog.state();
        let table = state.table_by_id(table).unwrap();
        let condition = |(tag, negated, values): &(&str, bool, &[&str])| TagCondition {
            column: table.column(tag).unwrap().id,
            negated: *negated,
            values: values.iter().map(|value| Arc::from(*value)).collect(),
        };
        self.store.await_delete(&Arc::new(RowDelete {
            lsn: self.lsn,
            database: table.database_id,
            table: table.id,
            time_first: times.0,
            time_last: times.1,
            conditions: conditions.iter().map(condition).collect(),
        }));
    }

    /// What the table consists of.
    pub(crate) async fn snapshot(&self, table: &str) -> TableSnapshot {
        let table = self.table(table).await;
        self.store.scan(table)
    }

    async fn table_batch(&self, parsed: ParsedTable) -> TableBatch {
        let table = self.table(&parsed.name).await;
        let is_time = |column_type| column_type == ColumnType::Time;
        let wanted: Vec<(String, ColumnType)> = parsed
            .columns
            .iter()
            .filter(|column| !is_time(column.column_type))
            .map(|column| (column.name.clone(), column.column_type))
            .collect();
        let mut ids = self
            .catalog
            .transact(|transaction| transaction.add_columns(table, wanted))
            .await
            .unwrap();
        let time_column = self.catalog.state().table_by_id(table).unwrap().time_column().id;
        ids.push(time_column);

        let columns: Vec<(ColumnId, ArrayRef)> = ids
            .into_iter()
            .zip(parsed.columns.iter().map(|column| Arc::clone(&column.array)))
            .collect();
        let tags: Vec<(ColumnId, &ArrayRef)> = columns
            .iter()
            .zip(&parsed.columns)
            .filter(|(_, column)| column.column_type == ColumnType::Tag)
            .map(|((id, array), _)| (*id, array))
            .collect();
        let series = SeriesOfRows::compute(&tags, parsed.tag_set_of_row, &parsed.tag_set_first_row);
        TableBatch {
            table,
            row_count: parsed.row_count,
            time_column,
            time_min: parsed.time_min,
            time_max: parsed.time_max,
            series,
            columns,
        }
    }

    pub(crate) async fn batches(&self, sql: &str, params: Params) -> Result<Vec<RecordBatch>, QueryError> {
        self.engine
            .sql(DATABASE, sql, params)
            .await?
            .batches
            .try_collect()
            .await
    }

    /// The answer as a table, or the error's text.
    pub(crate) async fn answer(&self, sql: &str, params: Params) -> String {
        let answer = async {
            let output = self.engine.sql(DATABASE, sql, params).await?;
            let schema = Arc::clone(&output.schema);
            let batches: Vec<RecordBatch> = output.batches.try_collect().await?;
            for batch in &batches {
                assert_eq!(batch.schema(), schema, "every batch has the announced schema");
            }
            Ok::<_, QueryError>(
                pretty_format_batches_with_schema(schema, &batches)
                    .unwrap()
                    .to_string(),
            )
        };
        answer.await.unwrap_or_else(|error| error.to_string())
    }

    /// Asserts what a query answers. Indentation of `expected` does not count.
    pub(crate) async fn check(&self, sql: &str, expected: &str) {
        self.check_with(sql, Params::new(), expected).await;
    }

    pub(crate) async fn check_with(&self, sql: &str, params: Params, expected: &str) {
        let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
        let answer = self.answer(sql, params).await;
        assert_eq!(
            answer.lines().map(str::trim_end).collect::<Vec<_>>(),
            expected,
            "{sql}\n{answer}"
        );
    }

    /// The physical plan.
    pub(crate) async fn plan(&self, sql: &str) -> String {
        self.answer(&format!("EXPLAIN FORMAT INDENT {sql}"), Params::new())
            .await
    }
}

/// The rows of a file's batch at some times.
fn between(batch: &RecordBatch, first: i64, last: i64) -> RecordBatch {
    let times = batch.column_by_name("time").unwrap();
    let times = times.as_primitive::<TimestampNanosecondType>().values();
    let mask: BooleanArray = times
        .iter()
        .map(|time| Some((first..=last).contains(time)))
        .collect();
    filter_record_batch(batch, &mask).unwrap()
}

/// The rows of an answer, each value as text; `-` stands for null.
pub(crate) fn rows(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let options = FormatOptions::new().with_null("-");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            rows.push(
                columns
                    .iter()
                    .map(|column| column.value(row).to_string())
                    .collect(),
            );
        }
    }
    rows
}
