//! Who shares a flush, who waits, who is answered when.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{FutureExt, poll};
use tidemill_wal::{Lsn, Medium, PAYLOAD_BYTES_MAX, Pending, Record, Wal, WalConfig, WalError};

use support::gated_medium::{Flush, gated_medium};

const HOUR: Duration = Duration::from_hours(1);
/// What a record takes beside its payload.
const FRAMING_BYTES: usize = 32;

type Published = Arc<Mutex<Vec<(Lsn, u64)>>>;

/// A log whose values are numbers, and what it has published.
fn open(medium: Box<dyn Medium>, config: WalConfig) -> (Arc<Wal<u64>>, Published) {
    let published = Published::default();
    let publish = {
        let published = Arc::clone(&published);
        move |group: &mut Vec<(Lsn, u64)>| published.lock().unwrap().append(group)
    };
    let wal = Wal::open(medium, config, |_, _| Ok::<_, String>(()), publish).unwrap();
    (Arc::new(wal), published)
}

fn bytes_max(payloads: usize, payload_bytes: usize) -> WalConfig {
    WalConfig {
        pending_bytes_max: payloads * (payload_bytes + FRAMING_BYTES),
        ..WalConfig::default()
    }
}

fn disk_full() -> WalError {
    WalError::Io {
        action: "write to",
        path: PathBuf::from("somewhere/00000000000000000001.wal"),
        source: Arc::new(io::ErrorKind::StorageFull.into()),
    }
}

async fn append(wal: &Wal<u64>, number: u8) -> Pending {
    wal.append(vec![number], u64::from(number)).await.unwrap()
}

fn flush(first: u64, numbers: impl IntoIterator<Item = u8>) -> Flush {
    Flush {
        first: Lsn(first),
        payloads: numbers.into_iter().map(|number| vec![number]).collect(),
    }
}

#[tokio::test]
async fn the_first_writer_starts_a_flush_and_the_others_share_the_next() {
    let (medium, mut gate) = gated_medium();
    let (wal, _) = open(medium, WalConfig::default());
    let lone = append(&wal, 1).await;
    assert_eq!(gate.begun().await, flush(1, [1]));
    let mut sharing = Vec::new();
    for number in 2..=8 {
        sharing.push(append(&wal, number).await);
    }
    gate.end(Ok(()));
    assert_eq!(lone.durable().await.unwrap(), Lsn(1));
    assert_eq!(gate.begun().await, flush(2, 2..=8));
    gate.end(Ok(()));
    for (pending, lsn) in sharing.into_iter().zip(2..) {
        assert_eq!(pending.durable().await.unwrap(), Lsn(lsn));
    }
    let stats = wal.stats();
    assert_eq!((stats.groups, stats.records, stats.pending_bytes), (2, 8, 0));
    assert_eq!(stats.bytes, 8 * (1 + FRAMING_BYTES as u64));
}

#[tokio::test]
async fn a_group_is_published_in_order_before_its_writers_are_answered() {
    let (medium, mut gate) = gated_medium();
    let (wal, published) = open(medium, WalConfig::default());
    let first = append(&wal, 1).await;
    gate.begun().await;
    let second = append(&wal, 2).await;
    let third = append(&wal, 3).await;
    assert!(
        published.lock().unwrap().is_empty(),
        "not published before it is durable"
    );
    assert_eq!(wal.durable_lsn(), Lsn(0));
    gate.end(Ok(()));
    first.durable().await.unwrap();
    assert_eq!(*published.lock().unwrap(), [(Lsn(1), 1)]);
    assert_eq!(wal.durable_lsn(), Lsn(1));
    gate.begun().await;
    gate.end(Ok(()));
    third.durable().await.unwrap();
    assert_eq!(
        *published.lock().unwrap(),
        [(Lsn(1), 1), (Lsn(2), 2), (Lsn(3), 3)]
    );
    assert_eq!(second.durable().await.unwrap(), Lsn(2));
}

