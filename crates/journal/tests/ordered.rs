//! Reading a journal in the order of time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use futures::{StreamExt, TryStreamExt};
use proptest::prelude::*;
use support::{PREFIX, TestClock, rows, schema};
use tidemill_journal::{Journal, JournalConfig, OrderedScan};
use tidemill_testkit::{Fault, FaultyStore};

async fn open(store: &FaultyStore) -> Arc<Journal> {
    let config = JournalConfig {
        age_max: None,
        ..JournalConfig::default()
    };
    let clock = TestClock::default().clock();
    let opened = Journal::open(store.object_store(), PREFIX, schema(), config, clock).await;
    Arc::new(opened.unwrap())
}

fn scan(newest_first: bool) -> OrderedScan {
    OrderedScan {
        columns: vec![1, 0],
        times: i64::MIN..=i64::MAX,
        newest_first,
    }
}

/// The ids and the times of what a scan has given.
fn ids_and_times(batches: &[RecordBatch]) -> Vec<(i64, i64)> {
    let rows = batches.iter().flat_map(|batch| {
        assert_eq!(batch.num_columns(), 2, "only the wanted columns, in their order");
        let ids = batch.column(0).as_primitive::<Int64Type>().values();
        let times = batch.column(1).as_primitive::<TimestampNanosecondType>().values();
        ids.iter().copied().zip(times.iter().copied()).collect::<Vec<_>>()
    });
    rows.collect()
}

#[tokio::test]
async fn the_newest_rows_are_read_without_the_older_objects() {
    let store = FaultyStore::new();
    let journal = open(&store).await;
    for number in 0..5 {
        // Each object overlaps with the one before it.
        journal.append(&rows([number * 10], number * 100, 5));
        journal.append(&rows([number * 10 + 1], number * 100 + 150, 5));
        journal.flush().await.unwrap();
    }
    journal.append(&rows([50], 540, 5));
    let more = vec![rows([99], 545, 5)];

    let mut newest = Box::pin(journal.snapshot().in_order(scan(true), more));
    let mut first = Vec::new();
    while first.len() < 3 {
        first.extend(ids_and_times(&[newest.next().await.unwrap().unwrap()]));
    }
    assert_eq!(first[..3], [(41, 550), (99, 545), (50, 540)]);
    assert_eq!(store.gets(), 1, "one object has the newest row");
    let rest: Vec<RecordBatch> = newest.try_collect().await.unwrap();
    let rest: Vec<i64> = ids_and_times(&rest).into_iter().map(|(id, _)| id).collect();
    assert_eq!(
        [first.iter().skip(3).map(|(id, _)| *id).collect(), rest].concat(),
        [31, 40, 21, 30, 11, 20, 1, 10, 0]
    );

    let gets = store.gets();
    let some = OrderedScan {
        times: 200..=300,
        ..scan(false)
    };
    let rows: Vec<RecordBatch> = journal
        .snapshot()
        .in_order(some, vec![])
        .try_collect()
        .await
        .unwrap();
    assert_eq!(ids_and_times(&rows), [(20, 200), (11, 250), (30, 300)]);
    assert_eq!(store.gets() - gets, 3, "objects of other times are not read");
}

#[tokio::test]
async fn a_snapshot_is_of_one_moment_and_an_outage_is_an_error() {
    let store = FaultyStore::new();
    let journal = open(&store).await;
    journal.append(&rows(0..2, 1, 5));
    let snapshot = journal.snapshot();
    journal.flush().await.unwrap();
    journal.append(&rows(2..4, 2, 5));
    let rows: Vec<RecordBatch> = snapshot
        .in_order(scan(false), vec![])
        .try_collect()
        .await
        .unwrap();
    assert_eq!(
        ids_and_times(&rows),
        [(0, 1), (1, 1)],
        "each once, however it is kept by now"
    );

    store.fail_after(0, Fault::Refuse);
    let read: Vec<_> = journal.snapshot().in_order(scan(false), vec![]).collect().await;
    assert!(read.len() == 1 && read[0].is_err(), "{read:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the clock did, each row comes once and in order.
    #[test]
    fn any_times_come_in_order(
        batches in prop::collection::vec((prop::collection::vec(-20_i64..20, 1..6), any::<bool>()), 0..12),
        newest_first in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = FaultyStore::new();
            let journal = open(&store).await;
            let (mut id, mut expected) = (0, Vec::new());
            for (times, flushes) in batches {
                for time in times {
                    journal.append(&rows([id], time, 1));
                    expected.push((id, time));
                    id += 1;
                }
                if flushes {
                    journal.flush().await.unwrap();
                }
            }
            let rows: Vec<RecordBatch> =
                journal.snapshot().in_order(scan(newest_first), vec![]).try_collect().await.unwrap();
            let mut rows = ids_and_times(&rows);
            assert!(rows.is_sorted_by_key(|(_, time)| if newest_first { -time } else { *time }), "{rows:?}");
            rows.sort_unstable();
            assert_eq!(rows, expected);
        });
    }
}
