//! Creating, enabling, disabling and deleting triggers; the texts are those of engine.md 8.3.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tidemill_triggers::PluginType;

use super::fake_python::{Action, FakePython};
use super::{Server, trigger};
use crate::{EngineErrorKind, FileContent, UpdateFile, UploadFile};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_have_their_order_kind_and_text() {
    let python = FakePython::new(|_| Action::Return(vec![]));
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("taken", "all_tables").await;
    let refuse = async |change: &dyn Fn(&mut crate::CreateTrigger)| {
        let mut request = trigger("t", "all_tables");
        change(&mut request);
        let error = server.engine.create_trigger(request).await.unwrap_err();
        (error.kind(), error.to_string())
    };
    let expect = |kind, text: &str| (kind, text.to_owned());
    // Everything is wrong; the first check speaks.
    assert_eq!(
        refuse(&|t| {
            t.plugin_filename = "nope.py".to_owned();
            t.trigger_specification = "nonsense".to_owned();
            t.db = "_internal".to_owned();
        })
        .await,
        expect(
            EngineErrorKind::NotFound,
            "Plugin error: reading plugin file: Plugin not found: nope.py"
        )
    );
    let (kind, text) = refuse(&|t| {
        t.trigger_specification = "every:0s".to_owned();
        t.db = "_internal".to_owned();
    })
    .await;
    assert_eq!(kind, EngineErrorKind::Invalid);
    assert!(
        text.starts_with("failed to parse trigger from every:0s"),
        "{text}"
    );
    assert_eq!(
        refuse(&|t| t.db = "_internal".to_owned()).await,
        expect(EngineErrorKind::Invalid, "cannot modify internal db")
    );
    assert_eq!(
        refuse(&|t| t.db = "nodb".to_owned()).await,
        expect(EngineErrorKind::NotFound, "Database not found nodb")
    );
    assert_eq!(
        refuse(&|t| t.trigger_name = "taken".to_owned()).await,
        expect(
            EngineErrorKind::Conflict,
            "attempted to create a resource that already exists"
        )
    );
    assert_eq!(
        refuse(&|t| t.trigger_name = String::new()).await.0,
        EngineErrorKind::Invalid
    );
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_can_be_restricted() {
    let python = FakePython::new(|_| Action::Return(vec![]));
    let server = Server::start_with(&python, |config| {
        config.restrict_plugin_triggers_to = vec![PluginType::Schedule];
    });
    let server = server.await;
    server.write("db", "cpu x=0 1").await;
    let mut request = trigger("t", "all_tables");
    request.plugin_filename = "nope.py".to_owned();
    let error = server.engine.create_trigger(request).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid request: server is configured to reject WalRows plugin triggers"
    );
    server.create("s", "every:1h").await;
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_needs_force_and_unknown_names_are_told() {
    let python = FakePython::new(|_| Action::Return(vec![]));
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "all_tables").await;
    let error = server.engine.delete_trigger("db", "t", false).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Cannot delete running plugin t. Disable it first or use --force."
    );
    server.engine.disable_trigger("db", "t").await.unwrap();
    server.engine.disable_trigger("db", "t").await.unwrap();
    server.engine.enable_trigger("db", "t").await.unwrap();
    server.engine.enable_trigger("db", "t").await.unwrap();
    server.engine.delete_trigger("db", "t", true).await.unwrap();
    for result in [
        server.engine.delete_trigger("db", "t", true).await,
        server.engine.enable_trigger("db", "t").await,
        server.engine.disable_trigger("db", "t").await,
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), EngineErrorKind::NotFound);
        assert_eq!(error.to_string(), "the requested resource was not found: t");
    }
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_while_disabled_is_delivered_when_enabled() {
    let python = FakePython::new(|_| Action::Return(vec![]));
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create_with("t", "table:cpu", |t| t.disabled = true).await;
    server.write("db", "cpu x=1 2").await;
    assert!(python.calls.borrow().is_empty());
    server.engine.enable_trigger("db", "t").await.unwrap();
    assert_eq!(python.calls(1).await[0].rows(), ["cpu: x=1.0"]);
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_takes_bounded_time_whatever_the_plugins_do() {
    let python = FakePython::new(|_| Action::Hang);
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    for number in 0..5 {
        server.create(&format!("t{number}"), "table:cpu").await;
    }
    server.write("db", "cpu x=1 2").await;
    python.calls(5).await;
    let started = Instant::now();
    server.engine.shutdown().await;
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_its_trigger_stops_leaves_no_second_one_behind() {
    let python = FakePython::new(|call| match call.number {
        0 => Action::Hang,
        _ => Action::Return(vec![]),
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "table:cpu").await;
    server.write("db", "cpu x=1 2").await;
    python.calls(1).await;
    // Long enough for the change to be recorded, and shorter than the plugin's grace.
    let disabled = server.engine.disable_trigger("db", "t");
    let left = tokio::time::timeout(Duration::from_millis(100), disabled).await;
    assert!(left.is_err(), "the plugin was to hang");
    server.engine.enable_trigger("db", "t").await.unwrap();
    let calls = python.calls(2).await;
    assert_eq!(calls[1].rows(), ["cpu: x=1.0"]);
    assert_eq!(python.alive_max.load(Ordering::SeqCst), 1);
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_still_runs_of_a_stopped_trigger_is_interrupted_before_it_is_killed() {
    let python = FakePython::new(|_| Action::HangUntilCancelled);
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "request:p").await;
    let engine = server.engine.clone();
    let request =
        tokio::spawn(async move { engine.handle_request("p", crate::PluginRequest::default()).await });
    python.calls(1).await;
    server.engine.disable_trigger("db", "t").await.unwrap();
    assert_eq!(
        request.await.unwrap().unwrap_err().to_string(),
        "Python function call failed: ValueError: cancelled"
    );
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn triggers_of_a_deleted_database_stop() {
    let python = FakePython::new(|_| Action::Respond(200, ""));
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "request:p").await;
    let now = chrono::Utc::now();
    let deleted = server
        .ingest
        .catalog()
        .transact(|transaction| transaction.soft_delete_database("db", now, None));
    deleted.await.unwrap();
    while server
        .engine
        .handle_request("p", crate::PluginRequest::default())
        .await
        .is_ok()
    {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_updated_through_the_trigger_that_uses_them() {
    let python = FakePython::new(|_| Action::Return(vec![]));
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    let content = |text: &str| FileContent::from(text);
    let upload = UploadFile {
        plugin_name: "dir/new.py".to_owned(),
        content: content("1"),
    };
    server.engine.upload_file(upload).await.unwrap();
    server
        .create_with("t", "table:cpu", |t| t.plugin_filename = "dir/new.py".to_owned())
        .await;
    let update = |name: &str, db: Option<&str>| UpdateFile {
        plugin_name: name.to_owned(),
        content: content("second"),
        db: db.map(str::to_owned),
    };
    server.engine.update_file(update("t", None)).await.unwrap();
    let sql = "SELECT plugin_name, file_name, size_bytes FROM system.plugin_files";
    assert_eq!(server.query("_internal", sql).await, ["t|dir/new.py|6"]);
    let error = server
        .engine
        .update_file(update("t", Some("other")))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Processing engine error: plugin error: Plugin not found: t"
    );
    server.engine.shutdown().await;
}
