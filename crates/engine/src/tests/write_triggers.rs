//! Data-write triggers: what is delivered, in which order, and what failures lead to.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tidemill_ingest::SnapshotStep;
use tidemill_triggers::ErrorBehavior;

use super::fake_python::{Action, Call, FakePython};
use super::{Server, trigger};

fn returns_nothing(_: &Call) -> Action {
    Action::Return(vec![])
}

/// All rows that were delivered, in order.
fn rows(calls: &[Call]) -> Vec<String> {
    calls.iter().flat_map(Call::rows).collect()
}

/// Waits until that many rows were delivered.
async fn delivered(python: &FakePython, count: usize) -> Vec<Call> {
    let mut calls = 1;
    loop {
        let made = python.calls(calls).await;
        if rows(&made).len() >= count {
            return made;
        }
        calls = made.len() + 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_delivered_once_in_log_order_and_only_of_what_was_asked_for() {
    let python = FakePython::new(returns_nothing);
    let server = Server::start(&python).await;
    server.write("db", "cpu,host=before x=0 1").await;
    server.create("t", "table:cpu").await;
    server.write("db", "mem,host=a y=1 2").await;
    server.write("other", "cpu,host=a x=9 2").await;
    for number in 1..=20 {
        server
            .write("db", &format!("cpu,host=a x={number} {number}"))
            .await;
    }
    let calls = delivered(&python, 20).await;
    let expected: Vec<String> = (1..=20)
        .map(|number| format!("cpu: host=a,x={number}.0"))
        .collect();
    assert_eq!(rows(&calls), expected);
    assert_eq!(calls[0].load.arguments, None);
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_need_not_exist_and_all_tables_means_new_ones_too() {
    let python = FakePython::new(returns_nothing);
    let server = Server::start(&python).await;
    server.write("db", "seed x=1 1").await;
    server.create("one", "table:late").await;
    server.create("all", "all_tables").await;
    server
        .write("db", "late x=1 1\nnew y=2i 1\nlate x=3,z=\"s\" 2")
        .await;
    let calls = delivered(&python, 5).await;
    let of = |name: &str| {
        let calls: Vec<Call> = calls
            .iter()
            .filter(|call| call.load.trigger_name == name)
            .cloned()
            .collect();
        rows(&calls)
    };
    assert_eq!(of("one"), ["late: x=1.0", "late: x=3.0,z=s"]);
    assert_eq!(
        of("all"),
        ["late: x=1.0", "late: x=3.0,z=s", "new: y=2"],
        "tables in first-write order"
    );
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_committed_with_the_run_to_any_database() {
    let python = FakePython::new(|call| {
        let count = call.rows().len();
        let here = (None, format!("derived count={count}i 1"));
        Action::Return(vec![
            here,
            (Some("elsewhere"), "copy x=1 1\ncopy x=2 2".to_owned()),
        ])
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "table:cpu").await;
    server.write("db", "cpu x=1 2\ncpu x=2 3").await;
    server.expect_log("db", "finished execution in").await;
    assert_eq!(server.query("db", "SELECT count FROM derived").await, ["2"]);
    assert_eq!(
        server
            .query("elsewhere", "SELECT x FROM copy ORDER BY time")
            .await,
        ["1.0", "2.0"]
    );
    assert_eq!(
        server.log("db").await,
        [
            "INFO starting execution of wal plugin.",
            "INFO finished execution in"
        ]
    );
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_write_back_fails_the_whole_run() {
    let python = FakePython::new(|_| {
        Action::Return(vec![
            (Some("fine"), "ok x=1 1".to_owned()),
            (None, "cpu x=\"text\" 1".to_owned()),
        ])
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "table:cpu").await;
    server.write("db", "cpu x=1 2").await;
    server
        .expect_log(
            "db",
            "ERROR error running wal plugin: error writing back lines to db: Cannot write: ",
        )
        .await;
    assert!(
        server
            .ingest
            .catalog()
            .state()
            .database("fine")
            .is_none_or(|fine| fine.table("ok").is_none())
    );
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_drops_the_batch_and_goes_on() {
    let python = FakePython::new(|call| {
        if call.number == 0 {
            Action::Raise("no")
        } else {
            Action::Return(vec![])
        }
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "table:cpu").await;
    server.write("db", "cpu x=1 2").await;
    server
        .expect_log("db", "ERROR error executing wal plugin: ValueError: no")
        .await;
    server.write("db", "cpu x=2 3").await;
    let calls = python.calls(2).await;
    assert_eq!(rows(&calls), ["cpu: x=1.0", "cpu: x=2.0"]);
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_repeats_the_same_batch_until_it_succeeds() {
    let python = FakePython::new(|call| {
        if call.number < 4 {
            Action::Raise("no")
        } else {
            Action::Return(vec![])
        }
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server
        .create_with("t", "table:cpu", |t| {
            t.trigger_settings.error_behavior = ErrorBehavior::Retry;
        })
        .await;
    server.write("db", "cpu x=1 2").await;
    let calls = python.calls(5).await;
    server.expect_log("db", "finished execution in").await;
    for call in &calls[..5] {
        assert_eq!((call.rows(), &call.run_id), (calls[0].rows(), &calls[0].run_id));
    }
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disable_is_recorded_with_its_reason_and_enable_repeats_the_batch() {
    let python = FakePython::new(|call| {
        if call.number == 0 {
            Action::Raise("bad")
        } else {
            Action::Return(vec![])
        }
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server
        .create_with("t", "table:cpu", |t| {
            t.trigger_settings.error_behavior = ErrorBehavior::Disable;
        })
        .await;
    server.write("db", "cpu x=1 2").await;
    let sql = "SELECT disabled, error_behavior FROM system.processing_engine_triggers";
    server.expect_rows("db", sql, &["true|disable"]).await;
    let reason = |server: &Server| {
        let state = server.ingest.catalog().state();
        state
            .database("db")
            .unwrap()
            .trigger("t")
            .unwrap()
            .disabled_reason
            .clone()
    };
    assert_eq!(reason(&server).as_deref(), Some("ValueError: bad"));

    // It stays so over a restart, and enabling it brings back the batch that failed.
    let server = server.restart(&python).await;
    assert_eq!(python.calls.borrow().len(), 1);
    server.engine.enable_trigger("db", "t").await.unwrap();
    let calls = python.calls(2).await;
    assert_eq!(
        (calls[1].rows(), reason(&server)),
        (vec!["cpu: x=1.0".to_owned()], None)
    );
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_counts_as_a_failed_run_and_is_restarted() {
    let python = FakePython::new(|call| {
        if call.number < 2 {
            Action::Exit(1)
        } else {
            Action::Return(vec![])
        }
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "table:cpu").await;
    server.write("db", "cpu x=1 2").await;
    server
        .expect_log(
            "db",
            "ERROR error executing wal plugin: the plugin's process exited with code 1",
        )
        .await;
    server.write("db", "cpu x=2 3").await;
    python.calls(2).await;
    server.write("db", "cpu x=3 4").await;
    server.expect_log("db", "finished execution in").await;
    assert!(python.launches.load(Ordering::SeqCst) >= 3);
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_closes_its_connection_is_not_pressed() {
    let python = FakePython::new(|call| {
        if call.number == 0 {
            Action::ReturnAndClose
        } else {
            Action::Return(vec![])
        }
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "table:cpu").await;
    server.write("db", "cpu x=1 2").await;
    server.expect_log("db", "finished execution in").await;
    server.write("db", "cpu x=2 3").await;
    let calls = python.calls(2).await;
    assert_eq!(rows(&calls), ["cpu: x=1.0", "cpu: x=2.0"]);
    let log = server.log("db").await;
    let starts = log
        .iter()
        .filter(|row| row.contains("starting execution"))
        .count();
    assert_eq!(starts, 2, "{log:#?}");
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_takes_too_long_is_cancelled_or_killed_and_the_trigger_goes_on() {
    let python = FakePython::new(|call| match call.number {
        0 => Action::HangUntilCancelled,
        1 => Action::Hang,
        _ => Action::Return(vec![]),
    });
    let server = Server::start_with(&python, |config| {
        config.run_timeout = Duration::from_millis(100);
        config.stop_grace = Duration::from_millis(100);
    });
    let server = server.await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "table:cpu").await;
    server.write("db", "cpu x=1 2").await;
    server
        .expect_log("db", "error executing wal plugin: ValueError: cancelled")
        .await;
    server.write("db", "cpu x=2 3").await;
    server
        .expect_log(
            "db",
            "error executing wal plugin: the run exceeded its time limit of 100ms",
        )
        .await;
    server.write("db", "cpu x=3 4").await;
    server.expect_log("db", "finished execution in").await;
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_with_too_much_memory_is_killed_and_the_trigger_goes_on() {
    let python = FakePython::new(|call| match call.number {
        0 => Action::Hang,
        _ => Action::Return(vec![]),
    });
    let server = Server::start_with(&python, |config| config.worker_memory_bytes_max = Some(5 << 20)).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "table:cpu").await;
    server.write("db", "cpu x=1 2").await;
    python.calls(1).await;
    python.resident_bytes.store(6 << 20, Ordering::SeqCst);
    server
        .expect_log(
            "db",
            "error executing wal plugin: the plugin's process exceeded its memory limit of 5MiB",
        )
        .await;
    python.resident_bytes.store(0, Ordering::SeqCst);
    server.write("db", "cpu x=2 3").await;
    server.expect_log("db", "finished execution in").await;
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_plugin_delays_neither_its_neighbours_nor_its_end() {
    let python = FakePython::new(|call| {
        if call.load.trigger_name == "hangs" {
            Action::Hang
        } else {
            Action::Return(vec![])
        }
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("hangs", "table:cpu").await;
    server.create("runs", "table:cpu").await;
    server.write("db", "cpu x=1 2").await;
    server.expect_log("db", "finished execution in").await;
    let started = Instant::now();
    server.engine.delete_trigger("db", "hangs", true).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asynchronous_runs_overlap_up_to_the_limit() {
    let python = FakePython::new(|call| {
        if call.rows().iter().any(|row| row.contains("hang")) {
            Action::Hang
        } else {
            Action::Return(vec![])
        }
    });
    let server = Server::start_with(&python, |config| config.async_concurrency_max = 3).await;
    server.write("db", "cpu x=0 1").await;
    server
        .create_with("t", "table:cpu", |t| t.trigger_settings.run_async = true)
        .await;
    let mut delivered_runs = 0;
    for (number, host) in ["hang", "free", "hang", "free", "hang"].into_iter().enumerate() {
        server
            .write("db", &format!("cpu,host={host} x={number} {number}"))
            .await;
        delivered_runs += 1;
        python.calls(delivered_runs).await;
    }
    // Three hang now; what comes next waits.
    server.write("db", "cpu,host=free x=5 5").await;
    server.write("db", "cpu,host=free x=6 6").await;
    assert_eq!(python.calls.borrow()[0].load.concurrency, 3);
    assert_eq!(python.calls.borrow().len(), 5);
    server.engine.disable_trigger("db", "t").await.unwrap();
    assert_eq!(python.calls.borrow().len(), 5);

    // What has not ended comes again, and nothing that has; one run gets everything since the last.
    server.engine.enable_trigger("db", "t").await.unwrap();
    let mut again: Vec<Vec<String>> = python.calls(8).await[5..].iter().map(Call::rows).collect();
    again.sort();
    let rest = [
        "cpu: host=hang,x=4.0",
        "cpu: host=free,x=5.0",
        "cpu: host=free,x=6.0",
    ];
    assert_eq!(
        again,
        [&["cpu: host=hang,x=0.0"][..], &["cpu: host=hang,x=2.0"], &rest]
    );
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_delivery_goes_on_where_it_stopped() {
    let python = FakePython::new(returns_nothing);
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "table:cpu").await;
    server.write("db", "cpu x=1 2").await;
    delivered(&python, 1).await;
    server.engine.shutdown().await;
    // Written while no trigger runs.
    server.write("db", "cpu x=2 3").await;
    let server = server.restart(&python).await;
    server.write("db", "cpu x=3 4").await;
    let calls = delivered(&python, 3).await;
    assert_eq!(rows(&calls), ["cpu: x=1.0", "cpu: x=2.0", "cpu: x=3.0"]);
    server.engine.shutdown().await;
}

/// Writes a row to the other of two tables for each row.
fn bounces(call: &Call) -> Action {
    let lines = call.rows().into_iter().map(|row| {
        let to = if row.starts_with("ping") { "pong" } else { "ping" };
        format!("{to},call={} x=1", call.number)
    });
    Action::Return(vec![(None, lines.collect::<Vec<_>>().join("\n"))])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn triggers_that_feed_one_another_are_stopped() {
    let python = FakePython::new(bounces);
    let server = Server::start(&python).await;
    server.write("db", "seed x=1 1").await;
    server.create("a", "table:ping").await;
    server.create("b", "table:pong").await;
    server.write("db", "ping x=1 1").await;
    server
        .expect_log(
            "db",
            "triggers feed one another: 1 rows have come through 16 triggers",
        )
        .await;
    assert_eq!(python.calls(16).await.len(), 16);
    // What clients write is run as before.
    server.write("db", "ping x=2 2").await;
    assert!(python.calls(32).await.len() >= 32);
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_trigger_that_passes_over_its_own_rows_is_no_loop() {
    let python = FakePython::new(|call| {
        let rows = call.rows();
        let lines = rows.iter().filter(|row| !row.starts_with("derived"));
        let lines: Vec<String> = lines
            .map(|row| {
                let (_, x) = row.rsplit_once("x=").unwrap();
                format!("derived x={x} {}", x.trim_end_matches(".0"))
            })
            .collect();
        if lines.is_empty() {
            return Action::Return(vec![]);
        }
        Action::Return(vec![(None, lines.join("\n"))])
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "all_tables").await;
    for number in 1..=200 {
        server.write("db", &format!("cpu x={number} {number}")).await;
    }
    server
        .expect_rows("db", "SELECT count(*), sum(x) FROM derived", &["200|20100.0"])
        .await;
    let log = server.log("db").await;
    assert!(!log.iter().any(|row| row.starts_with("ERROR")), "{log:#?}");
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_can_start_with_what_was_written_before() {
    let python = FakePython::new(returns_nothing);
    let server = Server::start(&python).await;
    for (number, received_ns) in [(1, 1_000_000_000), (2, 2_000_000_000), (3, 3_000_000_000)] {
        server
            .write_at("db", &format!("cpu x={number} {number}"), received_ns)
            .await;
    }
    for (name, start_at, expected) in [
        (
            "all",
            "beginning",
            &["cpu: x=1.0", "cpu: x=2.0", "cpu: x=3.0"][..],
        ),
        ("later", "1970-01-01T00:00:02Z", &["cpu: x=2.0", "cpu: x=3.0"]),
    ] {
        let before = python.calls(0).await.len();
        server
            .create_with(name, "table:cpu", |t| {
                t.start_at = Some(start_at.parse().unwrap());
            })
            .await;
        let calls = python.calls(before + 1).await;
        assert_eq!(rows(&calls[before..]), expected, "{start_at}");
        server.engine.disable_trigger("db", name).await.unwrap();
    }
    let mut scheduled = trigger("s", "every:1h");
    scheduled.start_at = Some("beginning".parse().unwrap());
    let refused = server.engine.create_trigger(scheduled).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("the setting 'start_at' is for triggers on writes")
    );
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_that_the_log_was_not_kept_for_goes_on_and_says_what_it_has_missed() {
    let python = FakePython::new(returns_nothing);
    let server = Server::start(&python).await;
    server.write("db", "seed x=1 1").await;
    let mut stopped = trigger("t", "all_tables");
    stopped.disabled = true;
    server.engine.create_trigger(stopped).await.unwrap();
    // Twice as much as the tail of these tests holds in memory.
    let text = "a".repeat(10 * 1024);
    for number in 0..200 {
        server
            .write("db", &format!("cpu,host=a text=\"{text}\",x={number} {number}"))
            .await;
    }
    // In these tests nothing but the last segment of the log is kept for triggers.
    let step = server.ingest.snapshot_now(0).await;
    assert!(matches!(step, SnapshotStep::Done(_)), "{step:?}");
    let first = server.ingest.log_start().0;
    assert!(first > 10, "the log begins at {first}");

    server.engine.enable_trigger("db", "t").await.unwrap();
    server.write("db", "cpu,host=new x=1 1000").await;
    let last = "cpu: host=new,x=1.0";
    let mut calls = 1;
    let delivered = loop {
        let made = rows(&python.calls(calls).await);
        if made.last().is_some_and(|row| row == last) {
            break made;
        }
        calls += 1;
    };
    assert!(delivered.len() < 190, "{} rows were delivered", delivered.len());
    let skipped = format!("{}|true", first - 1);
    let status =
        "SELECT skipped_records, skipped_since IS NOT NULL FROM system.processing_engine_trigger_status";
    server.expect_rows("db", status, &[&skipped]).await;
    let log = server.log("db").await;
    assert!(
        log.iter()
            .any(|line| line.contains("were removed before this trigger had read them")),
        "{log:?}"
    );
    server.engine.shutdown().await;
}
