//! Scheduled triggers: when they run and what they are told.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tidemill_triggers::{CatchUp, ErrorBehavior};
use tidemill_worker_proto::Work;

use super::Server;
use super::fake_clock::FakeClock;
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

/// The instants of all runs so far, once there are `count`.
async fn instants(python: &FakePython, count: usize) -> Vec<String> {
    let calls = python.calls(count).await;
    let instants = calls
        .iter()
        .map(|call| DateTime::<Utc>::from_timestamp_nanos(time_ns(call)));
    instants
        .map(|instant| instant.format("%H:%M:%S").to_string())
        .collect()
}

async fn create(server: &Server, name: &str, spec: &str, catch_up: CatchUp) {
    let set = |t: &mut crate::CreateTrigger| t.trigger_settings.catch_up = Some(catch_up);
    server.create_with(name, spec, set).await;
}

/// Waits until so many runs have ended, and what they leave in the log is on its way.
async fn ended(server: &Server, count: usize) {
    for _ in 0..2_000 {
        let log = server.log("db").await;
        if log
            .iter()
            .filter(|row| row.contains("finished execution in"))
            .count()
            >= count
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no {count} runs have ended: {:#?}", server.log("db").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_moves_the_schedule_as_documented() {
    let python = FakePython::new(|_| Action::Return(vec![]));
    let clock = FakeClock::at("2026-01-01T00:59:00Z");
    let server = Server::start_at(&clock, &python).await;
    server.write("db", "cpu x=0 1").await;
    create(&server, "t", "every:1h", CatchUp::None).await;
    clock.move_by(TimeDelta::minutes(1)).await;
    assert_eq!(instants(&python, 1).await, ["01:00:00"]);
    ended(&server, 1).await;
    // Back by less than an interval: the instant does not come again.
    clock.move_by(TimeDelta::minutes(-30)).await;
    clock.move_by(TimeDelta::minutes(40)).await;
    // Forward over three instants: missed, and not made up for.
    clock.move_by(TimeDelta::minutes(200)).await;
    server
        .expect_log("db", "WARN 3 scheduled instants have passed and are skipped")
        .await;
    clock.move_by(TimeDelta::minutes(30)).await;
    assert_eq!(instants(&python, 2).await, ["01:00:00", "05:00:00"]);
    ended(&server, 2).await;
    // Back by more: the schedule follows the clock.
    clock.move_by(TimeDelta::minutes(-150)).await;
    server
        .expect_log("db", "WARN the clock was set back by 2h 30m")
        .await;
    clock.move_by(TimeDelta::minutes(30)).await;
    assert_eq!(instants(&python, 3).await, ["01:00:00", "05:00:00", "03:00:00"]);
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instants_that_pass_while_the_server_is_down_are_caught_up_as_set() {
    for (catch_up, expected) in [
        (CatchUp::None, &["00:01:00", "00:06:00"][..]),
        (CatchUp::Latest, &["00:01:00", "00:05:00", "00:06:00"]),
        (
            CatchUp::All,
            &[
                "00:01:00", "00:02:00", "00:03:00", "00:04:00", "00:05:00", "00:06:00",
            ],
        ),
    ] {
        // A run that writes and one that does not: both leave their instant behind.
        for line in ["", "sampled v=1"] {
            let script = move |_: &Call| match line {
                "" => Action::Return(vec![]),
                line => Action::Return(vec![(None, line.to_owned())]),
            };
            let python = FakePython::new(script);
            let clock = FakeClock::at("2026-01-01T00:00:30Z");
            let server = Server::start_at(&clock, &python).await;
            server.write("db", "cpu x=0 1").await;
            create(&server, "t", "every:1m", catch_up).await;
            clock.move_by(TimeDelta::seconds(30)).await;
            assert_eq!(instants(&python, 1).await, ["00:01:00"]);
            ended(&server, 1).await;
            clock.set_by(TimeDelta::zero());
            let server = server.restart(&python).await;
            clock.awaited().await;
            assert_eq!(python.calls.borrow().len(), 1, "nothing comes twice");
            server.engine.shutdown().await;
            clock.set_by(TimeDelta::seconds(270));
            let server = server.restart(&python).await;
            let caught_up = expected.len() - 1;
            assert_eq!(
                instants(&python, caught_up).await,
                expected[..caught_up],
                "{catch_up:?}"
            );
            ended(&server, caught_up - 1).await;
            clock.move_by(TimeDelta::seconds(30)).await;
            assert_eq!(instants(&python, expected.len()).await, expected, "{catch_up:?}");
            server.engine.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instant_before_the_first_run_counts_as_missed() {
    let python = FakePython::new(|_| Action::Return(vec![]));
    let clock = FakeClock::at("2026-01-01T00:00:30Z");
    let server = Server::start_at(&clock, &python).await;
    server.write("db", "cpu x=0 1").await;
    create(&server, "t", "every:1h", CatchUp::All).await;
    clock.awaited().await;
    server.engine.shutdown().await;
    clock.set_by(TimeDelta::hours(2));
    let server = server.restart(&python).await;
    assert_eq!(instants(&python, 2).await, ["01:00:00", "02:00:00"]);
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_while_a_trigger_is_disabled_is_not_caught_up_but_while_it_is_changed_is() {
    let python = FakePython::new(|_| Action::Return(vec![]));
    let clock = FakeClock::at("2026-01-01T00:00:30Z");
    let server = Server::start_at(&clock, &python).await;
    server.write("db", "cpu x=0 1").await;
    create(&server, "t", "every:1m", CatchUp::All).await;
    clock.move_by(TimeDelta::seconds(30)).await;
    assert_eq!(instants(&python, 1).await, ["00:01:00"]);
    ended(&server, 1).await;
    server.engine.disable_trigger("db", "t").await.unwrap();
    clock.set_by(TimeDelta::minutes(3));
    server.engine.enable_trigger("db", "t").await.unwrap();
    clock.awaited().await;
    // Also not by a restart that follows.
    clock.set_by(TimeDelta::zero());
    let server = server.restart(&python).await;
    clock.move_by(TimeDelta::minutes(1)).await;
    assert_eq!(instants(&python, 2).await, ["00:01:00", "00:05:00"]);
    ended(&server, 1).await;
    let update =
        serde_json::json!({"db": "db", "trigger_name": "t", "trigger_settings": {"run_timeout": "9s"}});
    let engine = Arc::clone(&server.engine);
    engine
        .update_trigger(serde_json::from_value(update).unwrap())
        .await
        .unwrap();
    clock.set_by(TimeDelta::minutes(1));
    assert_eq!(instants(&python, 3).await[2], "00:06:00");
    server.engine.shutdown().await;
}