#[tokio::test]
async fn readers_are_woken_when_the_writers_of_a_group_are_answered() {
    let (medium, mut gate) = gated_medium();
    let (wal, _) = open(medium, WalConfig::default());
    let mut committed = wal.committed();
    let first = append(&wal, 1).await;
    gate.begun().await;
    let second = append(&wal, 2).await;
    let third = append(&wal, 3).await;
    for (last, writers) in [(Lsn(1), vec![first]), (Lsn(3), vec![second, third])] {
        assert!(!committed.has_changed().unwrap());
        gate.end(Ok(()));
        committed.changed().await.unwrap();
        assert_eq!(*committed.borrow_and_update(), last);
        assert_eq!(wal.durable_lsn(), last);
        for writer in writers {
            writer.durable().now_or_never().expect("answered before").unwrap();
        }
        if last == Lsn(1) {
            gate.begun().await;
        }
    }
}

#[tokio::test]
async fn a_writer_is_not_answered_while_its_group_is_published() {
    let (medium, gate) = gated_medium();
    gate.open(1);
    let (publish_begun, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let (publish_end, end) = std::sync::mpsc::channel::<()>();
    let publish = move |_: &mut Vec<(Lsn, u64)>| {
        publish_begun.send(()).unwrap();
        end.recv().unwrap();
    };
    let wal = Wal::open(medium, WalConfig::default(), |_, _| Ok::<_, String>(()), publish).unwrap();
    let pending = append(&wal, 1).await;
    begun.recv().await.unwrap();
    let mut answer = Box::pin(pending.durable());
    assert!(poll!(&mut answer).is_pending());
    assert_eq!(wal.durable_lsn(), Lsn(0));
    publish_end.send(()).unwrap();
    assert_eq!(answer.await.unwrap(), Lsn(1));
}

#[tokio::test]
async fn a_failed_group_is_told_dropped_and_its_numbers_are_used_again() {
    let (medium, mut gate) = gated_medium();
    let (wal, published) = open(medium, WalConfig::default());
    let first = append(&wal, 1).await;
    gate.begun().await;
    let failing = [append(&wal, 2).await, append(&wal, 3).await];
    gate.end(Ok(()));
    first.durable().await.unwrap();
    assert_eq!(gate.begun().await, flush(2, [2, 3]));
    gate.end(Err(disk_full()));
    for pending in failing {
        let error = pending.durable().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot write to somewhere/00000000000000000001.wal: no storage space"
        );
    }
    assert_eq!(wal.durable_lsn(), Lsn(1));
    let retried = append(&wal, 4).await;
    assert_eq!(gate.begun().await, flush(2, [4]));
    gate.end(Ok(()));
    assert_eq!(retried.durable().await.unwrap(), Lsn(2));
    assert_eq!(*published.lock().unwrap(), [(Lsn(1), 1), (Lsn(2), 4)]);
    assert_eq!(wal.stats().failed_groups, 1);
}

#[tokio::test]
async fn a_final_error_stops_the_log() {
    let (medium, mut gate) = gated_medium();
    let (wal, published) = open(medium, WalConfig::default());
    let first = append(&wal, 1).await;
    gate.begun().await;
    let second = append(&wal, 2).await;
    gate.end(Err(WalError::ForeignWriter {
        path: "node1/wal/x.wal".to_owned(),
    }));
    for pending in [first, second] {
        assert!(matches!(
            pending.durable().await,
            Err(WalError::ForeignWriter { .. })
        ));
    }
    let error = wal.append(vec![3], 3).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "object node1/wal/x.wal exists already: another process writes to the log with the same node id"
    );
    assert!(!gate.has_begun(), "the medium is left alone");
    assert!(published.lock().unwrap().is_empty());
    wal.shutdown().await;
}

#[tokio::test]
async fn a_record_nobody_waits_for_is_flushed_at_once() {
    let (medium, mut gate) = gated_medium();
    let (wal, published) = open(medium, WalConfig::default());
    drop(append(&wal, 1).await);
    assert_eq!(gate.begun().await, flush(1, [1]));
    gate.end(Ok(()));
    wal.shutdown().await;
    assert_eq!(*published.lock().unwrap(), [(Lsn(1), 1)]);
}

