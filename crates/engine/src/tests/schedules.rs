//! Scheduled triggers: when they run and what they are told.

use std::time::Duration;

use tidemill_triggers::ErrorBehavior;
use tidemill_worker_proto::Work;

use super::Server;
use super::fake_python::{Action, Call, FakePython};

fn time_ns(call: &Call) -> i64 {
    match &call.work {
        Work::Schedule { time_ns } => *time_ns,
        other => panic!("not a scheduled run: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instants_are_on_the_grid_and_never_come_twice() {
    let python = FakePython::new(|_| Action::Return(vec![]));
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "every:20ms").await;
    let calls = python.calls(6).await;
    let times: Vec<i64> = calls.iter().map(time_ns).collect();
    assert!(times.iter().all(|time| time % 20_000_000 == 0), "{times:?}");
    assert!(times.is_sorted_by(|first, second| first < second), "{times:?}");
    server
        .expect_log("db", "INFO starting execution with scheduled time ")
        .await;
    server.expect_log("db", "INFO finished execution in").await;
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instants_that_pass_during_a_run_are_skipped_and_counted() {
    let python = FakePython::new(|call| {
        if call.number == 0 {
            // Longer than many intervals; blocks the fake process only.
            std::thread::sleep(Duration::from_millis(150));
        }
        Action::Return(vec![])
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "every:10ms").await;
    let calls = python.calls(2).await;
    assert!(time_ns(&calls[1]) - time_ns(&calls[0]) >= 150_000_000);
    server
        .expect_log("db", "scheduled instants have passed and are skipped")
        .await;
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_have_two_rows_and_retry_keeps_the_instant() {
    let python = FakePython::new(|call| {
        if call.number < 3 {
            Action::Raise("no")
        } else {
            Action::Return(vec![])
        }
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server
        .create_with("r", "every:50ms", |t| {
            t.trigger_settings.error_behavior = ErrorBehavior::Retry;
        })
        .await;
    let calls = python.calls(4).await;
    assert!(calls[..4].iter().all(|call| time_ns(call) == time_ns(&calls[0])));
    server.engine.delete_trigger("db", "r", true).await.unwrap();

    let python = FakePython::new(|_| Action::Raise("no"));
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("l", "every:50ms").await;
    server
        .expect_log("db", "ERROR error executing schedule plugin: ValueError: no")
        .await;
    server
        .expect_log("db", "ERROR error running scheduled plugin: ValueError: no")
        .await;
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scheduled_runs_write_too() {
    let python = FakePython::new(|call| {
        Action::Return(vec![(
            None,
            format!("sampled n={}i {}", call.number, time_ns(call)),
        )])
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server
        .create_with("t", "every:20ms", |t| t.trigger_settings.run_async = true)
        .await;
    python.calls(3).await;
    server.expect_log("db", "finished execution in").await;
    server.engine.shutdown().await;
    assert!(!server.query("db", "SELECT n FROM sampled").await.is_empty());
}
