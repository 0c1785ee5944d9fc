//! What an append costs on a disk: a lone small one, and large ones from several tasks at once, beside the bare
//! write and sync of the same bytes.
//!
//! `cargo run --release -p tidemill-wal --example append_cost -- [directory on the disk to measure]`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemill_wal::{FileMedium, Lsn, Wal, WalConfig};

const LONE_BYTES: usize = 300;
const LONE_APPENDS: usize = 2000;
const LARGE_BYTES: usize = 600_000;
const LARGE_APPENDS: usize = 100;
const TASKS: usize = 8;

fn main() {
    let place: PathBuf = std::env::args_os()
        .nth(1)
        .map_or_else(|| ".".into(), PathBuf::from);
    let directory = tempfile::tempdir_in(place).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();

    report(
        "bare write and fdatasync, 300 B",
        bare_appends(&directory.path().join("bare"), LONE_BYTES),
    );
    let latencies = runtime.block_on(lone_appends(&directory.path().join("lone")));
    report("lone append, 300 B", latencies);

    report(
        "bare write and fdatasync, 600 kB",
        bare_appends(&directory.path().join("large"), LARGE_BYTES),
    );
    let (elapsed, latencies, group_records) =
        runtime.block_on(concurrent_appends(&directory.path().join("concurrent")));
    report("append among 8 tasks, 600 kB", latencies);
    let megabytes = (TASKS * LARGE_APPENDS * LARGE_BYTES) as f64 / 1e6;
    println!(
        "8 tasks, 600 kB payloads: {:.0} MB/s, {:.0} appends/s, {group_records:.1} records a group",
        megabytes / elapsed.as_secs_f64(),
        (TASKS * LARGE_APPENDS) as f64 / elapsed.as_secs_f64(),
    );
}

fn open(directory: &Path) -> Wal<()> {
    let medium = Box::new(FileMedium::open(directory).unwrap());
    let publish = |group: &mut Vec<(Lsn, ())>| group.clear();
    Wal::open(medium, WalConfig::default(), |_, _| Ok::<_, String>(()), publish).unwrap()
}

fn bare_appends(path: &Path, payload_bytes: usize) -> Vec<Duration> {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    let payload = vec![7; payload_bytes];
    let appends = if payload_bytes > LONE_BYTES {
        LARGE_APPENDS
    } else {
        LONE_APPENDS
    };
    (0..appends)
        .map(|_| {
            let started = Instant::now();
            file.write_all(&payload).unwrap();
            file.sync_data().unwrap();
            started.elapsed()
        })
        .collect()
}

async fn lone_appends(directory: &Path) -> Vec<Duration> {
    let wal = Arc::new(open(directory));
    // As a server does it: the task that waits runs on a worker thread of the runtime.
    let task = tokio::spawn({
        let wal = Arc::clone(&wal);
        async move {
            let mut latencies = Vec::with_capacity(LONE_APPENDS);
            for _ in 0..LONE_APPENDS {
                let payload = vec![7; LONE_BYTES];
                let started = Instant::now();
                wal.append(payload, ()).await.unwrap().durable().await.unwrap();
                latencies.push(started.elapsed());
            }
            latencies
        }
    });
    let latencies = task.await.unwrap();
    wal.shutdown().await;
    latencies
}

async fn concurrent_appends(directory: &Path) -> (Duration, Vec<Duration>, f64) {
    let wal = Arc::new(open(directory));
    let started = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let wal = Arc::clone(&wal);
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(LARGE_APPENDS);
                for _ in 0..LARGE_APPENDS {
                    let payload = vec![7; LARGE_BYTES];
                    let append_started = Instant::now();
                    wal.append(payload, ()).await.unwrap().durable().await.unwrap();
                    latencies.push(append_started.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    let elapsed = started.elapsed();
    let stats = wal.stats();
    wal.shutdown().await;
    (elapsed, latencies, stats.records as f64 / stats.groups as f64)
}

fn report(what: &str, mut latencies: Vec<Duration>) {
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100].as_micros();
    println!(
        "{what}: p10 {} µs, p50 {} µs, p90 {} µs, p99 {} µs",
        at(10),
        at(50),
        at(90),
        at(99)
    );
}
