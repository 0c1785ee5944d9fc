//! What writers, readers and owners of a journal see.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use support::{PREFIX, SECOND, TestClock, ids, ids_that, rows, schema};
use tidemill_journal::{Journal, JournalConfig, JournalError};
use tidemill_object_stores::DurableLocalStore;
use tidemill_testkit::{Fault, FaultyStore};

async fn open_with(store: Arc<dyn ObjectStore>, clock: &TestClock, config: JournalConfig) -> Journal {
    Journal::open(store, PREFIX, schema(), config, clock.clock())
        .await
        .unwrap()
}

async fn open(store: &FaultyStore) -> Journal {
    open_with(
        store.object_store(),
        &TestClock::default(),
        JournalConfig::default(),
    )
    .await
}

async fn all_ids(journal: &Journal) -> Vec<i64> {
    ids(&journal.scan(..).await.unwrap())
}

/// What is logged on this thread as long as it lives.
struct Logged {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

#[derive(Clone)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() -> Logged {
    let text = Arc::<Mutex<Vec<u8>>>::default();
    let sink = Sink(Arc::clone(&text));
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || sink.clone())
        .finish();
    Logged {
        text,
        _guard: tracing::subscriber::set_default(subscriber),
    }
}

impl Logged {
    fn lines_with(&self, part: &str) -> usize {
        let text = String::from_utf8(self.text.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(part)).count()
    }
}

#[tokio::test]
async fn rows_are_visible_at_once_and_after_a_restart() {
    let store = FaultyStore::new();
    let journal = open(&store).await;
    journal.append(&rows(0..3, 10, 5));
    assert_eq!(all_ids(&journal).await, [0, 1, 2]);
    journal.flush().await.unwrap();
    journal.append(&rows(3..5, 20, 5));
    journal.append(&rows([], 30, 5));
    assert_eq!(all_ids(&journal).await, [0, 1, 2, 3, 4]);
    journal.flush().await.unwrap();
    journal.flush().await.unwrap();
    journal.append(&rows([9], 30, 5));
    assert_eq!(store.names(PREFIX).await.len(), 2);

    let journal = open(&store).await;
    assert_eq!(store.gets(), 1, "only the scan in between has read an object");
    assert_eq!(
        all_ids(&journal).await,
        [0, 1, 2, 3, 4],
        "what was not flushed is lost"
    );
    let scanned = journal.scan(..).await.unwrap();
    assert_eq!(scanned[1], rows(3..5, 20, 5), "every column comes back");
}

#[tokio::test]
async fn scans_read_no_more_than_they_need() {
    let store = FaultyStore::new();
    let journal = open(&store).await;
    for number in 0..3 {
        journal.append(&rows(number * 10..number * 10 + 10, number, 5));
        journal.flush().await.unwrap();
    }
    journal.append(&rows(30..40, 3, 5));

    let newest = async |rows_max| ids(&journal.scan_newest(rows_max).await.unwrap());
    assert!(newest(0).await.is_empty());
    assert_eq!(newest(2).await, [38, 39]);
    assert_eq!(store.gets(), 0);
    assert_eq!(newest(15).await, (25..40).collect::<Vec<_>>());
    assert_eq!(store.gets(), 1);
    assert_eq!(newest(usize::MAX).await, (0..40).collect::<Vec<_>>());

    let gets = store.gets();
    assert_eq!(
        ids(&journal.scan(1..2).await.unwrap()),
        (10..20).collect::<Vec<_>>()
    );
    assert_eq!(store.gets(), gets + 1);
    assert_eq!(
        ids(&journal.scan(2..).await.unwrap()),
        (20..40).collect::<Vec<_>>()
    );
    assert_eq!(
        ids(&journal.scan(..=0).await.unwrap()),
        (0..10).collect::<Vec<_>>()
    );
    assert!(journal.scan(..i64::MIN).await.unwrap().is_empty());
    assert!(journal.scan(4..).await.unwrap().is_empty());

    let is_wanted = ids_that(|id| id % 10 == 7);
    let some = journal.scan_with(1.., |batch| {
        let mask = is_wanted(&batch);
        filter_record_batch(&batch, &mask)
            .unwrap()
            .project(&[1, 1])
            .unwrap()
    });
    assert_eq!(ids(&some.await.unwrap()), [17, 27, 37]);
}

