//! `influxdb3_local.state` (`spec/engine.md` 0.29): durable values that are committed with the run.

use serde_json::{Value, json};
use tidemill_testkit::{TestServer, eventually};

use crate::server;

/// Counts rows in its state, and says so. Fails after that for a row with `fail`.
const COUNT: &str = r#"
def process_writes(influxdb3_local, table_batches, args=None):
    state = influxdb3_local.state
    rows = [row for batch in table_batches for row in batch["rows"]]
    state.put("counted", state.get("counted", 0) + len(rows))
    influxdb3_local.info("counted", state.get("counted"))
    influxdb3_local.write(LineBuilder("progress").int64_field("counted", state.get("counted")))
    if any("fail" in row for row in rows):
        raise ValueError("as asked")
"#;

/// The highest number that the plugin has written.
async fn counted(server: &TestServer) -> u64 {
    let answer = server
        .try_query("d", "SELECT max(counted) AS n FROM progress")
        .await;
    if answer.status == 200 {
        answer.json()[0]["n"].as_u64().unwrap_or_default()
    } else {
        0
    }
}

async fn reaches(server: &TestServer, rows: u64) {
    let is_there = async || (counted(server).await == rows).then_some(());
    eventually("the count reaches the rows", is_there).await;
}

#[tokio::test]
async fn failed_runs_and_dry_runs_change_nothing() {
    let mut server = server().await;
    server.create_database("d").await;
    server.put_plugin("count.py", COUNT);
    server
        .create_trigger("d", "count", "count.py", "table:m", json!({}))
        .await;
    server.write("d", "m v=1 1\nm v=2 2").await;
    reaches(&server, 2).await;

    server.write("d", "m fail=1 3\nm fail=2 4").await;
    let has_failed = async || {
        let sql = "SELECT log_text FROM system.processing_engine_logs WHERE log_text LIKE '%as asked%'";
        (!server.query("d", sql).await.is_empty()).then_some(())
    };
    eventually("the run has failed", has_failed).await;

    let dry = json!({"filename": "count.py", "database": "d", "input_lp": "m v=1\nm v=2\nm v=3"});
    let report = server.post_json("/api/v3/plugin_test/wal", &dry).await.json();
    assert_eq!(report["errors"], json!([]));
    let lines = report["log_lines"].as_array().expect("a list");
    assert!(lines.contains(&json!("INFO: counted 3")), "{report}");

    server.write("d", "m v=3 5").await;
    reaches(&server, 3).await;
    server.kill();
    server.restart().await;
    server.write("d", "m v=4 6").await;
    reaches(&server, 4).await;
}

#[tokio::test]
async fn what_a_request_was_answered_is_durable() {
    let mut server = server().await;
    server.create_database("d").await;
    server.put_plugin(
        "visits.py",
        r#"
import threading

go = threading.Event()
threads = []

def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    state = influxdb3_local.state
    if "thread" in query_parameters:
        def work():
            go.wait()
            state.put("outside", [1, 2])
            influxdb3_local.info(state.get("outside"), state.delete("never"))
        threads.append(threading.Thread(target=work))
        threads[0].start()
        return "started"
    if "go" in query_parameters:
        go.set()
        threads[0].join()
        state.put("lost", 1)
        raise ValueError("what is outside stays")
    state.put("visits", state.get("visits", 0) + 1)
    return {"visits": state.get("visits"), "outside": state.get("outside"), "lost": state.get("lost")}
"#,
    );
    server
        .create_trigger("d", "visits", "visits.py", "request:visits", json!({}))
        .await;
    let answer = |visits: u64, outside: Value| json!({"visits": visits, "outside": outside, "lost": null});
    for visits in 1..=2 {
        let got = server.get("/api/v3/engine/visits").await.json();
        assert_eq!(got, answer(visits, Value::Null));
    }
    assert_eq!(server.get("/api/v3/engine/visits?thread").await.text(), "started");
    assert_eq!(server.get("/api/v3/engine/visits?go").await.status, 500);
    server.kill();
    server.restart().await;
    let got = server.get("/api/v3/engine/visits").await.json();
    assert_eq!(got, answer(3, json!([1, 2])));
}

/// Notes each row under a key of its own, in runs that overlap. Asked to `check`, says how many of the rows below are missing.
const NOTE: &str = r#"
import random, time

def process_writes(influxdb3_local, table_batches, args=None):
    state = influxdb3_local.state
    for batch in table_batches:
        for row in batch["rows"]:
            if "check" in row:
                missing = sum(state.get(f"row {n}") != {"n": n} for n in range(row["check"]))
                influxdb3_local.write(LineBuilder("progress").int64_field("missing", missing))
            else:
                time.sleep(random.random() * 0.02)
                state.put(f"row {row['n']}", {"n": row["n"]})
"#;

#[tokio::test]
async fn overlapping_runs_commit_their_state_each() {
    let mut server = server().await;
    server.create_database("d").await;
    server.put_plugin("note.py", NOTE);
    let settings = json!({"trigger_settings": {"run_async": true, "error_behavior": "log"}});
    server
        .create_trigger("d", "note", "note.py", "table:m", settings)
        .await;
    let mut rows = 0;
    for _round in 0..3 {
        for _ in 0..40 {
            server.write("d", &format!("m n={rows}i {rows}")).await;
            rows += 1;
        }
        server.kill();
        server.restart().await;
    }
    let mut asked = 0;
    let all_are_noted = async || {
        asked += 1;
        server
            .write("d", &format!("m check={rows}i {}", 1_000_000 + asked))
            .await;
        let answer = server
            .try_query("d", "SELECT min(missing) AS n FROM progress")
            .await;
        (answer.status == 200 && answer.json()[0]["n"] == 0).then_some(())
    };
    eventually("no row is missing", all_are_noted).await;
}