#[tokio::test]
async fn appends_wait_for_room_and_are_admitted_in_order() {
    let (medium, mut gate) = gated_medium();
    let (wal, _) = open(medium, bytes_max(2, 1));
    let in_flush = append(&wal, 1).await;
    gate.begun().await;
    let queued = append(&wal, 2).await;
    let mut third = Box::pin(wal.append(vec![3], 3));
    let mut fourth = Box::pin(wal.append(vec![4], 4));
    let mut fifth = Box::pin(wal.append(vec![5], 5));
    for waiting in [&mut third, &mut fourth, &mut fifth] {
        assert!(poll!(waiting).is_pending());
    }
    gate.end(Ok(()));
    in_flush.durable().await.unwrap();
    let third = third.await.unwrap();
    assert!(poll!(&mut fourth).is_pending());
    assert_eq!(
        gate.begun().await,
        flush(2, [2, 3]),
        "a group is no larger than what may be pending"
    );
    gate.end(Ok(()));
    assert_eq!(queued.durable().await.unwrap(), Lsn(2));
    assert_eq!(third.durable().await.unwrap(), Lsn(3));
    let fourth = fourth.await.unwrap();
    let fifth = fifth.await.unwrap();
    assert_eq!(gate.begun().await, flush(4, [4, 5]));
    gate.end(Ok(()));
    assert_eq!(fourth.durable().await.unwrap(), Lsn(4));
    assert_eq!(fifth.durable().await.unwrap(), Lsn(5));
}

