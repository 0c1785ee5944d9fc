//! What an operator sees of triggers: status, runs, logs over restarts, metrics (`spec/engine.md` 0.32, 0.33).

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidemill_testkit::{TestServer, eventually};

use crate::server;

const DOUBLE: &str = "
def process_writes(influxdb3_local, table_batches, args=None):
    for batch in table_batches:
        for row in batch['rows']:
            line = LineBuilder('doubled')
            line.float64_field('v', 2 * row['v'])
            line.time_ns(row['time'])
            influxdb3_local.write(line)
    influxdb3_local.info('doubled')
";
const MOODY: &str = "
def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    if 'fail' in query_parameters:
        raise ValueError('as asked \"quoted\"')
    return 'well'
";

/// Waits until the only row of a query is this.
async fn expect_row(server: &TestServer, sql: &str, expected: &Value) {
    let mut last = String::new();
    for _ in 0..600 {
        // The table may not be there yet.
        let answer = server.try_query("d", sql).await;
        last = answer.text();
        if answer.status == 200 && answer.json() == json!([expected]) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{sql}: expected {expected}, got {last}");
}

/// The value of a sample whose labels are all of these.
fn sample<'a>(metrics: &'a str, name: &str, labels: &[&str]) -> Option<&'a str> {
    let line = metrics.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| {
            rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
        })
    })?;
    line.rsplit(' ').next()
}

/// The names of metrics in an expression of the dashboard.
fn names_in(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("tidemill_") || word.starts_with("process_"))
}

/// The values of all members of that name.
fn members<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if let Some(text) = value.as_str().filter(|_| key == name) {
                    found.push(text);
                }
                members(value, name, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| members(value, name, found)),
        _ => {}
    }
}

#[tokio::test]
async fn an_operator_sees_runs_states_and_logs_over_a_restart() {
    let mut server = server().await;
    server.put_plugin("double.py", DOUBLE);
    server.put_plugin("moody.py", MOODY);
    server.create_database("d").await;
    server
        .create_trigger("d", "double", "double.py", "table:cpu", json!({}))
        .await;
    server
        .create_trigger("d", "moody", "moody.py", "request:moody", json!({}))
        .await;
    server
        .create_trigger("d", "off", "moody.py", "request:off", json!({"disabled": true}))
        .await;
    server.write("d", "cpu v=1 1\ncpu v=2 2\nother v=3 3").await;
    expect_row(&server, "SELECT count(*) AS n FROM doubled", &json!({"n": 2})).await;
    assert_eq!(server.get("/api/v3/engine/moody").await.text(), "well");
    assert_eq!(server.get("/api/v3/engine/moody?fail=1").await.status, 500);

    let runs = "SELECT trigger_name, rows_in, lines_written, attempts, status, error FROM system.processing_engine_runs \
                ORDER BY start_time";
    let expected = [
        json!({"trigger_name": "double", "rows_in": 2, "lines_written": 2, "attempts": 1, "status": "ok"}),
        json!({"trigger_name": "moody", "rows_in": 0, "lines_written": 0, "attempts": 1, "status": "ok"}),
        json!({"trigger_name": "moody", "rows_in": 0, "lines_written": 0, "attempts": 1, "status": "failed",
            "error": "Python function call failed: ValueError: as asked \"quoted\""}),
    ];
    let all_runs = async || (server.query("d", runs).await == expected).then_some(());
    eventually("all runs are there", all_runs).await;
    let started = "SELECT count(*) AS n FROM system.processing_engine_runs \
                   WHERE start_time > now() - INTERVAL '10 minutes' AND duration_ns > 0 AND duration_ns < 60000000000";
    assert_eq!(server.query("d", started).await, [json!({"n": 3})]);

    // What the triggers do, with processes that are really there.
    let status = "SELECT trigger_type, state, restarts, runs, failed_runs, last_run_status, lag_rows, lag_bytes, lag_seconds, \
                  lag_is_estimated, process_id > 1 AS has_process, resident_bytes > 1000000 AS has_memory, \
                  sandbox LIKE 'in force: no_new_privs%' AS is_sandboxed, runs_in_flight \
                  FROM system.processing_engine_trigger_status WHERE trigger_name = 'double'";
    expect_row(
        &server,
        status,
        &json!({"trigger_type": "writes", "state": "running", "restarts": 0, "runs": 1, "failed_runs": 0,
            "last_run_status": "ok", "lag_rows": 0, "lag_bytes": 0, "lag_seconds": 0.0, "lag_is_estimated": false,
            "has_process": true, "has_memory": true, "is_sandboxed": true, "runs_in_flight": 0}),
    )
    .await;
    let others = "SELECT trigger_name, state, last_error, process_id IS NULL AS is_down \
                  FROM system.processing_engine_trigger_status WHERE trigger_type = 'request' ORDER BY trigger_name";
    assert_eq!(
        server.query("d", others).await,
        [
            json!({"trigger_name": "moody", "state": "running", "is_down": false,
                "last_error": "Python function call failed: ValueError: as asked \"quoted\""}),
            json!({"trigger_name": "off", "state": "disabled", "is_down": true}),
        ]
    );
    let shown = server.command(&["show", "triggers", "--database", "d"]).await;
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    for part in [
        "last_run_status",
        "lag_seconds",
        "errors",
        "disabled",
        "| failed",
        "as asked",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }

    // A trigger that is stopped falls behind, and the table says how far.
    let disable = "/api/v3/configure/processing_engine_trigger/disable?db=d&trigger_name=double";
    assert_eq!(server.post(disable, "").await.status, 200);
    server.write("d", "cpu v=5 5\nother v=5 5").await;
    let lag = "SELECT state, lag_rows, lag_bytes > 0 AS has_bytes, lag_seconds > 0 AS has_seconds \
               FROM system.processing_engine_trigger_status WHERE trigger_name = 'double'";
    expect_row(
        &server,
        lag,
        &json!({"state": "disabled", "lag_rows": 1, "has_bytes": true, "has_seconds": true}),
    )
    .await;

    let lines = "SELECT log_text FROM system.processing_engine_logs WHERE log_text = 'doubled' OR log_text LIKE 'error running%'";
    assert_eq!(server.query("d", lines).await.len(), 2);
    server.stop().await;
    server.restart().await;
    assert_eq!(server.query("d", runs).await, expected, "runs outlive the server");
    assert_eq!(server.query("d", lines).await.len(), 2, "each line is there once");
    expect_row(
        &server,
        lag,
        &json!({"state": "disabled", "lag_rows": 1, "has_bytes": true, "has_seconds": true}),
    )
    .await;
    let newest = "SELECT log_text FROM system.processing_engine_logs WHERE trigger_name = 'double' \
                  ORDER BY event_time DESC LIMIT 1";
    assert_eq!(server.query("d", newest).await, [json!({"log_text": "doubled"})]);
}

