//! A node in memory, with a catalog, a log, two Parquet files, a snapshot and a dead letter.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use tidemill_backup::export::{Holds, LogSource, Node};
use tidemill_backup::verify::{FolderCheck, VerifyConfig, VerifyReport, verify};
use tidemill_catalog::{Catalog, ColumnId, DatabaseId, Limits, TableId};
use tidemill_ingest::{Commit, record};
use tidemill_lineproto::ColumnType;
use tidemill_store::{DataFile, Edit, Effort, Manifest, RowDelete, SeriesOfRows, TableBatch};
use tidemill_wal::{Lsn, Record, WalError, encode_segment, segment_file_name};

/// Everything up to here is in files.
pub(crate) const SNAPSHOT: u64 = 20;
/// The last record of the log.
pub(crate) const LOG_LAST: u64 = 25;

/// A node, and what a server that runs it would know.
pub(crate) struct TestNode {
    pub(crate) objects: Arc<InMemory>,
    pub(crate) manifest: Manifest,
    pub(crate) catalog: Catalog,
    pub(crate) log: Arc<TestLog>,
}

/// The log of a node that runs: records from `first` on.
pub(crate) struct TestLog {
    pub(crate) first: u64,
    pub(crate) records: Vec<Vec<u8>>,
    /// Whoever has it too keeps the records.
    pub(crate) hold: Arc<()>,
    /// Where the trigger stands that has the most to read.
    pub(crate) oldest_reader: u64,
}

impl LogSource for TestLog {
    fn durable(&self) -> Lsn {
        Lsn(self.first + self.records.len() as u64 - 1)
    }

    fn read_by_all(&self) -> Lsn {
        Lsn(self.oldest_reader)
    }

    fn read(&self, after: Lsn, until: Lsn, bytes_max: usize) -> Result<Vec<(Lsn, Vec<u8>)>, WalError> {
        assert!(Arc::strong_count(&self.hold) > 1, "it is read while it is held");
        let mut records = Vec::new();
        let mut bytes = 0;
        for lsn in after.0 + 1..=until.0 {
            let record = &self.records[(lsn - self.first) as usize];
            bytes += record.len();
            if bytes > bytes_max && !records.is_empty() {
                break;
            }
            records.push((Lsn(lsn), record.clone()));
        }
        Ok(records)
    }
}

impl TestNode {
    /// A node of that name, as it is on disk while its server runs.
    pub(crate) async fn new(node_id: &str) -> Self {
        let objects = Arc::new(InMemory::new());
        let store = Arc::clone(&objects) as Arc<dyn ObjectStore>;
        let catalog = Catalog::open(Arc::clone(&store), node_id, Limits::default())
            .await
            .unwrap();
        let (database, table) = catalog
            .transact(|transaction| {
                let database = transaction.create_database("d", None)?;
                let columns = [("host", ColumnType::Tag), ("v", ColumnType::Float)];
                let columns = columns.map(|(name, column_type)| (name.to_owned(), column_type));
                let table = transaction.create_table(database, "cpu", columns.to_vec())?;
                Ok((database, table))
            })
            .await
            .unwrap();
        let manifest = Manifest::open(Arc::clone(&store), node_id).await.unwrap();
        let progress = format!("{node_id}/snapshots/{SNAPSHOT:020}.progress");
        store
            .put(&Path::from(&*progress), "progress".into())
            .await
            .unwrap();
        let mut edits = vec![Edit::Snapshot {
            lsn: SNAPSHOT,
            progress: Some(progress.into()),
        }];
        for (lsns, times) in [(1..11, 0..1000), (11..21, 500..1500)] {
            let file = put_file(&store, &manifest, node_id, (database, table), lsns, times).await;
            edits.push(Edit::AddFile(file));
        }
        edits.push(Edit::AddDelete(RowDelete {
            lsn: 22,
            database,
            table,
            time_first: 100,
            time_last: 200,
            conditions: Vec::new(),
        }));
        manifest.commit(edits).await.unwrap();
        let letter = format!("{node_id}/dead_letters/1/1/run");
        store.put(&Path::from(letter), "letter".into()).await.unwrap();

        // A trigger has still to read records from 18 on.
        let first = 16;
        let records: Vec<Vec<u8>> = (first..=LOG_LAST).map(|lsn| commit(table, lsn as i64)).collect();
        for part in [first..20, 20..LOG_LAST + 1] {
            let payloads = part
                .clone()
                .map(|lsn| Record::new(records[(lsn - first) as usize].clone()));
            let payloads: Vec<Record> = payloads.map(Result::unwrap).collect();
            let path = Path::from(node_id)
                .join("wal")
                .join(segment_file_name(Lsn(part.start)));
            store
                .put(&path, encode_segment(Lsn(part.start), &payloads).into())
                .await
                .unwrap();
        }
        let log = TestLog {
            first,
            records,
            hold: Arc::default(),
            oldest_reader: 17,
        };
        Self {
            objects,
            manifest,
            catalog,
            log: Arc::new(log),
        }
    }

