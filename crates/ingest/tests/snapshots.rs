//! The way from the buffer to files, with the log behind it: what was acknowledged is there afterwards, in whichever
//! place; nothing grows beyond its limit; what fails is tried again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampNanosecondType};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::ObjectStore;
use proptest::prelude::*;
use tidemill_catalog::{Catalog, Limits, TableId, Transaction};
use tidemill_ingest::{
    Ingest, IngestConfig, Lsn, NameRule, ReadLimits, RunCommit, SnapshotConfig, SnapshotStep, StateChange,
    TableFilter, TriggerKey, TriggerProgress, WriteError, WriteRequest,
};
use tidemill_lineproto::Precision;
use tidemill_store::{FileSchema, FileStoreConfig, Storage, StoreConfig, scan_file};
use tidemill_testkit::{Fault, FaultyStore};
use tidemill_triggers::{Position, TriggerDefinition, TriggerSettings, TriggerSpec};
use tidemill_wal::{FileMedium, WalConfig, WalError};

const SECOND_NS: i64 = 1_000_000_000;

struct Node {
    objects: FaultyStore,
    folder: tempfile::TempDir,
    config: IngestConfig,
    ingest: Arc<Ingest>,
}

/// Everything becomes a file at once when it is asked for, and segments of the log are small.
fn config() -> IngestConfig {
    IngestConfig {
        wal: WalConfig {
            segment_bytes_max: 600,
            ..WalConfig::default()
        },
        tail_bytes_max: 1,
        snapshot: SnapshotConfig {
            room_wait_max: Duration::from_millis(50),
            ..SnapshotConfig::default()
        },
    }
}

impl Node {
    async fn start(config: IngestConfig) -> Self {
        let (objects, folder) = (FaultyStore::new(), tempfile::tempdir().unwrap());
        let ingest = open(&objects, folder.path(), &config).await;
        Self {
            objects,
            folder,
            config,
            ingest,
        }
    }

    /// Ends the write path and starts it again on what is there.
    async fn restart(self) -> Self {
        let Self {
            objects,
            folder,
            config,
            ingest,
        } = self;
        ingest.shutdown().await;
        drop(ingest);
        let ingest = open(&objects, folder.path(), &config).await;
        Self {
            objects,
            folder,
            config,
            ingest,
        }
    }

    async fn try_write(&self, lines: &str) -> Result<Option<Lsn>, WriteError> {
        let request = WriteRequest {
            database: "db".to_owned(),
            body: Bytes::copy_from_slice(lines.as_bytes()),
            precision: Precision::Nanosecond,
            accept_partial: false,
            no_sync: false,
            received_ns: 1,
            name_rule: NameRule::Strict,
            depth: 0,
        };
        self.ingest.write(request).await.map(|outcome| outcome.lsn)
    }

    async fn write(&self, lines: &str) -> Lsn {
        self.try_write(lines).await.unwrap().unwrap()
    }

    /// The points of table `m` with their field `v`, the last write of each: from files and from the buffer.
    async fn points(&self) -> BTreeMap<(String, i64), f64> {
        let state = self.ingest.catalog().state();
        let table = state.database("db").unwrap().table("m").unwrap();
        let storage = self.ingest.storage();
        let snapshot = storage.store().scan(table.id);
        let schema = FileSchema::new(table, |_| true);
        let mut points = BTreeMap::new();
        for file in &*snapshot.files {
            let rows = scan_file(
                storage.files(),
                file,
                Arc::clone(schema.arrow()),
                None,
                &snapshot.deletes,
            );
            for batch in rows.try_collect::<Vec<RecordBatch>>().await.unwrap() {
                let column = |name: &str| batch.column_by_name(name).unwrap();
                add_points(
                    column("host").as_ref(),
                    column("time").as_ref(),
                    column("v").as_ref(),
                    &mut points,
                );
            }
        }
        for batch in &snapshot.batches {
            let column = |name: &str| batch.column(table.column(name).unwrap().id).unwrap();
            add_points(column("host"), column("time"), column("v"), &mut points);
        }
        points
    }

    async fn snapshot(&self) -> SnapshotStep {
        self.ingest.snapshot_now(0).await
    }

    fn segments(&self) -> Vec<PathBuf> {
        let names = std::fs::read_dir(self.folder.path()).unwrap();
        let paths = names.map(|entry| entry.unwrap().path());
        let mut segments: Vec<PathBuf> = paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
            .collect();
        segments.sort();
        segments
    }

