//! What authors of plugins use: skeletons that work as they come, and the log of a trigger.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill_testkit::TestServer;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{PROGRAM, server};

/// A skeleton in the plugin directory, made by the command.
async fn create_plugin(server: &TestServer, name: &str, plugin_type: &str) {
    let folder = server.plugin_dir();
    let arguments = ["create", "plugin", name, "--type", plugin_type];
    let created = server.command_in(&folder, &arguments).await;
    assert_eq!(created.code, 0, "{}", created.stderr);
    let again = server.command_in(&folder, &arguments).await;
    assert_eq!(again.code, 1, "an existing file stays");
    assert!(again.stderr.contains("File exists"), "{}", again.stderr);
}

async fn dry_run(server: &TestServer, arguments: &[&str]) -> Value {
    let tested = server
        .command(&[&["test"], arguments, &["--database", "d"]].concat())
        .await;
    assert_eq!(tested.code, 0, "{}", tested.stderr);
    let report: Value = serde_json::from_str(&tested.stdout).expect("a report is JSON");
    assert_eq!(report["errors"], json!([]), "{report}");
    report
}

#[tokio::test]
async fn skeletons_work_as_they_come() {
    let server = server().await;
    server.create_database("d").await;
    server.write("d", "air,site=pier temperature=11.5 1").await;

    create_plugin(&server, "scaled", "writes").await;
    let line = "weather,site=pier temperature=20 5\nweather,site=pier other=1 6";
    let report = dry_run(&server, &["wal_plugin", "--lp", line, "scaled.py"]).await;
    assert_eq!(
        report["database_writes"]["d"],
        json!(["scaled,source=weather temperature=20.0 5"])
    );

    create_plugin(&server, "tables", "schedule").await;
    let report = dry_run(
        &server,
        &["schedule_plugin", "--schedule", "0 * * * * *", "tables.py"],
    )
    .await;
    assert_eq!(report["database_writes"]["d"], json!(["tables tables=1i"]));

    create_plugin(&server, "hello", "request").await;
    let report = dry_run(&server, &["request_plugin", "--query", "site=pier", "hello.py"]).await;
    assert_eq!(report["response"]["body"], "{\"hello\": \"pier\"}");
    let report = dry_run(&server, &["request_plugin", "--body", "{", "hello.py"]).await;
    assert_eq!(report["response"]["status"], 400);
}

#[tokio::test]
async fn logs_are_shown_and_followed() {
    let mut server = server().await;
    server.create_database("d").await;
    server.put_plugin(
        "say.py",
        "def process_request(l, q, h, b, a=None):\n    l.warn('said', q['word'])\n    return ''\n",
    );
    server
        .create_trigger("d", "say", "say.py", "request:say", json!({}))
        .await;
    let say = async |word: &str| {
        let answer = server.get(&format!("/api/v3/engine/say?word={word}")).await;
        assert_eq!(answer.status, 200);
    };
    say("one").await;
    say("two").await;

    let logs = ["logs", "trigger", "say", "--database", "d"];
    let shown = server.command(&logs).await;
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    let (one, two) = (
        shown.stdout.find("WARN  said one"),
        shown.stdout.find("WARN  said two"),
    );
    assert!(one.is_some() && one < two, "{}", shown.stdout);
    let last = server.command(&[&logs[..], &["--lines", "1"]].concat()).await;
    assert_eq!(last.stdout.lines().count(), 1, "{}", last.stdout);

    let unknown = server
        .command(&["logs", "trigger", "nobody", "--database", "d"])
        .await;
    assert_eq!(unknown.code, 1);
    assert!(
        unknown.stderr.contains("the database d has no trigger nobody"),
        "{}",
        unknown.stderr
    );

    let mut following = tokio::process::Command::new(PROGRAM)
        .args(logs)
        .args(["--follow", "--lines", "1", "--host", &server.url()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program runs");
    let mut lines = BufReader::new(following.stdout.take().expect("a piped output")).lines();
    // The first line shows that it reads; what is said now comes later.
    assert!(lines.next_line().await.unwrap().is_some());
    say("three").await;
    let mut seen = Vec::new();
    let read_on = async {
        while !seen
            .last()
            .is_some_and(|line: &String| line.ends_with("WARN  said three"))
        {
            seen.push(lines.next_line().await.unwrap().expect("the command goes on"));
        }
    };
    tokio::time::timeout(Duration::from_mins(1), read_on)
        .await
        .expect("what is said is shown");
    assert!(
        !seen.iter().any(|line| line.contains("said two")),
        "nothing is shown twice: {seen:?}"
    );
    following.kill().await.expect("it was running");

    let listed = server
        .command(&["show", "triggers", "--database", "d", "--format", "json"])
        .await;
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!(listed[0]["trigger_name"], "say");
    let unknown = server.command(&["show", "triggers", "--database", "none"]).await;
    assert!(
        unknown.stderr.contains("database not found: none"),
        "{}",
        unknown.stderr
    );

    server.stop().await;
    server.restart().await;
    let shown = server.command(&logs).await;
    let words = ["WARN  said one", "WARN  said two", "WARN  said three"];
    for word in words {
        assert_eq!(shown.stdout.matches(word).count(), 1, "{}", shown.stdout);
    }
}
