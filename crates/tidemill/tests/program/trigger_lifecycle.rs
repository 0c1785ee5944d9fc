//! Triggers are created, disabled, enabled, deleted, edited, and come back after a restart (`spec/engine.md` 5.7, 8.3, 10).

use serde_json::json;
use tidemill_testkit::{TestServer, eventually};

use crate::server;

const TRIGGER: &str = "/api/v3/configure/processing_engine_trigger";

const ECHO: &str = "def process_request(*a): return 'version one'\n";

async fn switch(server: &TestServer, action: &str, name: &str) -> u16 {
    server
        .post(&format!("{TRIGGER}/{action}?db=d&trigger_name={name}"), "")
        .await
        .status
}

#[tokio::test]
async fn disable_enable_restart() {
    let mut server = server().await;
    server.put_plugin("echo.py", ECHO);
    server.create_database("d").await;
    let arguments = json!({"trigger_arguments": {"colour": "blue"}});
    server
        .create_trigger("d", "echo", "echo.py", "request:echo", arguments)
        .await;
    server
        .create_trigger("d", "off", "echo.py", "request:off", json!({"disabled": true}))
        .await;
    assert_eq!(server.get("/api/v3/engine/echo").await.text(), "version one");
    assert_eq!(server.get("/api/v3/engine/off").await.status, 404);
    assert_eq!(switch(&server, "disable", "echo").await, 200);
    assert_eq!(switch(&server, "disable", "echo").await, 200);
    assert_eq!(server.get("/api/v3/engine/echo").await.status, 404);
    assert_eq!(switch(&server, "enable", "echo").await, 200);
    assert_eq!(server.get("/api/v3/engine/echo").await.text(), "version one");
    assert_eq!(switch(&server, "enable", "nobody").await, 404);
    server.kill();
    server.restart().await;
    let answers = async || (server.get("/api/v3/engine/echo").await.text() == "version one").then_some(());
    eventually("the trigger is back", answers).await;
    let sql = "SELECT * FROM system.processing_engine_triggers ORDER BY trigger_name";
    let trigger = |name: &str, disabled: bool| {
        json!({
            "trigger_name": name, "plugin_filename": "echo.py", "disabled": disabled, "error_behavior": "log",
            "trigger_specification": format!("{{\"request_path\":{{\"path\":\"{name}\"}}}}"),
        })
    };
    assert_eq!(
        server.query("d", sql).await,
        [trigger("echo", false), trigger("off", true)]
    );
    let arguments = server
        .query("d", "SELECT * FROM system.processing_engine_trigger_arguments")
        .await;
    assert_eq!(
        arguments,
        [json!({"trigger_name": "echo", "argument_key": "colour", "argument_value": "blue"})]
    );
    let files = "SELECT plugin_name, file_name, size_bytes FROM system.plugin_files ORDER BY plugin_name";
    let file = |name: &str| json!({"plugin_name": name, "file_name": "echo.py", "size_bytes": ECHO.len()});
    assert_eq!(
        server.query("_internal", files).await,
        [file("echo"), file("off")]
    );
}

#[tokio::test]
async fn edits_take_effect_at_the_next_run() {
    let server = server().await;
    server.create_database("d").await;
    server.put_plugin("single.py", "def process_request(*a): return 'one'\n");
    server.put_plugin(
        "package/__init__.py",
        "from .inner import value\ndef process_request(*a): return value()\n",
    );
    server.put_plugin("package/inner.py", "def value(): return 'one'\n");
    server
        .create_trigger("d", "single", "single.py", "request:single", json!({}))
        .await;
    server
        .create_trigger("d", "package", "package", "request:package", json!({}))
        .await;
    let ask = async |name: &str| server.get(&format!("/api/v3/engine/{name}")).await;
    for name in ["single", "package"] {
        assert_eq!(ask(name).await.text(), "one");
    }
    server.put_plugin("single.py", "def process_request(*a): return 'number two'\n");
    server.put_plugin("package/inner.py", "def value(): return 'number two'\n");
    for name in ["single", "package"] {
        assert_eq!(ask(name).await.text(), "number two");
    }
    server.put_plugin("single.py", "def process_request(*a) return 'broken'\n");
    let answer = ask("single").await;
    assert!(
        answer.status == 500 && answer.text().contains("SyntaxError"),
        "{}",
        answer.text()
    );
    server.put_plugin("single.py", "def process_request(*a): return 'mended'\n");
    assert_eq!(ask("single").await.text(), "mended");
}

#[tokio::test]
async fn an_error_disables_where_that_is_asked_for() {
    let server = server().await;
    server.put_plugin("fail.py", "def process_writes(*a): raise ValueError('no')\n");
    server.create_database("d").await;
    let settings = json!({"trigger_settings": {"run_async": false, "error_behavior": "Disable"}});
    server
        .create_trigger("d", "fail", "fail.py", "table:m", settings)
        .await;
    server.write("d", "m v=1 1").await;
    let disabled = async || {
        let rows = server
            .query("d", "SELECT disabled FROM system.processing_engine_triggers")
            .await;
        (rows == [json!({"disabled": true})]).then_some(())
    };
    eventually("the catalog says disabled", disabled).await;
    let log = server.plugin_log("d", "fail").await;
    assert!(log.iter().any(|line| line.contains("ValueError: no")), "{log:#?}");
}