#[tokio::test]
async fn metrics_have_everything_that_the_dashboard_shows() {
    let server = server().await;
    server.put_plugin("double.py", DOUBLE);
    server.put_plugin("moody.py", MOODY);
    server.create_database("d").await;
    server
        .create_trigger("d", "double", "double.py", "table:cpu", json!({}))
        .await;
    server
        .create_trigger("d", "mo\"ody", "moody.py", "request:moody", json!({}))
        .await;
    let partial = server
        .post("/api/v3/write_lp?db=d", "cpu v=1 1\ncpu v=\ncpu v=2 2")
        .await;
    assert_eq!(partial.status, 400);
    server.get("/api/v3/engine/moody").await;
    server.get("/api/v3/engine/moody?fail=1").await;
    expect_row(&server, "SELECT count(*) AS n FROM doubled", &json!({"n": 2})).await;
    let refused = server.try_query("d", "SELECT 1 / 0").await;
    assert_ne!(refused.status, 200);

    let mut metrics = String::new();
    let counted = async || {
        let answer = server.get("/metrics").await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; version=0.0.4; charset=utf-8")
        );
        let text = answer.text();
        let double = ["database=\"d\"", "trigger=\"double\""];
        let lines = sample(&text, "tidemill_trigger_lines_written_total", &double);
        (lines == Some("2")).then(|| text.clone())
    };
    metrics.push_str(&eventually("the run is counted", counted).await);
    let value = |name: &str, labels: &[&str]| {
        sample(&metrics, name, labels).unwrap_or_else(|| panic!("no {name} with {labels:?} in\n{metrics}"))
    };
    let double = "trigger=\"double\"";
    let moody = "trigger=\"mo\\\"ody\"";
    assert_eq!(value("tidemill_trigger_rows_in_total", &[double]), "2");
    assert_eq!(value("tidemill_trigger_lag_rows", &[double]), "0");
    let number = |name: &str, labels: &[&str]| value(name, labels).parse::<f64>().expect("a number");
    assert!(number("tidemill_trigger_resident_bytes", &[double]) > 1e6);
    for (status, runs) in [("ok", "1"), ("failed", "1"), ("timed_out", "0")] {
        let status = format!("status=\"{status}\"");
        assert_eq!(value("tidemill_trigger_runs_total", &[moody, &status]), runs);
    }
    assert_eq!(
        value("tidemill_trigger_run_duration_seconds_count", &[moody]),
        "2"
    );
    assert_eq!(
        value(
            "tidemill_trigger_run_duration_seconds_bucket",
            &[moody, "le=\"+Inf\""]
        ),
        "2"
    );
    assert_eq!(value("tidemill_write_lines_total", &[]), "2");
    assert_eq!(value("tidemill_write_rejected_lines_total", &[]), "1");
    assert!(number("tidemill_queries_failed_total", &[]) >= 1.0);
    assert!(number("tidemill_http_responses_total", &["class=\"5xx\""]) >= 1.0);
    assert!(number("tidemill_log_position", &[]) >= 1.0);

    let dashboard = include_str!("../../../../docs/grafana-dashboard.json");
    let dashboard: Value = serde_json::from_str(dashboard).expect("JSON");
    let mut expressions = Vec::new();
    members(&dashboard, "expr", &mut expressions);
    members(&dashboard["templating"], "query", &mut expressions);
    let shown: BTreeSet<&str> = expressions
        .iter()
        .flat_map(|expression| names_in(expression))
        .collect();
    assert!(shown.len() > 25, "{shown:?}");
    for name in shown {
        assert!(
            sample(&metrics, name, &[]).is_some(),
            "the dashboard shows {name}, which is not there"
        );
    }
}