#[tokio::test]
async fn an_outage_costs_the_oldest_rows_in_memory_and_one_line_in_the_log() {
    let logged = log();
    let store = FaultyStore::new();
    let config = JournalConfig {
        unflushed_bytes_max: 1024 * 1024,
        ..JournalConfig::default()
    };
    let journal = open_with(store.object_store(), &TestClock::default(), config).await;
    store.die_after(0, Fault::LoseAnswer);
    for id in 0..3_000 {
        journal.append(&rows([id], id, 1000));
        if id % 100 == 0 {
            assert!(journal.flush().await.is_err());
        }
        assert!(journal.stored().unflushed_bytes <= 1024 * 1024);
    }
    assert!(
        journal.stored().unflushed_bytes > 800 * 1024,
        "memory is not made use of"
    );
    assert_eq!(logged.lines_with("cannot write an object of the journal"), 1);
    assert_eq!(logged.lines_with("the oldest rows are dropped"), 1);

    store.repair();
    journal.flush().await.unwrap();
    assert_eq!(logged.lines_with("works again"), 1);
    let kept = all_ids(&journal).await;
    assert_eq!(kept.len() as u64 + journal.dropped(), 3_000);
    // What was being written at the beginning is written again as it was; all else is the newest.
    assert_eq!(kept[0], 0);
    assert!(kept.is_sorted_by(|a, b| a < b));
    assert_eq!(kept[1..], (3_001 - kept.len() as i64..3_000).collect::<Vec<_>>());
    drop(journal);
    assert_eq!(all_ids(&open(&store).await).await, kept, "nothing is there twice");
}

#[tokio::test]
async fn a_row_larger_than_memory_is_dropped() {
    let store = FaultyStore::new();
    let config = JournalConfig {
        unflushed_bytes_max: 1000,
        ..JournalConfig::default()
    };
    let journal = open_with(store.object_store(), &TestClock::default(), config).await;
    journal.append(&rows([0], 0, 2000));
    journal.append(&rows([1], 0, 100));
    journal.flush().await.unwrap();
    assert_eq!((all_ids(&journal).await, journal.dropped()), (vec![1], 1));
}

#[tokio::test]
async fn a_durable_append_is_there_or_was_refused() {
    let store = FaultyStore::new();
    let journal = open(&store).await;
    journal.append(&rows([0], 0, 10));
    journal.append_durably(&rows([1], 0, 10)).await.unwrap();
    journal.append_durably(&rows([], 0, 10)).await.unwrap();
    store.fail_after(0, Fault::LoseAnswer);
    let error = journal.append_durably(&rows([2], 0, 10)).await.unwrap_err();
    assert!(matches!(error, JournalError::Store { .. }), "{error}");
    assert_eq!(all_ids(&journal).await, [0, 1]);
    journal.append_durably(&rows([2], 0, 10)).await.unwrap();
    journal.upkeep().await.unwrap();
    drop(journal);
    assert_eq!(all_ids(&open(&store).await).await, [0, 1, 2]);
}

#[tokio::test]
async fn a_week_of_flushes_is_a_few_objects() {
    let (store, clock) = (FaultyStore::new(), TestClock::default());
    let journal = open_with(store.object_store(), &clock, JournalConfig::default()).await;
    let day = 24 * 60 * 60 * SECOND;
    let flushes_a_day = 500;
    let flushes = 10 * flushes_a_day;
    for flush in 0..flushes {
        clock.advance(day / flushes_a_day);
        journal.append(&rows(flush * 10..flush * 10 + 10, clock.now(), 100));
        journal.upkeep().await.unwrap();
    }
    let stored = journal.stored();
    assert!(stored.objects <= 16 * 4 + 16, "{stored:?}");
    assert_eq!(store.names(PREFIX).await.len(), stored.objects);
    let kept = all_ids(&journal).await;
    let of_seven_days = flushes * 10 - 7 * flushes_a_day * 10 - 10;
    assert_eq!(kept, (of_seven_days..flushes * 10).collect::<Vec<_>>());
    assert_eq!(
        all_ids(&open_with(store.object_store(), &clock, JournalConfig::default()).await).await,
        kept
    );

    clock.advance(8 * day);
    assert!(
        all_ids(&journal).await.is_empty(),
        "old rows are not shown, wherever they are"
    );
    journal.upkeep().await.unwrap();
    assert_eq!(store.names(PREFIX).await.len(), 0);
}