    /// The names of data files in the store, and of the triggers' progress.
    async fn objects(&self, part: &str) -> Vec<String> {
        let objects: Vec<_> = self.objects.memory().list(None).try_collect().await.unwrap();
        let mut names: Vec<String> = objects
            .into_iter()
            .map(|object| object.location.to_string())
            .filter(|name| name.contains(part))
            .collect();
        names.sort();
        names
    }

    /// Creates a data-write trigger that begins with the first record.
    async fn trigger(&self, name: &str, disabled: bool) -> TriggerKey {
        let definition = TriggerDefinition {
            trigger_id: 0,
            trigger_name: name.to_owned(),
            plugin_filename: "plugin.py".to_owned(),
            database_name: "db".to_owned(),
            spec: TriggerSpec::AllTables,
            settings: TriggerSettings::default(),
            arguments: None,
            disabled,
            disabled_reason: None,
            created_at_lsn: 0,
        };
        let catalog = self.ingest.catalog();
        let create = |transaction: &mut Transaction| transaction.create_trigger("db", definition);
        let trigger_id = catalog.transact(create).await.unwrap();
        TriggerKey {
            database: catalog.state().database("db").unwrap().id,
            trigger_id,
        }
    }

    async fn read_after(&self, lsn: u64) -> Result<Lsn, WriteError> {
        let limits = ReadLimits {
            rows: 1_000_000,
            bytes: 1 << 30,
            joined_depth_max: 4,
        };
        let none = TableFilter::AnyOf(Arc::new(HashSet::<TableId>::new()));
        self.ingest
            .read_after(Lsn(lsn), &none, limits)
            .await
            .map(|read| read.next)
    }
}

fn add_points(
    hosts: &dyn Array,
    times: &dyn Array,
    values: &dyn Array,
    points: &mut BTreeMap<(String, i64), f64>,
) {
    let hosts = arrow::compute::cast(hosts, &arrow::datatypes::DataType::Utf8).unwrap();
    let (hosts, times) = (
        hosts.as_string::<i32>(),
        times.as_primitive::<TimestampNanosecondType>(),
    );
    let values = values.as_primitive::<Float64Type>();
    for row in 0..times.len() {
        points.insert((hosts.value(row).to_owned(), times.value(row)), values.value(row));
    }
}

async fn open(objects: &FaultyStore, folder: &Path, config: &IngestConfig) -> Arc<Ingest> {
    let catalog = Catalog::open(objects.object_store(), "node", Limits::default())
        .await
        .unwrap();
    let storage = Storage::open(
        StoreConfig::default(),
        FileStoreConfig::default(),
        objects.object_store(),
        "node",
    );
    let storage = Arc::new(storage.await.unwrap());
    let (folder, config) = (folder.to_owned(), config.clone());
    let open = move || {
        let medium = Box::new(FileMedium::open(folder).unwrap());
        Arc::new(Ingest::open(medium, config, Arc::new(catalog), storage).unwrap())
    };
    tokio::task::spawn_blocking(open).await.unwrap()
}

