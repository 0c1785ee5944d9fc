//! What is observed of triggers: how runs end, what is counted, in which state a trigger is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemill_triggers::ErrorBehavior;

use super::fake_python::{Action, FakePython};
use super::{Server, trigger};
use crate::{PluginRequest, RunStatus, TriggerReport, TriggerState};

const RUNS: &str = "SELECT status, attempts, rows_in, lines_written, coalesce(error, '-') FROM system.processing_engine_runs \
                    ORDER BY start_time, run_id";
const STATE: &str = "SELECT state, coalesce(reason, '-') FROM system.processing_engine_trigger_status";

fn report(server: &Server, name: &str) -> TriggerReport {
    let reports = server.engine.trigger_reports();
    let found = reports.into_iter().find(|report| report.trigger_name == name);
    found.expect("it is there")
}

fn runs(report: &TriggerReport, status: RunStatus) -> u64 {
    report.runs[status as usize]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_end_of_a_run_has_its_status() {
    let python = FakePython::new(|call| {
        let rows = call.rows().join(" ");
        match (
            rows.contains("fail"),
            rows.contains("exit"),
            rows.contains("hang"),
        ) {
            (true, _, _) => Action::Raise("no"),
            (_, true, _) => Action::Exit(3),
            (_, _, true) => Action::HangUntilCancelled,
            _ => Action::Return(vec![(None, "out x=1\nout x=2".to_owned())]),
        }
    });
    let server = Server::start_with(&python, |config| config.run_timeout = Duration::from_millis(300)).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "table:cpu").await;
    let lost = "killed|1|1|0|the plugin's process exited with code 3";
    let ends = [
        ("cpu x=1 1\ncpu x=2 2", "ok|1|2|2|-"),
        ("cpu fail=1 3", "failed|1|1|0|ValueError: no"),
        ("cpu exit=1 4", lost),
        ("cpu hang=1 5", "timed_out|1|1|0|ValueError: cancelled"),
    ];
    let mut expected = Vec::new();
    for (lines, end) in ends {
        server.write("db", lines).await;
        expected.push(end);
        server.expect_rows("db", RUNS, &expected).await;
    }
    let report = report(&server, "t");
    for status in RunStatus::ALL {
        assert_eq!(
            runs(&report, status),
            u64::from(!matches!(status, RunStatus::Stopped | RunStatus::Abandoned)),
            "{status:?}"
        );
    }
    assert_eq!(
        (report.rows_in, report.lines_written, report.skipped_rows),
        (5, 2, 3)
    );
    assert_eq!((report.failed_attempts, report.timed_out_attempts), (3, 1));
    assert_eq!((report.restarts, report.kills, report.unrecorded_runs), (1, 0, 0));
    assert_eq!(report.durations.count, 4);
    let (_, error) = report.last_error.expect("the last one");
    assert_eq!(&*error, "ValueError: cancelled");
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_with_many_attempts_is_one_run() {
    let python = FakePython::new(|call| {
        if call.number < 3 {
            Action::Raise("not yet")
        } else {
            Action::Return(vec![])
        }
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server
        .create_with("t", "all_tables", |request| {
            request.trigger_settings.error_behavior = ErrorBehavior::Retry;
        })
        .await;
    server.write("db", "cpu x=1 2").await;
    server.expect_rows("db", RUNS, &["ok|4|1|0|-"]).await;
    let report = report(&server, "t");
    assert_eq!(
        (report.failed_attempts, report.failed_runs(), report.skipped_rows),
        (3, 0, 0)
    );
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_very_many_runs_a_share_is_kept_and_all_are_counted() {
    let python = FakePython::new(|call| {
        if call.run_id.ends_with("-1500") {
            Action::Raise("no")
        } else {
            Action::Respond(200, "")
        }
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "request:r").await;
    for _ in 0..1_600 {
        // One of them fails.
        let _answer = server.engine.handle_request("r", PluginRequest::default()).await;
    }
    let report = report(&server, "t");
    assert_eq!(
        (runs(&report, RunStatus::Ok), runs(&report, RunStatus::Failed)),
        (1_599, 1)
    );
    let kept = server
        .query(
            "db",
            "SELECT status, count(*) AS n FROM system.processing_engine_runs GROUP BY status ORDER BY status",
        )
        .await;
    assert_eq!(kept[0], "failed|1", "failures do not share with successes");
    let kept: u64 = kept[1].strip_prefix("ok|").unwrap().parse().unwrap();
    assert!((1_000..1_100).contains(&kept), "{kept}");
    assert_eq!(report.unrecorded_runs, 1_599 - kept);
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_a_trigger_says_why() {
    let python = FakePython::new(|_| Action::Hang);
    python.available.store(false, Ordering::SeqCst);
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "table:cpu").await;
    server
        .expect_rows("db", STATE, &["python_unavailable|install python3"])
        .await;
    python.available.store(true, Ordering::SeqCst);
    server.engine.enable_trigger("db", "t").await.unwrap();
    server.expect_rows("db", STATE, &["running|-"]).await;

    // One run hangs; the rows behind it are the lag.
    let lag = "SELECT runs_in_flight, lag_rows, lag_bytes > 0, lag_seconds > 0, lag_is_estimated \
               FROM system.processing_engine_trigger_status";
    server.expect_rows("db", lag, &["0|0|false|false|false"]).await;
    server.write("db", "cpu x=1 1\nmem x=1 1").await;
    python.calls(1).await;
    server.write("db", "cpu x=2 2\ncpu x=3 3").await;
    server.expect_rows("db", lag, &["1|3|true|true|false"]).await;

    server.engine.disable_trigger("db", "t").await.unwrap();
    server.expect_rows("db", STATE, &["disabled|-"]).await;
    server.expect_rows("db", RUNS, &["stopped|1|1|0|-"]).await;
    let disabled = report(&server, "t");
    assert_eq!(
        (disabled.state, disabled.processes.is_empty()),
        (TriggerState::Disabled, true)
    );
    assert_eq!(disabled.lag.map(|lag| lag.backlog.rows), Some(Some(3)));
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lag_beyond_the_tail_is_an_estimate() {
    let python = FakePython::new(|_| Action::Hang);
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    let mut stopped = trigger("t", "table:cpu");
    stopped.disabled = true;
    server.engine.create_trigger(stopped).await.unwrap();
    // Some 6 MiB, of which the tail of these tests holds one.
    let lines: String = (0..5_000)
        .map(|row| format!("cpu x={row},text=\"{}\" {row}\n", "y".repeat(100)))
        .collect();
    for _ in 0..10 {
        server.write("db", &lines).await;
    }
    let lag = report(&server, "t").lag.expect("it reads the log");
    let rows = lag.backlog.rows.expect("there are newer ones");
    assert!(
        lag.backlog.is_estimated && (49_000..=51_000).contains(&rows),
        "{lag:?}"
    );
    server.engine.shutdown().await;
}
