//! Plugins from a repository: `gh:<path>` (`spec/engine.md` 0.20, 6.1).

use std::fs;

use serde_json::json;
use tidemill_testkit::{ServerOptions, TestServer, eventually};

use crate::PROGRAM;

const ECHO: &str = "def process_request(*a): return __file__.rsplit('/', 1)[1] + ' one'\n";

#[tokio::test]
async fn code_is_fetched_kept_and_used_while_the_repository_is_gone() {
    let repository = tempfile::tempdir().unwrap();
    fs::create_dir(repository.path().join("acme")).unwrap();
    let file = repository.path().join("acme/echo.py");
    fs::write(&file, ECHO).unwrap();
    let url = format!("file://{}/", repository.path().display());
    let options = ServerOptions {
        arguments: vec!["--plugin-repo".to_owned(), url],
        ..ServerOptions::default()
    };
    let mut server = TestServer::start_with(PROGRAM, options).await;
    server.create_database("d").await;
    server
        .create_trigger("d", "echo", "gh:acme/echo.py", "request:echo", json!({}))
        .await;
    assert_eq!(server.get("/api/v3/engine/echo").await.text(), "echo.py one");

    for (name, status, text) in [
        (
            "gh:acme/none.py",
            404,
            "error fetching plugin from repository: 404 Not Found",
        ),
        (
            "gh:../secret.py",
            400,
            "Path traversal detected: plugin filename 'gh:../secret.py'",
        ),
    ] {
        let body = json!({
            "db": "d", "trigger_name": "other", "plugin_filename": name,
            "trigger_specification": "request:other", "disabled": false,
        });
        let refused = server
            .post_json("/api/v3/configure/processing_engine_trigger", &body)
            .await;
        assert_eq!(refused.status, status, "{}", refused.text());
        assert!(refused.text().contains(text), "{}", refused.text());
    }
    let update = server
        .command(&[
            "update",
            "trigger",
            "--database",
            "d",
            "--trigger-name",
            "echo",
            "--path",
            &file.display().to_string(),
        ])
        .await;
    assert!(
        update.stderr.contains("comes from the plugin repository"),
        "{}",
        update.stderr
    );

    // What has changed in the repository is used from the next start of the trigger on, not before.
    fs::write(&file, ECHO.replace("one", "two")).unwrap();
    assert_eq!(server.get("/api/v3/engine/echo").await.text(), "echo.py one");
    server.kill();
    server.restart().await;
    let says = async |text: &str| (server.get("/api/v3/engine/echo").await.text() == text).then_some(());
    eventually("the new code runs", async || says("echo.py two").await).await;

    // The repository is gone: the copy is used, and the trigger's log says so.
    drop(repository);
    server.kill();
    server.restart().await;
    eventually("the copy runs", async || {
        (server.get("/api/v3/engine/echo").await.text() == "echo.py two").then_some(())
    })
    .await;
    let log = server.plugin_log("d", "echo").await;
    assert!(
        log.iter().any(|line| line.contains("an earlier copy is used")),
        "{log:?}"
    );
}

#[tokio::test]
async fn a_wrong_url_is_refused_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let output = tokio::process::Command::new(PROGRAM)
        .args(["serve", "--node-id", "n", "--object-store", "memory"])
        .args([
            "--http-bind",
            "127.0.0.1:0",
            "--plugin-repo",
            "ftp://example.org/",
        ])
        .arg("--plugin-dir")
        .arg(folder.path())
        .output()
        .await
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("invalid plugin repository URL"), "{said}");
}