fn assert_done(step: &SnapshotStep) {
    assert!(matches!(step, SnapshotStep::Done(_)), "{step:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_in_files_are_not_replayed_and_the_last_write_wins() {
    let mut node = Node::start(config()).await;
    for time in 0..20 {
        node.write(&format!("m,host=a v={time} {time}")).await;
    }
    assert_done(&node.snapshot().await);
    assert!(!node.ingest.store().has_rows());
    assert_eq!(node.segments().len(), 1, "the last segment stays");
    assert_eq!(node.objects(".parquet").await.len(), 1);
    assert_eq!(node.objects(".progress").await.len(), 1);
    assert!(matches!(node.snapshot().await, SnapshotStep::Idle));

    node.write("m,host=a v=100 3").await;
    node.write("m,host=b v=7 1").await;
    let mut expected: BTreeMap<(String, i64), f64> = (0..20)
        .map(|time| (("a".to_owned(), time), time as f64))
        .collect();
    expected.insert(("a".to_owned(), 3), 100.0);
    expected.insert(("b".to_owned(), 1), 7.0);
    assert_eq!(node.points().await, expected);

    node = node.restart().await;
    assert_eq!(node.ingest.stats().snapshot_lsn, 20);
    assert_eq!(node.ingest.store().stats().tables[0].rows, 2);
    assert_eq!(node.points().await, expected);
    assert_done(&node.snapshot().await);
    node = node.restart().await;
    assert_eq!(node.points().await, expected);
    assert_eq!(node.objects(".progress").await.len(), 1, "the old one is removed");

    // What is lost of the log is in files; numbers go on.
    node.ingest.shutdown().await;
    for segment in node.segments() {
        std::fs::remove_file(segment).unwrap();
    }
    node = node.restart().await;
    assert_eq!(node.points().await, expected);
    let error = node.read_after(3).await.unwrap_err();
    assert!(
        matches!(error, WriteError::Wal(WalError::Removed { first: Lsn(23), .. })),
        "{error}"
    );
    assert_eq!(node.write("m,host=a v=1 1000").await, Lsn(23));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_store_refuses_stays_in_memory_and_is_tried_again_later() {
    let node = Node::start(config()).await;
    node.write("m,host=a v=1 1\nother v=2 1").await;
    node.write("m,host=a v=3 2").await;
    let expected = node.points().await;
    // Each of the objects of a snapshot is the one that fails: two files, and the progress. The manifest tries by itself.
    for operations in 0..3 {
        node.objects.fail_after(operations, Fault::Refuse);
        let step = node.snapshot().await;
        assert!(matches!(step, SnapshotStep::Failed(_)), "{operations}: {step:?}");
        node.objects.repair();
        assert_eq!(node.points().await, expected);
        assert_eq!(
            node.objects(".parquet").await,
            Vec::<String>::new(),
            "{operations}"
        );
        assert_eq!(
            node.objects(".progress").await,
            Vec::<String>::new(),
            "{operations}"
        );
    }
    let stats = node.ingest.stats();
    assert_eq!((stats.failed_snapshots, stats.is_failing), (3, true));
    assert_eq!(stats.snapshot_lsn, 0);
    node.write("m,host=a v=4 3").await;
    // By itself it tries again after a pause, which has grown.
    let age = 1_000 * SECOND_NS;
    assert!(matches!(node.ingest.snapshot_once(0).await, SnapshotStep::Idle));
    assert!(matches!(
        node.ingest.snapshot_once(age).await,
        SnapshotStep::Done(_)
    ));
    assert!(!node.ingest.stats().is_failing);
    assert_eq!(node.points().await.len(), 3);
    assert_eq!(node.objects(".parquet").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_due_by_age_by_memory_and_by_the_log() {
    let mut settings = config();
    settings.snapshot.age_max = Duration::from_mins(10);
    let node = Node::start(settings).await;
    assert!(
        matches!(node.ingest.snapshot_once(0).await, SnapshotStep::Idle),
        "nothing was written"
    );
    assert!(matches!(
        node.ingest.snapshot_once(10_000 * SECOND_NS).await,
        SnapshotStep::Idle
    ));
    node.write("m,host=a v=1 1").await;
    let start = 20_000 * SECOND_NS;
    assert!(matches!(
        node.ingest.snapshot_once(start).await,
        SnapshotStep::Idle
    ));
    let almost = start + 599 * SECOND_NS;
    assert!(matches!(
        node.ingest.snapshot_once(almost).await,
        SnapshotStep::Idle
    ));
    assert_done(&node.ingest.snapshot_once(start + 600 * SECOND_NS).await);

    let mut settings = config();
    settings.snapshot.buffer_bytes_soft = 1;
    let node = Node::start(settings).await;
    node.write("m,host=a v=1 1").await;
    node.ingest.until_asked_for_snapshot().await;
    assert_done(&node.ingest.snapshot_once(0).await);

    let mut settings = config();
    settings.snapshot.log_bytes_max = 2_000;
    let node = Node::start(settings).await;
    let mut written = 0;
    while matches!(node.ingest.snapshot_once(0).await, SnapshotStep::Idle) {
        written += 1;
        node.write(&format!("m,host=a v=1 {written}")).await;
    }
    assert!((5..30).contains(&written), "{written} small records");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_wait_for_room_and_are_refused_when_there_is_none() {
    let mut settings = config();
    settings.snapshot = settings.snapshot.with_buffer_bytes_max(4_000);
    let node = Node::start(settings).await;
    let mut count = 0;
    let error = loop {
        match node.try_write(&format!("m,host=a v=1 {count}")).await {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, WriteError::BufferFull { bytes_max: 4_000, bytes } if bytes >= 4_000),
        "{error}"
    );
    assert!(error.is_out_of_room());
    assert_eq!(node.ingest.stats().refused_writes, 1);
    assert_eq!(node.points().await.len(), count);

    // A trigger gets on that writes nothing; and one that waits is let in as soon as there is room.
    let key = node.trigger("t", false).await;
    let quiet = RunCommit {
        writes: Vec::new(),
        progress: TriggerProgress::through(key, Lsn(1)),
        depth: 1,
        received_ns: 1,
    };
    node.ingest.commit_run(quiet).await.unwrap();
    let (written, step) = tokio::join!(node.try_write("m,host=a v=1 1000"), node.snapshot());
    assert_done(&step);
    written.unwrap();
    node.write("m,host=a v=1 1001").await;
    assert_eq!(node.points().await.len(), count + 2);

    // One request may be larger than the buffer.
    let large: String = (0..200).map(|time| format!("m,host=b v=1 {time}\n")).collect();
    assert_done(&node.snapshot().await);
    node.write(&large).await;
    assert!(matches!(
        node.try_write("m v=1 1").await,
        Err(WriteError::BufferFull { .. })
    ));
    assert_done(&node.snapshot().await);
    node.write("m,host=a v=1 1002").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_longer_than_memory_is_replayed_through_files() {
    let mut node = Node::start(config()).await;
    for time in 0..300 {
        node.write(&format!("m,host=a v={time} {time}")).await;
    }
    let expected = node.points().await;
    let all_bytes = node.ingest.store().total_bytes();
    let limit = all_bytes / 5;
    node.config.snapshot = node.config.snapshot.with_buffer_bytes_max(limit);
    node = node.restart().await;
    assert!(node.ingest.store().total_bytes() <= limit);
    assert!(
        node.objects(".parquet").await.len() >= 5,
        "some snapshots on the way"
    );
    assert_eq!(node.points().await, expected);
    assert!(node.ingest.stats().log_replay_bytes < 300 * 100);
    node = node.restart().await;
    assert_eq!(node.points().await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn triggers_go_on_from_the_progress_that_a_snapshot_kept() {
    let mut node = Node::start(config()).await;
    node.write("m,host=a v=1 1").await;
    let key = node.trigger("t", false).await;
    let run = RunCommit {
        writes: Vec::new(),
        progress: TriggerProgress {
            state: vec![StateChange {
                key: "sum".to_owned(),
                value: Some(Bytes::from_static(b"42")),
            }],
            scheduled_ns: Some(77),
            ..TriggerProgress::through(key, Lsn(1))
        },
        depth: 1,
        received_ns: 1,
    };
    node.ingest.commit_run(run).await.unwrap();
    for time in 0..50 {
        node.write(&format!("m,host=a v=1 {time}")).await;
    }
    // It passes over what is not for it, and nothing else says so.
    node.ingest.note_read(key, Lsn(52));
    assert_eq!(node.ingest.cursor(key), Some(Position::at(1)));
    assert_done(&node.snapshot().await);
    assert_eq!(node.segments().len(), 1);
    node = node.restart().await;
    assert_eq!(node.ingest.cursor(key), Some(Position::at(52)));
    assert_eq!(node.ingest.state_value(key, "sum").as_deref(), Some(&b"42"[..]));
    assert_eq!(node.ingest.last_scheduled(key), Some(77));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_waits_for_triggers_up_to_a_bound() {
    let mut node = Node::start(config()).await;
    node.write("m,host=a v=1 1").await;
    let (one, disabled) = (
        node.trigger("one", false).await,
        node.trigger("disabled", true).await,
    );
    for time in 0..100 {
        node.write(&format!("m,host=a v=1 {time}")).await;
    }
    let all = node.segments().len();
    assert!(all > 5, "{all} segments");
    assert_done(&node.snapshot().await);
    assert_eq!(node.segments().len(), all, "both have yet to read all of it");
    node.ingest.note_read(one, Lsn(101));
    node.write("m,host=a v=1 1000").await;
    assert_done(&node.snapshot().await);
    assert_eq!(
        node.segments().len(),
        all,
        "a trigger that is disabled goes on where it stopped"
    );
    assert_eq!(
        node.read_after(0).await.unwrap(),
        *node.ingest.committed().borrow()
    );
    let stats = node.ingest.stats();
    assert!(
        stats.log_backlog_bytes > 2_000,
        "{} bytes for triggers",
        stats.log_backlog_bytes
    );

    node.config.snapshot.backlog_bytes_max = 1_000;
    node = node.restart().await;
    node.write("m,host=a v=1 1001").await;
    assert_done(&node.snapshot().await);
    let left = node.segments().len();
    assert!(left < all && left > 1, "{left} of {all} segments");
    let stats = node.ingest.stats();
    assert!(stats.log_backlog_bytes <= 1_000);
    assert!(stats.log_records_skipped > 50, "{}", stats.log_records_skipped);
    let error = node.read_after(0).await.unwrap_err();
    assert!(
        matches!(error, WriteError::Wal(WalError::Removed { .. })),
        "{error}"
    );
    assert_eq!(
        node.read_after(node.ingest.log_start().0).await.unwrap(),
        *node.ingest.committed().borrow()
    );

    node.ingest.note_read(disabled, *node.ingest.committed().borrow());
    node.ingest.note_read(one, *node.ingest.committed().borrow());
    node.write("m,host=a v=1 1002").await;
    assert_done(&node.snapshot().await);
    assert!(node.segments().len() <= 2);
    let points = node.points().await;
    node = node.restart().await;
    assert_eq!(node.points().await, points);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_table_that_is_gone_become_no_file() {
    let node = Node::start(config()).await;
    node.write("m,host=a v=1 1\ngone v=1 1").await;
    let state = node.ingest.catalog().state();
    let gone = state.database("db").unwrap().table("gone").unwrap().id;
    node.ingest.storage().drop_table(gone).await.unwrap();
    assert_done(&node.snapshot().await);
    assert_eq!(node.objects(".parquet").await.len(), 1);
    assert_eq!(node.points().await.len(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Write {
        host: u8,
        time: i64,
    },
    Snapshot,
    /// A snapshot in which an operation on the store fails.
    FailedSnapshot {
        operations: usize,
    },
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0u8..3, 0i64..30).prop_map(|(host, time)| Step::Write { host, time }),
        2 => Just(Step::Snapshot),
        1 => (0usize..6).prop_map(|operations| Step::FailedSnapshot { operations }),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_point_has_its_last_value_whatever_happens_in_between(
        steps in prop::collection::vec(any_step(), 1..60),
        buffer_bytes_max in prop_oneof![Just(20_000usize), Just(1 << 30)],
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut settings = config();
            settings.snapshot = settings.snapshot.with_buffer_bytes_max(buffer_bytes_max);
            let mut node = Node::start(settings).await;
            let mut expected = BTreeMap::new();
            node.write("m,host=first v=0 0").await;
            expected.insert(("first".to_owned(), 0), 0.0);
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Write { host, time } => {
                        node.ingest.snapshot_once(0).await;
                        node.write(&format!("m,host=h{host} v={number} {time}")).await;
                        expected.insert((format!("h{host}"), time), number as f64);
                    }
                    Step::Snapshot => drop(node.snapshot().await),
                    Step::FailedSnapshot { operations } => {
                        node.objects.fail_after(operations, Fault::Refuse);
                        node.snapshot().await;
                        node.objects.repair();
                    }
                    Step::Restart => node = node.restart().await,
                }
                assert_eq!(node.points().await, expected);
            }
            let state = node.ingest.storage().manifest().state();
            assert_eq!(node.objects(".parquet").await.len(), state.files().len(), "no object is left over");
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_held_keeps_all_records() {
    let node = Node::start(config()).await;
    for time in 0..50 {
        node.write(&format!("m,host=a v=1 {time}")).await;
    }
    let all = node.segments().len();
    let hold = node.ingest.hold_log().await;
    assert_done(&node.snapshot().await);
    assert_eq!(node.segments().len(), all);
    let (durable, start) = (node.ingest.durable_lsn(), node.ingest.log_start());
    let ingest = Arc::clone(&node.ingest);
    let read = move || ingest.read_records(start, Lsn(durable.0 - 1), usize::MAX);
    let records = tokio::task::spawn_blocking(read).await.unwrap().unwrap();
    let numbers: Vec<u64> = records.iter().map(|(lsn, _)| lsn.0).collect();
    assert_eq!(numbers, (1..durable.0).collect::<Vec<_>>());

    drop(hold);
    node.write("m,host=a v=1 50").await;
    assert_done(&node.snapshot().await);
    assert!(node.segments().len() < all);
}
