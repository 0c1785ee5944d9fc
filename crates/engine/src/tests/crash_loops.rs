//! Processes that die again and again, and those that there cannot be.

use std::sync::atomic::Ordering;

use super::fake_python::{Action, FakePython};
use super::request_triggers::whole;
use super::{Server, trigger};
use crate::{PluginBody, PluginRequest};

const DISABLED: &str = "SELECT disabled FROM system.processing_engine_triggers";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loop_ends_with_the_trigger_disabled_for_a_reason() {
    let python = FakePython::new(|call| match call.number {
        // One success among the crashes: the count begins anew.
        5 => Action::Return(vec![]),
        _ => Action::Exit(3),
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    for spec in ["table:cpu", "every:5ms"] {
        python.calls.send_replace(Vec::new());
        server.create("t", spec).await;
        let mut time = 2;
        let disabled = async {
            while server.query("db", DISABLED).await != ["true"] {
                time += 1;
                server.write("db", &format!("cpu x=1 {time}")).await;
            }
        };
        let disabled = tokio::time::timeout(std::time::Duration::from_secs(30), disabled).await;
        assert!(
            disabled.is_ok(),
            "{spec}: still enabled after {} runs",
            python.calls.borrow().len()
        );
        assert_eq!(python.calls.borrow().len(), 5 + 1 + 10, "{spec}");
        let reason = reason_of(&server, "t");
        assert!(
            reason.starts_with(
                "10 processes of the plugin have ended one after the other without a successful run"
            ),
            "{reason}"
        );
        assert!(
            reason.ends_with("the plugin's process exited with code 3"),
            "{reason}"
        );
        server
            .expect_log("db", "ERROR the trigger is disabled: 10 processes")
            .await;
        // Enabled, it has all its attempts again.
        server.engine.enable_trigger("db", "t").await.unwrap();
        python.calls(5 + 1 + 11).await;
        server.engine.delete_trigger("db", "t", true).await.unwrap();
    }
    server.engine.shutdown().await;
}

fn reason_of(server: &Server, name: &str) -> String {
    let state = server.ingest.catalog().state();
    let trigger = state.database("db").unwrap().trigger(name).unwrap().clone();
    trigger
        .disabled_reason
        .clone()
        .expect("the server has disabled it")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_kill_every_process_end_in_disabled_too() {
    let python = FakePython::new(|_| Action::Exit(3));
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "request:p").await;
    let disabled = async {
        while server.query("db", DISABLED).await != ["true"] {
            let _ = server.engine.handle_request("p", PluginRequest::default()).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), disabled)
        .await
        .unwrap();
    assert_eq!(python.calls.borrow().len(), 10);
    let error = server
        .engine
        .handle_request("p", PluginRequest::default())
        .await
        .unwrap_err();
    assert_eq!(error.status(), 404);
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_is_not_there_is_no_crash() {
    let python = FakePython::new(|_| Action::Return(vec![]));
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create_with("t", "table:cpu", |t| t.disabled = true).await;
    let file = server.dir.path().join("plugins/plugin.py");
    std::fs::remove_file(&file).unwrap();
    server.engine.enable_trigger("db", "t").await.unwrap();
    server.write("db", "cpu x=1 2").await;
    server.expect_log("db", "ERROR Plugin error: ").await;
    // Far more attempts than a crash loop has: they come every 20 ms at most.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(server.query("db", DISABLED).await, ["false"]);
    std::fs::write(&file, "").unwrap();
    assert_eq!(python.calls(1).await[0].rows(), ["cpu: x=1.0"]);
    server.engine.shutdown().await;
}

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
    request.trigger_settings.run_timeout = Some(std::time::Duration::from_millis(50));
    request.trigger_settings.memory_limit = Some("3MB".parse().unwrap());
    request.trigger_settings.output_limit = Some("4".parse().unwrap());
    request.trigger_settings.run_async = true;
    request.trigger_settings.async_concurrency_limit = std::num::NonZeroU16::new(3);
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
