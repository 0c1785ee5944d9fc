//! A node with one table: what is written becomes files at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Float64Array, Int64Array, RecordBatch,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use tidemill_catalog::{Catalog, ColumnId, Limits, Table, TableId};
use tidemill_lineproto::ColumnType;
use tidemill_store::compaction::{CompactionPolicy, Compactor};
use tidemill_store::{
    DataFile, Edit, Effort, FileSchema, FileStore, FileStoreConfig, RowDelete, Storage, StoreConfig,
    TableFiles, TagCondition, WriteSpec, merge_sorted, scan_file, write_file,
};

/// Host and time.
pub(crate) type Point = (u8, i64);
/// `load` and `count`.
pub(crate) type Fields = (Option<i8>, Option<i8>);
pub(crate) type Rows = BTreeMap<Point, Fields>;

/// Adds what was written later.
pub(crate) fn overwrite(rows: &mut Rows, written: &Rows) {
    for (point, fields) in written {
        let present = rows.entry(*point).or_default();
        present.0 = fields.0.or(present.0);
        present.1 = fields.1.or(present.1);
    }
}

pub(crate) async fn catalog(retention_ns: Option<u64>) -> (Arc<Catalog>, TableId) {
    let catalog = Catalog::open(Arc::new(InMemory::new()), "node", Limits::default())
        .await
        .unwrap();
    let columns = [
        ("host", ColumnType::Tag),
        ("load", ColumnType::Float),
        ("count", ColumnType::Integer),
    ];
    let columns = columns
        .iter()
        .map(|(name, kind)| ((*name).to_owned(), *kind))
        .collect();
    let table = catalog
        .transact(|transaction| {
            let database = transaction.create_database("db", retention_ns)?;
            transaction.create_table(database, "t", columns)
        })
        .await
        .unwrap();
    (Arc::new(catalog), table)
}

pub(crate) struct Node {
    pub(crate) storage: Arc<Storage>,
    pub(crate) compactor: Compactor,
    table: Arc<Table>,
}

impl Node {
    pub(crate) async fn open(
        objects: Arc<dyn ObjectStore>,
        catalog: &Arc<Catalog>,
        table: TableId,
        policy: CompactionPolicy,
    ) -> Self {
        let opened = Storage::open(
            StoreConfig::default(),
            FileStoreConfig::default(),
            objects,
            "node",
        )
        .await;
        let storage = Arc::new(opened.unwrap());
        let compactor = Compactor::new(Arc::clone(&storage), Arc::clone(catalog), policy);
        let table = Arc::clone(catalog.state().table_by_id(table).unwrap());
        Self {
            storage,
            compactor,
            table,
        }
    }

    fn column(&self, name: &str) -> ColumnId {
        self.table.column(name).unwrap().id
    }

    /// A file with these rows, and the deletes that files await, become known to the manifest.
    pub(crate) async fn snapshot(&self, rows: &Rows, lsn: u64, deletes: &[Arc<RowDelete>]) {
        let schema = FileSchema::new(&self.table, |_| true);
        let hosts: DictionaryArray<Int32Type> = rows
            .keys()
            .map(|(host, _)| Some(host.to_string()))
            .collect::<Vec<_>>()
            .iter()
            .map(|host| host.as_deref())
            .collect();
        let times: TimestampNanosecondArray = rows.keys().map(|(_, time)| Some(*time)).collect();
        let loads: Float64Array = rows.values().map(|fields| fields.0.map(f64::from)).collect();
        let counts: Int64Array = rows.values().map(|fields| fields.1.map(i64::from)).collect();
        let orders = UInt64Array::from(vec![lsn; rows.len()]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(hosts),
            Arc::new(times),
            Arc::new(loads),
            Arc::new(counts),
            Arc::new(orders),
        ];
        let batch = RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap();
        let spec = WriteSpec {
            table: &self.table,
            path_prefix: &Path::from("node/files"),
            node_id: "node",
            lsn_first: lsn,
            lsn_last: lsn,
            deletes_through: lsn,
            effort: Effort::Low,
        };
        let rows = futures::stream::iter([Ok(batch)]).boxed();
        let allocate = || self.storage.manifest().allocate_file_id();
        let file = write_file(self.storage.files(), &spec, rows, allocate)
            .await
            .unwrap();
        let mut edits: Vec<Edit> = deletes
            .iter()
            .map(|delete| Edit::AddDelete((**delete).clone()))
            .collect();
        edits.extend(file.map(Edit::AddFile));
        self.storage.commit(edits).await.unwrap();
    }

    pub(crate) fn row_delete(&self, lsn: u64, host: Option<u8>, (first, last): (i64, i64)) -> Arc<RowDelete> {
        let condition = |host: u8| TagCondition {
            column: self.column("host"),
            negated: false,
            values: vec![host.to_string().into()],
        };
        Arc::new(RowDelete {
            lsn,
            database: self.table.database_id,
            table: self.table.id,
            time_first: first,
            time_last: last,
            conditions: host.map(condition).into_iter().collect(),
        })
    }

    pub(crate) fn files(&self) -> TableFiles {
        self.storage.store().files_of(self.table.id)
    }

    pub(crate) async fn rows(&self) -> Rows {
        self.rows_of(&self.files(), self.storage.files()).await
    }

    /// What a query would answer from these files.
    pub(crate) async fn rows_of(&self, list: &TableFiles, files: &Arc<FileStore>) -> Rows {
        let schema = FileSchema::new(&self.table, |_| true);
        let scan =
            |file: &Arc<DataFile>| scan_file(files, file, Arc::clone(schema.arrow()), None, &list.deletes);
        let inputs = list.files.iter().map(scan).collect();
        let merged = merge_sorted(Arc::clone(schema.arrow()), schema.key_columns(), inputs);
        let batches: Vec<RecordBatch> = merged.try_collect().await.unwrap();
        let mut rows = Rows::new();
        for batch in batches {
            let hosts = batch.column(0).as_dictionary::<Int32Type>();
            let names = hosts.values().as_string::<i32>();
            let times = batch.column(1).as_primitive::<TimestampNanosecondType>();
            let loads = batch.column(2).as_primitive::<Float64Type>();
            let counts = batch.column(3).as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                let host = names.value(hosts.key(row).unwrap()).parse().unwrap();
                let load = loads.is_valid(row).then(|| loads.value(row) as i8);
                let count = counts.is_valid(row).then(|| counts.value(row) as i8);
                let before = rows.insert((host, times.value(row)), (load, count));
                assert_eq!(before, None, "a point occurs once");
            }
        }
        rows
    }

    /// Files that overlap in time are apart in the log; the manifest knows the same files.
    pub(crate) fn check_files(&self) {
        let files = self.files().files;
        for (place, a) in files.iter().enumerate() {
            for b in &files[place + 1..] {
                assert!(
                    !(a.overlaps_in_time(b) && a.overlaps_in_log(b)),
                    "{a:?} and {b:?}"
                );
            }
        }
        let mut ids: Vec<_> = files.iter().map(|file| file.id).collect();
        ids.sort_unstable();
        let state = self.storage.manifest().state();
        assert_eq!(ids, state.files().map(|file| file.id).collect::<Vec<_>>());
    }
}