    /// It as a backup takes it.
    pub(crate) fn source(&self, node_id: &str) -> Node {
        let manifest = self.manifest.clone();
        Node {
            objects: Arc::clone(&self.objects) as Arc<dyn ObjectStore>,
            node_id: node_id.to_owned(),
            manifest: Arc::new(move || manifest.state()),
            log: Arc::clone(&self.log) as Arc<dyn LogSource>,
            folders: vec![Path::from("dead_letters")],
        }
    }

    /// What a server holds while it is backed up.
    pub(crate) fn holds(&self) -> Holds {
        Holds {
            log: Box::new(Arc::clone(&self.log.hold)),
            folders: Box::new(()),
        }
    }
}

/// A record with one row.
fn commit(table: TableId, time: i64) -> Vec<u8> {
    let tags: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::new(
        Int32Array::from(vec![0]),
        Arc::new(StringArray::from(vec!["a"])),
    ));
    let batch = TableBatch {
        table,
        series: SeriesOfRows::compute(&[(ColumnId(0), &tags)], vec![0], &[0]),
        columns: vec![
            (ColumnId(0), tags),
            (ColumnId(2), Arc::new(TimestampNanosecondArray::from(vec![time]))),
        ],
        row_count: 1,
        time_column: ColumnId(2),
        time_min: time,
        time_max: time,
    };
    record::encode(&Commit {
        tables: vec![Arc::new(batch)],
        time_ns: time,
        ..Commit::default()
    })
}

/// Rows of two hosts, one an instant each.
pub(crate) fn rows(lsns: &Range<u64>, times: &Range<i64>) -> RecordBatch {
    let each: Vec<(i32, i64)> = (0..2)
        .flat_map(|host| times.clone().map(move |time| (host, time)))
        .collect();
    let hosts = DictionaryArray::<Int32Type>::new(
        each.iter().map(|(host, _)| *host).collect::<Int32Array>(),
        Arc::new(StringArray::from(vec!["a", "b"])),
    );
    let times: TimestampNanosecondArray = each.iter().map(|(_, time)| *time).collect::<Vec<_>>().into();
    let values: Float64Array = each.iter().map(|(_, time)| Some(*time as f64)).collect();
    let places: UInt64Array = (0..each.len() as u64)
        .map(|row| lsns.start + row % (lsns.end - lsns.start))
        .collect::<Vec<_>>()
        .into();
    let columns: [(&str, ArrayRef); 4] = [
        ("host", Arc::new(hosts)),
        ("time", Arc::new(times)),
        ("v", Arc::new(values)),
        ("__chunk_order", Arc::new(places)),
    ];
    RecordBatch::try_from_iter_with_nullable(
        columns.map(|(name, column)| (name, Arc::clone(&column) as ArrayRef, column.is_nullable())),
    )
    .unwrap()
}

/// The bytes of a file with these rows.
pub(crate) fn parquet(rows: &RecordBatch) -> Bytes {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), None).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
    bytes.into()
}

async fn put_file(
    store: &Arc<dyn ObjectStore>,
    manifest: &Manifest,
    node_id: &str,
    (database, table): (DatabaseId, TableId),
    lsns: Range<u64>,
    times: Range<i64>,
) -> DataFile {
    let rows = rows(&lsns, &times);
    let bytes = parquet(&rows);
    let id = manifest.allocate_file_id();
    let path = format!("{node_id}/data/{table}/{id}.parquet");
    store
        .put(&Path::from(&*path), bytes.clone().into())
        .await
        .unwrap();
    DataFile {
        id,
        database,
        table,
        path: path.into(),
        byte_size: bytes.len() as u64,
        checksum: crc_fast::crc32_iscsi(&bytes),
        row_count: rows.num_rows() as u64,
        time_min: times.start,
        time_max: times.end - 1,
        lsn_first: lsns.start,
        lsn_last: lsns.end - 1,
        deletes_through: 0,
        effort: Effort::High,
        tail: None,
    }
}

/// Checks what a node has stored.
pub(crate) async fn check(objects: &Arc<dyn ObjectStore>, node_id: &str) -> VerifyReport {
    let config = VerifyConfig {
        log_in_files: true,
        check_progress: |bytes| {
            (bytes == b"progress")
                .then_some(())
                .ok_or_else(|| "it is none".to_owned())
        },
        folders: vec![FolderCheck {
            name: "dead_letters",
            content: "dead letters",
            consequence: "its batch is lost",
            check: |_, bytes| {
                (bytes == b"letter")
                    .then_some(())
                    .ok_or_else(|| "it is none".to_owned())
            },
        }],
        other_names: vec!["unfinished_restore".to_owned()],
    };
    verify(Arc::clone(objects), node_id, &config, &mut |_| {})
        .await
        .unwrap()
}