#[tokio::test]
async fn a_full_journal_loses_its_oldest_rows() {
    let store = FaultyStore::new();
    let config = JournalConfig {
        age_max: None,
        bytes_max: 100_000,
        ..JournalConfig::default()
    };
    let journal = open_with(store.object_store(), &TestClock::default(), config).await;
    let mut fullest = 0;
    for id in 0..1000 {
        journal.append(&rows([id], id, 1000));
        journal.upkeep().await.unwrap();
        let stored = journal.stored();
        assert!(stored.bytes <= 100_000, "{stored:?}");
        fullest = fullest.max(stored.bytes);
        let kept = all_ids(&journal).await;
        assert_eq!(kept, (id + 1 - kept.len() as i64..=id).collect::<Vec<_>>());
        assert!(id < 98 || kept.len() > 90, "{} rows are left", kept.len());
    }
    assert!(fullest > 98_000);
    assert_eq!(store.names(PREFIX).await.len(), journal.stored().objects);
}

#[tokio::test]
async fn what_a_scan_reads_is_not_removed_meanwhile() {
    let store = FaultyStore::new();
    let journal = Arc::new(open(&store).await);
    for id in 0..4 {
        journal.append(&rows([id], id, 10));
        journal.flush().await.unwrap();
    }
    let (has_begun, let_go) = store.hold_next_get();
    let scan = tokio::spawn({
        let journal = Arc::clone(&journal);
        async move { all_ids(&journal).await }
    });
    has_begun.await.unwrap();
    journal.upkeep().await.unwrap();
    assert_eq!(journal.stored().objects, 1, "they are merged");
    assert_eq!(store.names(PREFIX).await.len(), 5, "and still there");
    journal.append(&rows([4], 4, 10));

    let_go.send(()).unwrap();
    assert_eq!(scan.await.unwrap(), [0, 1, 2, 3]);
    journal.upkeep().await.unwrap();
    assert_eq!(store.names(PREFIX).await.len(), 2);
    assert_eq!(all_ids(&journal).await, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn single_rows_can_be_removed() {
    let store = FaultyStore::new();
    let journal = open(&store).await;
    journal.append(&rows(0..10, 0, 10));
    journal.flush().await.unwrap();
    journal.append(&rows(10..12, 0, 10));
    journal.flush().await.unwrap();
    journal.append(&rows(12..14, 0, 10));
    let removed = journal.remove(ids_that(|id| id == 3 || id >= 10)).await.unwrap();
    assert_eq!(removed, 5);
    assert_eq!(journal.remove(ids_that(|id| id == 3)).await.unwrap(), 0);
    let too_short = journal.remove(|_| BooleanArray::from(vec![None, Some(false)]));
    assert_eq!(too_short.await.unwrap(), 0);
    let kept = [0, 1, 2, 4, 5, 6, 7, 8, 9];
    assert_eq!(all_ids(&journal).await, kept);
    assert_eq!(store.names(PREFIX).await.len(), 3);
    drop(journal);
    assert_eq!(all_ids(&open(&store).await).await, kept);
}

#[tokio::test]
async fn removed_rows_do_not_come_back_when_the_rest_of_their_object_is_let_go() {
    let (store, clock) = (FaultyStore::new(), TestClock::default());
    let config = JournalConfig {
        age_max: None,
        bytes_max: 10_000,
        ..JournalConfig::default()
    };
    let journal = open_with(store.object_store(), &clock, config.clone()).await;
    journal.append(&rows(0..2, 0, 1000));
    journal.flush().await.unwrap();
    store.refuse_to_delete(&store.names(PREFIX).await[0]);
    assert_eq!(journal.remove(ids_that(|id| id == 0)).await.unwrap(), 1);
    assert_eq!(store.names(PREFIX).await.len(), 2, "the object is still there");

    journal.append(&rows(2..11, 0, 1000));
    journal.upkeep().await.unwrap_err();
    assert_eq!(all_ids(&journal).await, (2..11).collect::<Vec<_>>());
    drop(journal);
    store.repair();
    let journal = open_with(store.object_store(), &clock, config).await;
    assert_eq!(
        all_ids(&journal).await,
        (1..11).collect::<Vec<_>>(),
        "what was let go may come back"
    );
    journal.upkeep().await.unwrap();
    assert_eq!(all_ids(&journal).await, (2..11).collect::<Vec<_>>());
    assert_eq!(store.names(PREFIX).await.len(), 1);
}

#[tokio::test]
async fn a_journal_is_cleared_with_all_that_is_left_over() {
    let store = FaultyStore::new();
    let journal = open(&store).await;
    journal.append(&rows(0..10, 0, 10));
    journal.flush().await.unwrap();
    journal.append(&rows(10..12, 0, 10));
    store.fail_after(0, Fault::LoseAnswer);
    journal.flush().await.unwrap_err();
    journal.append(&rows(12..14, 0, 10));
    journal.clear().await.unwrap();
    assert_eq!(
        (all_ids(&journal).await, store.names(PREFIX).await.len()),
        (vec![], 0)
    );
    journal.append(&rows([20], 0, 10));
    journal.upkeep().await.unwrap();
    assert_eq!(all_ids(&open(&store).await).await, [20]);
}

#[tokio::test]
async fn damaged_and_foreign_objects_are_named_and_skipped() {
    let store = FaultyStore::new();
    let journal = open(&store).await;
    for id in 0..8 {
        journal.append(&rows([id], id, 10));
        journal.flush().await.unwrap();
    }
    drop(journal);
    let names = store.names(PREFIX).await;
    let path = |name: &str| Path::from(format!("{PREFIX}/{name}"));
    let overwrite = |name: &str, content: Vec<u8>| {
        let (store, path) = (store.clone(), path(name));
        async move { store.memory().put(&path, content.into()).await.unwrap() }
    };
    let content = store.memory().get(&path(&names[0])).await.unwrap();
    let content = content.bytes().await.unwrap();
    overwrite(&names[0], content[..content.len() - 9].to_vec()).await;
    let damaged_bytes = store.memory().head(&path(&names[2])).await.unwrap().size;
    overwrite(&names[2], vec![0; damaged_bytes as usize]).await;
    overwrite("notes.txt", b"mine".to_vec()).await;
    overwrite("deeper/notes.txt", b"mine".to_vec()).await;

    let logged = log();
    let journal = open(&store).await;
    for (name, reason) in [
        (names[0].as_str(), "is torn"),
        ("notes.txt", "not an object of the journal"),
    ] {
        assert_eq!((logged.lines_with(name), logged.lines_with(reason)), (1, 1));
    }
    assert_eq!(all_ids(&journal).await, [1, 3, 4, 5, 6, 7]);
    assert_eq!(all_ids(&journal).await, [1, 3, 4, 5, 6, 7]);
    assert_eq!(
        (logged.lines_with(&names[2]), logged.lines_with("is damaged")),
        (1, 1)
    );

    store.memory().delete(&path(&names[5])).await.unwrap();
    journal.upkeep().await.unwrap();
    assert_eq!(logged.lines_with("it is missing"), 1);
    assert_eq!(all_ids(&journal).await, [1, 3, 4, 6, 7]);
    journal.append(&rows([8], 8, 10));
    journal.append_durably(&rows([9], 9, 10)).await.unwrap();
    journal.upkeep().await.unwrap();
    assert_eq!(all_ids(&journal).await, [1, 3, 4, 6, 7, 8, 9]);
    let left = store.names(PREFIX).await;
    assert!(left.contains(&"notes.txt".to_owned()) && left.contains(&names[2]));
}

/// Every byte of an object is changed in turn: it reads as it was, or otherwise, or not at all, but never panics.
#[tokio::test]
async fn no_damage_is_more_than_a_missing_object() {
    let store = FaultyStore::new();
    let journal = open(&store).await;
    journal.append(&rows(0..20, 5, 10));
    journal.flush().await.unwrap();
    let path = Path::from(PREFIX).join(store.names(PREFIX).await[0].as_str());
    let content = store.memory().get(&path).await.unwrap().bytes().await.unwrap();
    for position in 0..content.len() {
        let mut damaged = content.to_vec();
        damaged[position] ^= 0xff;
        store.memory().put(&path, damaged.into()).await.unwrap();
        let journal = open(&store).await;
        journal.append(&rows([99], 5, 10));
        let scanned = all_ids(&journal).await;
        assert_eq!(scanned.last(), Some(&99), "byte {position}");
    }
}

#[tokio::test]
async fn rows_of_another_schema_are_refused() {
    let store = FaultyStore::new();
    let refused = Journal::open(
        store.object_store(),
        PREFIX,
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)])),
        JournalConfig::default(),
        TestClock::default().clock(),
    );
    assert!(matches!(refused.await, Err(JournalError::Schema { .. })));

    let journal = open(&store).await;
    let columns: [(&str, ArrayRef); 2] = [
        ("event_time", Arc::new(TimestampNanosecondArray::from(vec![1]))),
        ("text", Arc::new(Int64Array::from(vec![1]))),
    ];
    let other = RecordBatch::try_from_iter(columns).unwrap();
    journal.append(&other);
    assert_eq!((journal.dropped(), journal.stored().unflushed_rows), (1, 0));
    let refused = journal.append_durably(&other).await;
    assert!(matches!(refused, Err(JournalError::Schema { .. })));
}

