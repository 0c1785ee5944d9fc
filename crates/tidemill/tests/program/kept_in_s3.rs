//! What the engine keeps beside rows is in the bucket: the logs and runs of plugins, and batches that were set aside.

use serde_json::{Value, json};
use tidemill_testkit::{S3Server, ServerOptions, TestServer, eventually};

use crate::PROGRAM;
use crate::s3::FAST;

const GOOD: &str = "
def process_writes(influxdb3_local, table_batches, args=None):
    for batch in table_batches:
        for row in batch['rows']:
            influxdb3_local.info('saw', row['v'])
";
const BROKEN: &str = "
def process_writes(influxdb3_local, table_batches, args=None):
    raise ValueError('not yet mended')
";
const MENDED: &str = "
def process_writes(influxdb3_local, table_batches, args=None):
    for batch in table_batches:
        for row in batch['rows']:
            influxdb3_local.write(LineBuilder('done').float64_field('v', row['v']).time_ns(row['time']))
";

const LOGS: &str =
    "SELECT * FROM system.processing_engine_logs WHERE log_text LIKE 'saw%' ORDER BY event_time";
const RUNS: &str = "SELECT * FROM system.processing_engine_runs ORDER BY start_time, trigger_name";
const LETTERS: &str = "SELECT * FROM system.processing_engine_dead_letters";

/// The rows of a query, when there are that many.
async fn rows(server: &TestServer, sql: &str, count: usize) -> Vec<Value> {
    eventually(sql, async || {
        let rows = server.query("d", sql).await;
        (rows.len() == count).then_some(rows)
    })
    .await
}

#[tokio::test]
async fn logs_runs_and_dead_letters_are_read_back() {
    let Some(store) = S3Server::start().await else {
        return;
    };
    let options = ServerOptions {
        object_store: Some(store.arguments()),
        arguments: FAST.map(str::to_owned).to_vec(),
        ..ServerOptions::default()
    };
    let mut server = TestServer::start_with(PROGRAM, options).await;
    server.put_plugin("good.py", GOOD);
    server.put_plugin("broken.py", BROKEN);
    server.create_database("d").await;
    server
        .create_trigger("d", "good", "good.py", "table:m", json!({}))
        .await;
    let settings = json!({ "trigger_settings": { "error_behavior": "retry", "max_attempts": 1 } });
    server
        .create_trigger("d", "broken", "broken.py", "table:m", settings)
        .await;
    server.write("d", "m v=1 1").await;
    let letters = rows(&server, LETTERS, 1).await;
    let logs = rows(&server, LOGS, 1).await;
    let runs = rows(&server, RUNS, 2).await;
    assert_eq!(logs[0]["log_text"], "saw 1.0");
    assert_eq!(letters[0]["trigger_name"], "broken");
    let failed = runs.iter().find(|run| run["trigger_name"] == "broken");
    assert_eq!(failed.expect("a run")["status"], "failed", "{runs:?}");

    assert_eq!(server.stop().await, 0, "{}", server.log());
    for folder in ["plugin_logs", "plugin_runs", "dead_letters"] {
        let names = store.names(&format!("test/{folder}/")).await;
        assert!(!names.is_empty(), "nothing in {folder}");
    }
    server.restart().await;
    assert_eq!(server.query("d", LOGS).await, logs, "after a stop");
    assert_eq!(server.query("d", RUNS).await, runs, "after a stop");
    assert_eq!(server.query("d", LETTERS).await, letters, "after a stop");

    server.kill();
    server.restart().await;
    assert_eq!(server.query("d", LOGS).await, logs, "after a kill");
    assert_eq!(server.query("d", RUNS).await, runs, "after a kill");
    assert_eq!(server.query("d", LETTERS).await, letters, "after a kill");

    // The batch itself is there too.
    server.put_plugin("broken.py", MENDED);
    let replayed = server.command(&["replay", "trigger", "broken", "-d", "d"]).await;
    assert_eq!(replayed.code, 0, "{}{}", replayed.stdout, replayed.stderr);
    let done = "SELECT v, CAST(time AS BIGINT) AS at FROM done";
    assert_eq!(server.query("d", done).await, [json!({ "v": 1.0, "at": 1 })]);
    assert_eq!(server.query("d", LETTERS).await, [] as [Value; 0]);
    let letters_left = store.names("test/dead_letters/").await;
    assert!(letters_left.is_empty(), "{letters_left:?}");
}