#[tokio::test]
async fn a_cancelled_append_keeps_its_place() {
    let (medium, mut gate) = gated_medium();
    let (wal, published) = open(medium, bytes_max(1, 1));
    let first = append(&wal, 1).await;
    gate.begun().await;
    let mut cancelled = Box::pin(wal.append(vec![2], 2));
    assert!(poll!(&mut cancelled).is_pending());
    let mut third = Box::pin(wal.append(vec![3], 3));
    assert!(poll!(&mut third).is_pending());
    drop(cancelled);
    gate.end(Ok(()));
    first.durable().await.unwrap();
    assert_eq!(gate.begun().await, flush(2, [2]));
    gate.end(Ok(()));
    let third = third.await.unwrap();
    assert_eq!(gate.begun().await, flush(3, [3]));
    gate.end(Ok(()));
    assert_eq!(third.durable().await.unwrap(), Lsn(3));
    assert_eq!(published.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_record_larger_than_the_limit_is_written_alone() {
    let (medium, mut gate) = gated_medium();
    let (wal, _) = open(medium, bytes_max(1, 10));
    let large = wal.append(vec![7; 1000], 7).await.unwrap();
    assert_eq!(gate.begun().await.payloads, [vec![7; 1000]]);
    gate.end(Ok(()));
    assert_eq!(large.durable().await.unwrap(), Lsn(1));
}

#[tokio::test]
async fn a_flush_waits_for_its_interval_unless_the_queue_is_full() {
    let (medium, mut gate) = gated_medium();
    let config = WalConfig {
        flush_interval: HOUR,
        ..bytes_max(3, 1)
    };
    let (wal, _) = open(medium, config);
    let first = append(&wal, 1).await;
    assert_eq!(
        gate.begun().await,
        flush(1, [1]),
        "the interval since the last flush is over"
    );
    gate.end(Ok(()));
    first.durable().await.unwrap();
    let mut waiting = Box::pin(append(&wal, 2).await.durable());
    assert!(poll!(&mut waiting).is_pending());
    assert!(!gate.has_begun());
    drop((append(&wal, 3).await, append(&wal, 4).await));
    assert_eq!(gate.begun().await, flush(2, [2, 3, 4]), "it is full");
    gate.end(Ok(()));
    assert_eq!(waiting.await.unwrap(), Lsn(2));
}

#[tokio::test]
async fn shutdown_flushes_what_waits_for_the_interval_and_refuses_more() {
    let (medium, gate) = gated_medium();
    gate.open(2);
    let config = WalConfig {
        flush_interval: HOUR,
        ..WalConfig::default()
    };
    let (wal, published) = open(medium, config);
    append(&wal, 1).await.durable().await.unwrap();
    let waiting = append(&wal, 2).await;
    drop(append(&wal, 3).await);
    wal.shutdown().await;
    wal.shutdown().await;
    assert_eq!(waiting.durable().await.unwrap(), Lsn(2));
    assert_eq!(published.lock().unwrap().len(), 3);
    assert_eq!(wal.stats().groups, 2);
    let error = wal.append(vec![4], 4).await.unwrap_err();
    assert_eq!(error.to_string(), "the log is shut down");
}

#[tokio::test]
async fn a_panic_in_publish_lets_everybody_go() {
    let (medium, mut gate) = gated_medium();
    let publish = |_: &mut Vec<(Lsn, u64)>| panic!("this panic belongs to the test");
    let wal = Wal::open(medium, bytes_max(2, 1), |_, _| Ok::<_, String>(()), publish).unwrap();
    let in_flush = append(&wal, 1).await;
    gate.begun().await;
    let queued = append(&wal, 2).await;
    let mut waiting = Box::pin(wal.append(vec![3], 3));
    assert!(poll!(&mut waiting).is_pending());
    gate.end(Ok(()));
    for pending in [in_flush, queued, waiting.await.unwrap()] {
        assert!(matches!(pending.durable().await, Err(WalError::Stopped)));
    }
    assert!(matches!(wal.append(vec![4], 4).await, Err(WalError::Stopped)));
    wal.shutdown().await;
}

#[tokio::test]
async fn a_payload_that_is_too_long_is_refused() {
    assert!(matches!(
        Record::new(vec![0; PAYLOAD_BYTES_MAX + 1]),
        Err(WalError::PayloadTooLarge { payload_bytes }) if payload_bytes == PAYLOAD_BYTES_MAX + 1
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appenders_are_all_answered_in_the_order_of_their_appends() {
    const TASKS: u64 = 8;
    const RECORDS: u64 = 500;
    let directory = tempfile::tempdir().unwrap();
    let medium = Box::new(tidemill_wal::FileMedium::open(directory.path()).unwrap());
    let config = WalConfig {
        segment_bytes_max: 50_000,
        pending_bytes_max: 2_000,
        ..WalConfig::default()
    };
    let (wal, published) = open(medium, config);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let wal = Arc::clone(&wal);
            tokio::spawn(async move {
                let mut last = Lsn::ZERO;
                let mut pending = Vec::new();
                for number in 0..RECORDS {
                    let value = task * RECORDS + number;
                    pending.push(wal.append(value.to_le_bytes().to_vec(), value).await.unwrap());
                    if number % 7 == 0 {
                        for pending in pending.drain(..) {
                            let lsn = pending.durable().await.unwrap();
                            assert!(lsn > last);
                            last = lsn;
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    wal.shutdown().await;
    let published = published.lock().unwrap();
    let lsns: Vec<u64> = published.iter().map(|(lsn, _)| lsn.0).collect();
    assert_eq!(lsns, (1..=TASKS * RECORDS).collect::<Vec<u64>>());
    for task in 0..TASKS {
        let of_task = published
            .iter()
            .map(|(_, value)| *value)
            .filter(|value| value / RECORDS == task);
        assert!(
            of_task.eq(task * RECORDS..(task + 1) * RECORDS),
            "task {task} is out of order"
        );
    }
    let stats = wal.stats();
    assert!(
        stats.groups < stats.records,
        "no group has more than one record: {stats:?}"
    );
    let records = wal.read(Lsn::ZERO, usize::MAX).unwrap();
    for ((lsn, payload), (published_lsn, value)) in records.iter().zip(published.iter()) {
        assert_eq!(
            (lsn, payload.as_slice()),
            (published_lsn, value.to_le_bytes().as_slice())
        );
    }
    assert_eq!(records.len() as u64, TASKS * RECORDS);
}
