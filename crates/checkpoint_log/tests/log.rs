//! Starting, committing, checkpoints and what may go wrong with each, for both ways to start.

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use support::{ListLog, Listing, add, config, open, records};
use tidemill_checkpoint_log::{CheckpointLog, LogConfig, LogError, OnFailure, Start};
use tidemill_testkit::{Fault, FaultyStore};

const POINTER: Start = Start::Pointer { magic: *b"TESTCURR" };

fn insisting() -> LogConfig {
    LogConfig {
        on_failure: OnFailure::Insist {
            pause_min: Duration::ZERO,
            pause_max: Duration::ZERO,
        },
        ..config(POINTER)
    }
}

async fn error_of(store: Arc<dyn ObjectStore>, config: &LogConfig) -> String {
    match ListLog::open(store, config).await {
        Ok(_) => panic!("a log that is damaged was opened"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_log_without_objects_is_empty_and_opening_it_writes_nothing() {
    for start in [Start::Listing, POINTER] {
        let store = FaultyStore::new();
        let log = open(&store, start).await;
        assert_eq!((log.sequence(), log.state().items.len()), (0, 0));
        assert!(store.names("node").await.is_empty());
    }
}

#[tokio::test]
async fn a_start_from_the_pointer_lists_nothing() {
    let store = FaultyStore::new();
    let log = open(&store, POINTER).await;
    for item in 0..50 {
        add(&log, item).await.unwrap();
    }
    log.checkpoint().await.unwrap();
    for item in 50..150 {
        add(&log, item).await.unwrap();
    }
    let before = store.lists();
    let reopened = open(&store, POINTER).await;
    assert_eq!(store.lists(), before);
    assert_eq!(reopened.sequence(), 150);
    assert_eq!(reopened.state(), log.state());
}

#[tokio::test]
async fn a_missing_damaged_or_outdated_pointer_stops_nobody() {
    let store = FaultyStore::new();
    let log = open(&store, POINTER).await;
    let pointer = Path::from("node/current");
    let mut outdated = Vec::new();
    for item in 0..40 {
        add(&log, item).await.unwrap();
        if item % 10 == 0 {
            log.checkpoint().await.unwrap();
            outdated.push(store.memory().get(&pointer).await.unwrap().bytes().await.unwrap());
        }
    }
    // The last but one names a checkpoint that is kept, the ones before name some that are gone.
    for content in &outdated {
        store
            .memory()
            .put(&pointer, content.clone().into())
            .await
            .unwrap();
        assert_eq!(open(&store, POINTER).await.state(), log.state());
    }
    store.memory().put(&pointer, "nonsense".into()).await.unwrap();
    assert_eq!(open(&store, POINTER).await.state(), log.state());
    store.memory().delete(&pointer).await.unwrap();
    assert_eq!(open(&store, POINTER).await.state(), log.state());
}

#[tokio::test]
async fn only_who_knows_the_pointer_replaces_it() {
    let store = FaultyStore::new();
    let old = open(&store, POINTER).await;
    add(&old, 1).await.unwrap();
    let new = open(&store, POINTER).await;
    add(&new, 2).await.unwrap();
    new.checkpoint().await.unwrap();

    let refused = old.checkpoint().await.unwrap_err();
    assert!(matches!(refused, LogError::Conflict { .. }), "{refused}");
    assert_eq!(open(&store, POINTER).await.state(), new.state());
}

#[tokio::test]
async fn a_pointer_whose_answer_was_lost_is_recognised() {
    let store = FaultyStore::new();
    let log = open(&store, POINTER).await;
    for item in 0..4 {
        add(&log, item).await.unwrap();
        store.fail_after(1, Fault::LoseAnswer);
        log.checkpoint().await.unwrap_err();
        log.checkpoint().await.unwrap();
    }
    assert_eq!(open(&store, POINTER).await.state(), log.state());
}

#[tokio::test]
async fn damage_is_refused_with_the_name_of_the_object() {
    let record = |sequence: u64| Path::from(format!("node/log/{sequence:020}"));
    let checkpoint = Path::from(format!("node/checkpoint/{:020}", 2));
    for start in [Start::Listing, POINTER] {
        let store = Arc::new(InMemory::new());
        let log = ListLog::open(Arc::clone(&store) as _, &config(start))
            .await
            .unwrap();
        for item in 0..5 {
            add(&log, item).await.unwrap();
            if item == 1 {
                log.checkpoint().await.unwrap();
            }
        }
        let bytes = async |path: &Path| store.get(path).await.unwrap().bytes().await.unwrap().to_vec();
        let with = async |path: &Path, content: Vec<u8>| {
            let damaged = store.fork();
            damaged.put(path, content.into()).await.unwrap();
            error_of(Arc::new(damaged), &config(start)).await
        };
        let unusable = |path: &Path, reason: &str| format!("object '{path}' is unusable: {reason}");

        let mut flipped = bytes(&record(4)).await;
        *flipped.last_mut().unwrap() ^= 1;
        let text = with(&record(4), flipped).await;
        assert_eq!(text, unusable(&record(4), "its checksum does not match"));

        let torn = bytes(&record(4)).await[..30].to_vec();
        let text = with(&record(4), torn).await;
        assert_eq!(text, unusable(&record(4), "30 bytes are too few"));

        let text = with(&record(4), bytes(&record(5)).await).await;
        assert_eq!(text, unusable(&record(4), "it holds number 5"));

        let text = with(&record(4), bytes(&checkpoint).await).await;
        assert_eq!(text, unusable(&record(4), "it is of another kind"));

        let text = with(&checkpoint, b"nonsense".to_vec()).await;
        assert_eq!(text, unusable(&checkpoint, "8 bytes are too few"));

        let gap = store.fork();
        gap.delete(&record(4)).await.unwrap();
        let reason = format!("it is missing, but {} is there", record(5));
        assert_eq!(
            error_of(Arc::new(gap), &config(start)).await,
            unusable(&record(4), &reason)
        );
    }
}

#[tokio::test]
async fn a_newer_version_is_refused() {
    for start in [Start::Listing, POINTER] {
        let newer = LogConfig {
            version: 2,
            ..config(start)
        };
        let reason = "is unusable: its version 2 is newer than 1, which this program knows";
        let store = FaultyStore::new();
        let log = ListLog::open(store.object_store(), &newer).await.unwrap();
        add(&log, 1).await.unwrap();
        let text = error_of(store.object_store(), &config(start)).await;
        assert_eq!(text, format!("object 'node/log/{:020}' {reason}", 1));
        log.checkpoint().await.unwrap();
        let text = error_of(store.object_store(), &config(start)).await;
        assert_eq!(text, format!("object 'node/checkpoint/{:020}' {reason}", 1));
    }
}

#[tokio::test]
async fn of_two_writers_one_loses() {
    for config in [config(Start::Listing), insisting()] {
        let store = FaultyStore::new();
        let first = ListLog::open(store.object_store(), &config).await.unwrap();
        let second = ListLog::open(store.object_store(), &config).await.unwrap();
        add(&first, 1).await.unwrap();
        let lost = add(&second, 2).await.unwrap_err();
        assert_eq!(
            lost.to_string(),
            "record 1 was written by another process: is a second server running with this node id?"
        );
        assert!(second.state().items.is_empty());
        let reopened = ListLog::open(store.object_store(), &config).await.unwrap();
        assert_eq!(reopened.state(), first.state());
    }
}

#[tokio::test]
async fn a_log_that_insists_finds_out_what_became_of_every_record() {
    for fault in [Fault::Refuse, Fault::LoseAnswer, Fault::Delay] {
        let store = FaultyStore::new();
        let log = ListLog::open(store.object_store(), &insisting()).await.unwrap();
        store.fail_next_put(fault);
        add(&log, 1).await.unwrap();
        if fault == Fault::Delay {
            // It comes too late and changes nothing.
            store.deliver().await;
        }
        add(&log, 2).await.unwrap();
        let reopened = ListLog::open(store.object_store(), &insisting()).await.unwrap();
        assert_eq!(reopened.state().items, [1, 2]);
    }
}

#[tokio::test]
async fn a_log_that_insists_waits_while_the_store_is_gone() {
    let store = FaultyStore::new();
    let log = ListLog::open(store.object_store(), &insisting()).await.unwrap();
    store.die_after(0, Fault::LoseAnswer);
    let mut change = Box::pin(add(&log, 1));
    while store.operations() < 20 {
        assert!(change.as_mut().now_or_never().is_none(), "it still waits");
        tokio::task::yield_now().await;
    }
    assert!(
        log.state().items.is_empty(),
        "what is not known to be durable is not seen"
    );
    store.repair();
    change.await.unwrap();
    assert_eq!(log.state().items, [1]);
    assert_eq!(records(&store).await.len(), 1);
}

#[tokio::test]
async fn a_refusal_changes_nothing() {
    let store = FaultyStore::new();
    let log = ListLog::open(store.object_store(), &insisting()).await.unwrap();
    store.fail_next_put(Fault::DiskFull);
    let refused = add(&log, 1).await.unwrap_err();
    assert!(matches!(refused, LogError::Store(_)), "{refused}");
    assert!(log.state().items.is_empty());
    add(&log, 2).await.unwrap();
    let reopened = ListLog::open(store.object_store(), &insisting()).await.unwrap();
    assert_eq!(reopened.state().items, [2]);
}

#[tokio::test]
async fn checkpoints_come_by_themselves_and_old_objects_go() {
    for start in [Start::Listing, POINTER] {
        let store = FaultyStore::new();
        let log = open(&store, start).await;
        for item in 0..350 {
            add(&log, item).await.unwrap();
            tokio::task::yield_now().await;
        }
        log.checkpoint().await.unwrap();
        let checkpoints = store.names("node/checkpoint").await;
        assert_eq!(checkpoints.len(), 2, "{checkpoints:?}");
        let records = records(&store).await;
        assert!(records.len() < 150, "{} records are left", records.len());
        assert!(records.iter().all(|record| *record > checkpoints[0]));
        assert_eq!(open(&store, start).await.state(), log.state());
    }
}

#[tokio::test]
async fn readers_are_told_of_changes() {
    let store = FaultyStore::new();
    let log: CheckpointLog<Listing> = open(&store, POINTER).await;
    let mut changes = log.changes();
    add(&log, 7).await.unwrap();
    assert_eq!(*changes.borrow_and_update(), 1);
}