#[tokio::test]
async fn what_is_wrong_with_a_new_trigger() {
    let server = server().await;
    server.put_plugin("ok.py", ECHO);
    std::fs::create_dir(server.plugin_dir().join("no_init")).unwrap();
    server.create_database("d").await;
    server
        .create_trigger("d", "taken", "ok.py", "request:taken", json!({}))
        .await;
    let create = async |database: &str, name: &str, plugin: &str| {
        let body = json!({
            "db": database, "trigger_name": name, "plugin_filename": plugin, "trigger_specification": "all_tables", "disabled": false,
        });
        let answer = server.post_json(TRIGGER, &body).await;
        (
            answer.status,
            answer.json()["error"].as_str().unwrap_or_default().to_owned(),
        )
    };
    assert_eq!(
        create("nodb", "t", "ok.py").await,
        (404, "Database not found nodb".into())
    );
    assert_eq!(
        create("d", "taken", "ok.py").await,
        (409, "attempted to create a resource that already exists".into())
    );
    assert_eq!(create("_internal", "t", "ok.py").await.0, 400);
    assert_eq!(create("d", "", "ok.py").await.0, 400);
    let (status, error) = create("d", "t", "missing.py").await;
    assert!(
        status == 404 && error.contains("Plugin not found"),
        "{status} {error}"
    );
    let (status, error) = create("d", "t", "no_init").await;
    assert!(
        status == 400 && error.contains("Multi-file plugin directory must contain __init__.py"),
        "{status} {error}"
    );
    let (status, error) = create("d", "t", "../outside.py").await;
    let traversal = "Path traversal detected: plugin filename '../outside.py' attempts to access files outside the plugin directory";
    assert!(status == 400 && error.contains(traversal), "{status} {error}");
    let answer = server.post_json(TRIGGER, &json!({"db": "d"})).await;
    assert!(
        answer.status == 400 && answer.text().contains("serde json error: missing field"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_trigger_is_changed_while_it_runs() {
    let server = server().await;
    server.create_database("d").await;
    server.put_plugin(
        "say.py",
        "def process_request(l, q, h, b, args=None): return {'args': args}\n",
    );
    server
        .create_trigger("d", "say", "say.py", "request:say", json!({}))
        .await;
    let says = async || server.get("/api/v3/engine/say").await.json();
    assert_eq!(says().await, json!({"args": null}));
    let update = async |options: &[&str]| {
        let command = ["update", "trigger", "--database", "d", "--trigger-name", "say"];
        server.command(&[&command[..], options].concat()).await
    };

    let changed = update(&["--trigger-arguments", "a=1,b=x,y", "--error-behavior", "retry"]).await;
    assert_eq!(
        changed.stdout, "Trigger 'say' updated successfully\n",
        "{}",
        changed.stderr
    );
    assert_eq!(says().await, json!({"args": {"a": "1", "b": "x,y"}}));
    let sql = "SELECT error_behavior, disabled, plugin_filename FROM system.processing_engine_triggers";
    let row = |disabled: bool, file: &str| json!({"error_behavior": "retry", "disabled": disabled, "plugin_filename": file});
    assert_eq!(server.query("d", sql).await, [row(false, "say.py")]);

    assert_eq!(update(&["--disabled"]).await.code, 0);
    assert_eq!(server.get("/api/v3/engine/say").await.status, 404);
    assert_eq!(server.query("d", sql).await, [row(true, "say.py")]);

    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.py");
    std::fs::write(&other, "def process_request(*a): return {'other': a[4]}\n").unwrap();
    let other = other.display().to_string();
    let changed = update(&[
        "--path",
        &other,
        "--upload",
        "--trigger-arguments",
        "",
        "--enabled",
    ])
    .await;
    assert_eq!(changed.code, 0, "{}", changed.stderr);
    assert_eq!(says().await, json!({"other": null}));
    assert_eq!(server.query("d", sql).await, [row(false, "other.py")]);

    for (options, code, text) in [
        (&[][..], 2, "nothing to change"),
        (&["--enabled", "--disabled"], 2, "cannot be used with"),
        (
            &["--error-behavior", "panic"],
            2,
            "unknown error behavior 'panic'",
        ),
        (&["--path", "none.py"], 1, "Path does not exist: none.py"),
    ] {
        let refused = update(options).await;
        assert_eq!(refused.code, code, "{options:?}");
        assert!(refused.stderr.contains(text), "{}", refused.stderr);
    }
    for (change, status) in [
        (
            json!({"db": "d", "trigger_name": "nobody", "disabled": true}),
            404,
        ),
        (
            json!({"db": "d", "trigger_name": "say", "plugin_filename": "none.py"}),
            404,
        ),
        (json!({"db": "d"}), 400),
    ] {
        let request = server.request(reqwest::Method::PUT, TRIGGER).json(&change);
        assert_eq!(server.send(request).await.status, status, "{change}");
    }
    assert_eq!(says().await, json!({"other": null}));
}