#[tokio::test]
async fn a_newer_version_adds_a_column() {
    let store = FaultyStore::new();
    let journal = open(&store).await;
    for id in 0..4 {
        journal.append(&rows([id], id, 10));
        journal.flush().await.unwrap();
    }
    let mut fields = schema().fields().to_vec();
    fields.push(Arc::new(Field::new("host", DataType::Utf8, true)));
    let newer = Arc::new(Schema::new(fields));
    let journal = Journal::open(
        store.object_store(),
        PREFIX,
        newer.clone(),
        JournalConfig::default(),
        TestClock::default().clock(),
    )
    .await
    .unwrap();
    journal.upkeep().await.unwrap();
    assert_eq!(journal.stored().objects, 1);
    let scanned = journal.scan(..).await.unwrap();
    assert_eq!(scanned[0].schema(), newer);
    assert_eq!(
        (ids(&scanned), scanned[0].column(3).null_count()),
        (vec![0, 1, 2, 3], 4)
    );
}

#[tokio::test]
async fn a_running_journal_keeps_itself() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(DurableLocalStore::open(folder.path()).unwrap());
    let config = JournalConfig {
        flush_interval: Duration::from_millis(1),
        ..JournalConfig::default()
    };
    let clock = TestClock::default();
    let journal = Arc::new(open_with(Arc::clone(&store), &clock, config.clone()).await);
    assert!(
        all_ids(&journal).await.is_empty(),
        "a folder that is not there yet is empty"
    );
    let running = tokio::spawn(Arc::clone(&journal).run());
    for id in 0..20 {
        journal.append(&rows([id], 0, 10));
        let is_written = async {
            while journal.stored().unflushed_rows > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), is_written)
            .await
            .unwrap();
    }
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    journal.append(&rows([20], 0, 10));
    journal.upkeep().await.unwrap();
    assert!(journal.stored().objects <= 6, "{:?}", journal.stored());
    drop(journal);

    let journal = open_with(store, &clock, config).await;
    assert_eq!(all_ids(&journal).await, (0..=20).collect::<Vec<_>>());
    journal.clear().await.unwrap();
    assert!(all_ids(&journal).await.is_empty());
}

