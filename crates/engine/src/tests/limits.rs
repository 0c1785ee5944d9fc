//! What a plugin may take: the server's limits, and those of a trigger.

use std::num::NonZeroU16;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fake_python::{Action, FakePython};
use super::request_triggers::whole;
use super::{Server, trigger};
use crate::{PluginRequest, TestSchedule};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_limits_of_a_trigger_come_before_those_of_the_server() {
    let python = FakePython::new(|call| match call.number {
        0 => Action::Hang,
        1 => Action::Respond(200, "more than four bytes"),
        _ => Action::Respond(200, "four"),
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    let mut request = trigger("t", "request:p");
    request.trigger_settings.run_timeout = Some(Duration::from_millis(50));
    request.trigger_settings.memory_limit = Some("3MB".parse().unwrap());
    request.trigger_settings.output_limit = Some("4".parse().unwrap());
    request.trigger_settings.run_async = true;
    request.trigger_settings.async_concurrency_limit = NonZeroU16::new(3);
    server.engine.create_trigger(request).await.unwrap();
    let ask = async || server.engine.handle_request("p", PluginRequest::default()).await;
    assert_eq!(ask().await.unwrap_err().status(), 504);
    assert_eq!(python.calls.borrow()[0].load.concurrency, 3);
    assert_eq!(python.calls.borrow()[0].load.output_bytes_max, 4);
    let error = loop {
        let error = ask().await.unwrap_err();
        if error.status() != 503 {
            break error.to_string();
        }
    };
    assert_eq!(error, "20 bytes exceed the trigger's output limit of 4");
    assert_eq!(whole(&ask().await.unwrap()), b"four");
    python.resident_bytes.store(4 << 20, Ordering::SeqCst);
    server
        .expect_log(
            "db",
            "ERROR the plugin's process exceeded its memory limit of 3MiB",
        )
        .await;
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_has_no_more_memory_than_others() {
    let python = FakePython::new(|_| Action::Hang);
    let server = Server::start_with(&python, |config| config.worker_memory_bytes_max = Some(5 << 20)).await;
    server.write("db", "cpu x=0 1").await;
    python.resident_bytes.store(6 << 20, Ordering::SeqCst);
    let test = serde_json::json!({"filename": "plugin.py", "database": "db"});
    let test: TestSchedule = serde_json::from_value(test).unwrap();
    let report = server.engine.test_schedule(test).await.unwrap();
    let [error] = &report.errors[..] else {
        panic!("{:?}", report.errors);
    };
    assert!(
        error.ends_with("the plugin's process exceeded its memory limit of 5MiB"),
        "{error}"
    );
    server.engine.shutdown().await;
}
