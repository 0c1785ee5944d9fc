//! Processes that die again and again, and those that there cannot be.

use std::time::Duration;

use super::Server;
use super::fake_python::{Action, FakePython};
use crate::PluginRequest;

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
        let disabled = tokio::time::timeout(Duration::from_secs(30), disabled).await;
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
    tokio::time::timeout(Duration::from_secs(30), disabled)
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
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.query("db", DISABLED).await, ["false"]);
    std::fs::write(&file, "").unwrap();
    assert_eq!(python.calls(1).await[0].rows(), ["cpu: x=1.0"]);
    server.engine.shutdown().await;
}