/// Scans see every row once while rows are appended, flushed, merged and removed from the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_and_writers_do_not_disturb_each_other() {
    const ROWS: i64 = 5_000;
    let store = FaultyStore::new();
    let journal = Arc::new(open(&store).await);
    let keeper = tokio::spawn({
        let journal = Arc::clone(&journal);
        async move {
            while all_ids(&journal).await.last() != Some(&ROWS) {
                journal.upkeep().await.unwrap();
            }
        }
    });
    let readers = [(); 2].map(|()| {
        let journal = Arc::clone(&journal);
        tokio::spawn(async move {
            let mut seen = 0;
            while seen <= ROWS {
                let there = all_ids(&journal).await;
                assert_eq!(there, (0..there.len() as i64).collect::<Vec<_>>());
                assert!(there.len() as i64 >= seen, "rows have vanished");
                seen = there.len() as i64;
            }
        })
    });
    for id in 0..=ROWS {
        if id % 50 == 0 {
            journal.append_durably(&rows([id], id, 10)).await.unwrap();
        } else {
            journal.append(&rows([id], id, 10));
        }
    }
    for reader in readers {
        reader.await.unwrap();
    }
    keeper.await.unwrap();
    journal.upkeep().await.unwrap();
    assert_eq!(store.names(PREFIX).await.len(), journal.stored().objects);
}
