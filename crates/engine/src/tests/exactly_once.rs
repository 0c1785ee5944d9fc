//! What a run wrote is there once: after a crash between the ends of runs that overlap, and where a trigger starts anew
//! while the last record of the time before is still on its way into the log.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tidemill_wal::{DurableLog, FileMedium, Lsn, Medium, Record, Recovery, Visitor, WalConfig, WalError};
use tokio::sync::watch;

use super::fake_python::{Action, Call, FakePython};
use super::{Server, open_medium};

const DONE: &str = "SELECT x, count(*) FROM done GROUP BY x ORDER BY x";

/// Writes a row of its own to `done` for each row, so that what is run twice is seen twice.
fn copies(call: &Call, process: &str) -> Action {
    let rows = call.rows();
    let lines = rows.iter().map(|row| {
        let (_, x) = row.rsplit_once("x=").unwrap();
        let time = x.trim_end_matches(".0");
        format!("done,process={process},call={} x={x} {time}", call.number)
    });
    Action::Return(vec![(None, lines.collect::<Vec<_>>().join("\n"))])
}

/// All rows that were delivered, sorted.
fn sorted_rows(calls: &[Call]) -> Vec<String> {
    let mut rows: Vec<String> = calls.iter().flat_map(Call::rows).collect();
    rows.sort();
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_the_ends_of_overlapping_runs_repeats_and_skips_none() {
    let before = FakePython::new(|call| {
        if call.rows()[0].contains("hangs") {
            Action::Hang
        } else {
            copies(call, "before")
        }
    });
    let server = Server::start_with(&before, |config| config.async_concurrency_max = 3).await;
    server.write("db", "cpu x=0 1").await;
    server
        .create_with("t", "table:cpu", |t| t.trigger_settings.run_async = true)
        .await;
    // One run a row: each is written when the run before it has begun.
    for (number, host) in [(1, "hangs"), (2, "ends"), (3, "hangs"), (4, "ends"), (5, "ends")] {
        server
            .write("db", &format!("cpu,host={host} x={number} {number}"))
            .await;
        before.calls(number).await;
    }
    server.expect_rows("db", DONE, &["2.0|1", "4.0|1", "5.0|1"]).await;

    let after = FakePython::new(|call| copies(call, "after"));
    let server = server
        .crash(&after, |config| config.async_concurrency_max = 3)
        .await;
    server.write("db", "cpu,host=ends x=6 6").await;
    let all = ["1.0|1", "2.0|1", "3.0|1", "4.0|1", "5.0|1", "6.0|1"];
    server.expect_rows("db", DONE, &all).await;
    let calls = after.calls(3).await;
    assert_eq!(
        sorted_rows(&calls),
        [
            "cpu: host=ends,x=6.0",
            "cpu: host=hangs,x=1.0",
            "cpu: host=hangs,x=3.0"
        ]
    );
    // By the same name, so that who was told of the first attempt can know the second one.
    let run_id = |calls: &[Call], row: &str| {
        let call = calls.iter().find(|call| call.rows()[0].contains(row));
        call.map(|call| call.run_id.clone())
    };
    assert_eq!(run_id(&calls, "x=3.0"), run_id(&before.calls(3).await, "x=3.0"));

    // All of it is on record: nothing comes again, in this process or the next.
    server.engine.disable_trigger("db", "t").await.unwrap();
    server.engine.enable_trigger("db", "t").await.unwrap();
    server.write("db", "cpu,host=ends x=7 7").await;
    assert_eq!(after.calls(4).await[3].rows(), ["cpu: host=ends,x=7.0"]);
    let server = server.restart(&after).await;
    server.write("db", "cpu,host=ends x=8 8").await;
    assert_eq!(after.calls(5).await[4].rows(), ["cpu: host=ends,x=8.0"]);
    let all = [
        "1.0|1", "2.0|1", "3.0|1", "4.0|1", "5.0|1", "6.0|1", "7.0|1", "8.0|1",
    ];
    server.expect_rows("db", DONE, &all).await;
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_starts_anew_behind_the_records_that_are_on_their_way() {
    let disk = Arc::new(SlowDisk::new());
    let script_disk = Arc::clone(&disk);
    let python = FakePython::new(move |call| {
        if call.number == 0 {
            script_disk.stall();
        }
        copies(call, "only")
    });
    let slow = Arc::clone(&disk);
    let server = Server::start_on(&python, move |dir| {
        Box::new(SlowMedium {
            medium: open_medium(dir),
            disk: slow,
        })
    })
    .await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "table:cpu").await;
    server.write("db", "cpu x=1 2").await;
    disk.until_waited_for().await;
    // The run gets its grace period; its record is in order and not durable.
    server.engine.disable_trigger("db", "t").await.unwrap();
    server.engine.enable_trigger("db", "t").await.unwrap();
    python.until_launched(2).await;
    disk.go_on();
    server.write("db", "cpu x=2 3").await;
    let calls = python.calls(2).await;
    assert_eq!(calls[1].rows(), ["cpu: x=2.0"]);
    server.expect_rows("db", DONE, &["1.0|1", "2.0|1"]).await;
    server.engine.shutdown().await;
}

/// A disk that can be made to take its time.
struct SlowDisk {
    stalls: Mutex<bool>,
    goes_on: Condvar,
    is_waited_for: watch::Sender<bool>,
}

impl SlowDisk {
    fn new() -> Self {
        Self {
            stalls: Mutex::new(false),
            goes_on: Condvar::new(),
            is_waited_for: watch::Sender::new(false),
        }
    }

    fn stall(&self) {
        *self.stalls.lock() = true;
    }

    fn go_on(&self) {
        *self.stalls.lock() = false;
        self.goes_on.notify_all();
    }

    /// Waits until the log waits for the disk.
    async fn until_waited_for(&self) {
        let mut waited_for = self.is_waited_for.subscribe();
        waited_for.wait_for(|waited_for| *waited_for).await.unwrap();
    }
}

struct SlowMedium {
    medium: FileMedium,
    disk: Arc<SlowDisk>,
}

impl Medium for SlowMedium {
    fn recover(&mut self, config: &WalConfig, visit: &mut Visitor<'_>) -> Result<Recovery, WalError> {
        self.medium.recover(config, visit)
    }

    fn append(&mut self, first: Lsn, group: &[Record]) -> Result<(), WalError> {
        let mut stalls = self.disk.stalls.lock();
        while *stalls {
            self.disk.is_waited_for.send_replace(true);
            self.disk.goes_on.wait(&mut stalls);
        }
        drop(stalls);
        self.medium.append(first, group)
    }

    fn durable_log(&self) -> Arc<dyn DurableLog> {
        self.medium.durable_log()
    }
}
