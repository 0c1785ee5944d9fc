//! `influxdb3_local` and `LineBuilder` from inside a plugin (`spec/engine.md` 3, 4).

use serde_json::{Value, json};
use tidemill_testkit::{TestServer, eventually};

use crate::server;

/// Runs the body of a request plugin once and returns what it answers.
async fn run(server: &TestServer, name: &str, body: &str) -> Value {
    let indented: String = body.lines().map(|line| format!("    {line}\n")).collect();
    let code = format!(
        "import datetime\ndef process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):\n{indented}"
    );
    server.put_plugin(&format!("{name}.py"), &code);
    server
        .create_trigger(
            "d",
            name,
            &format!("{name}.py"),
            &format!("request:{name}"),
            json!({}),
        )
        .await;
    let answer = server.get(&format!("/api/v3/engine/{name}")).await;
    answer.json()
}

#[tokio::test]
async fn queries_give_python_values() {
    let server = server().await;
    server
        .write("d", "m,host=a f=1.5,i=2i,u=3u,s=\"x\",b=t 1\nm,host=b f=2.5 2")
        .await;
    server.create_database("empty").await;
    let answer = run(&server, "rows", r#"
rows = influxdb3_local.query("SELECT * FROM m ORDER BY time")
named = influxdb3_local.query("SELECT f FROM $table WHERE host = $host AND f > $least", {"table": "m", "host": "b", "least": 1})
quoted = influxdb3_local.query("SELECT count(*) AS n FROM 'm'")
when = influxdb3_local.query("SELECT f FROM m WHERE time > $t", {"t": datetime.datetime(1969, 12, 31)})
typed = influxdb3_local.query("SELECT DATE '2024-01-02' AS d, [1, 2] AS l, CAST(1.25 AS DECIMAL(10,2)) AS x, {'a': 1} AS s, arrow_cast(7, 'Int8') AS i")
none = influxdb3_local.query("SELECT * FROM m WHERE host = 'zz'")
errors = []
for sql, database in [("SELECT foo FROM not_here", None), ("SELECT 1", "no_such_db")]:
    try:
        influxdb3_local.query(sql, database=database) if database else influxdb3_local.query(sql)
    except Exception as e:
        errors.append([type(e).__name__, str(e)])
return {"rows": rows, "named": named, "quoted": quoted, "when": when, "typed": [str(v) for v in typed[0].values()], "none": none, "errors": errors}
"#)
    .await;
    assert_eq!(
        answer["rows"],
        json!([
            {"b": true, "f": 1.5, "host": "a", "i": 2, "s": "x", "time": 1, "u": 3},
            {"b": null, "f": 2.5, "host": "b", "i": null, "s": null, "time": 2, "u": null},
        ])
    );
    assert_eq!(answer["named"], json!([{"f": 2.5}]));
    assert_eq!(answer["quoted"], json!([{"n": 2}]));
    assert_eq!(answer["when"], json!([{"f": 1.5}, {"f": 2.5}]));
    assert_eq!(
        answer["typed"],
        json!(["2024-01-02", "[1, 2]", "1.25", "{'a': 1}", "7"])
    );
    assert_eq!(answer["none"], json!([]));
    let error = |index: usize| {
        (
            answer["errors"][index][0].as_str().unwrap(),
            answer["errors"][index][1].as_str().unwrap(),
        )
    };
    let (name, text) = error(0);
    assert_eq!(name, "QueryError");
    assert!(
        text.contains("table 'public.iox.not_here' not found")
            && text.ends_with("executing query on d: SELECT foo FROM not_here"),
        "{text}"
    );
    let (name, text) = error(1);
    assert_eq!(name, "QueryError");
    assert!(text.contains("database not found: no_such_db"), "{text}");
}

#[tokio::test]
async fn writes_of_every_form() {
    let server = server().await;
    server.create_database("d").await;
    let answer = run(
        &server,
        "writer",
        r#"
from tidemill import LineBuilder as Imported
class Batch:
    def build(self):
        return "batch v=1i 1\nbatch v=2i 2"
influxdb3_local.write(LineBuilder("lines").tag("a", "x y").float64_field("f", 2).time_ns(5))
influxdb3_local.write(Imported("lines").tag("a", "z").float64_field("f", 0.25).time_ns(6))
influxdb3_local.write(Batch())
influxdb3_local.write("text v=3i 3")
influxdb3_local.write([LineBuilder("many").int64_field("v", 1), LineBuilder("many2").uint64_field("v", 2)])
influxdb3_local.write_to_db("default", LineBuilder("elsewhere").bool_field("ok", True))
influxdb3_local.write_sync(LineBuilder("now").string_field("s", 'say "hi"'), no_sync=False)
influxdb3_local.write_sync_to_db("other", LineBuilder("now").int64_field("v", 9), False)
seen = influxdb3_local.query("SELECT s FROM now")
try:
    influxdb3_local.write_sync("not line protocol", no_sync=False)
except Exception as e:
    refused = [type(e).__name__, str(e)]
try:
    LineBuilder("a b")
except Exception as e:
    name = [type(e).__name__, str(e)]
return {"seen": seen, "refused": refused, "name": name}
"#,
    )
    .await;
    assert_eq!(answer["seen"], json!([{"s": "say \"hi\""}]));
    assert_eq!(answer["refused"][0], "Exception");
    let text = answer["refused"][1].as_str().unwrap();
    assert!(
        text.starts_with("error writing line protocol to d: Cannot write: line protocol parse failed: "),
        "{text}"
    );
    assert_eq!(
        answer["name"],
        json!([
            "InvalidMeasurementError",
            "Measurement name cannot contain spaces"
        ])
    );
    let there = async || (server.try_query("d", "SELECT v FROM text").await.status == 200).then_some(());
    eventually("the collected lines are committed", there).await;
    assert_eq!(
        server.query("d", "SELECT a, f FROM lines ORDER BY time").await,
        [json!({"a": "x y", "f": 2.0}), json!({"a": "z", "f": 0.25})]
    );
    assert_eq!(
        server.query("d", "SELECT sum(v) AS s FROM batch").await,
        [json!({"s": 3})]
    );
    assert_eq!(
        server.query("default", "SELECT ok FROM elsewhere").await,
        [json!({"ok": true})]
    );
    assert_eq!(
        server.query("other", "SELECT v FROM now").await,
        [json!({"v": 9})]
    );
    assert_eq!(server.query("d", "SELECT v FROM many2").await, [json!({"v": 2})]);
}

#[tokio::test]
async fn caches_keep_what_they_are_given() {
    let server = server().await;
    server.create_database("d").await;
    server.put_plugin("cache.py", r#"
class Thing:
    def __init__(self): self.count = 0
def process_request(influxdb3_local, query_parameters, *rest):
    cache = influxdb3_local.cache
    if cache.get("thing") is None:
        cache.put("thing", Thing())
    cache.get("thing").count += 1
    cache.put("gone", 1, ttl=0)
    step = query_parameters.get("step")
    if step == "put":
        cache.put("shared", {"deep": [1, 2]}, use_global=True)
    refused = None
    try:
        cache.put("lock", lambda: 1, use_global=True)
    except TypeError as e:
        refused = "TypeError"
    return {"count": cache.get("thing").count, "gone": cache.get("gone", "default"),
            "shared": cache.get("shared", use_global=True), "refused": refused, "deleted": cache.delete("never")}
"#);
    for trigger in ["first", "second"] {
        server
            .create_trigger("d", trigger, "cache.py", &format!("request:{trigger}"), json!({}))
            .await;
    }
    let ask = async |path: &str| server.get(&format!("/api/v3/engine/{path}")).await.json();
    let answer = |count: u64, shared: Value| json!({"count": count, "gone": "default", "shared": shared, "refused": "TypeError", "deleted": false});
    assert_eq!(ask("first").await, answer(1, json!(null)));
    assert_eq!(ask("first?step=put").await, answer(2, json!({"deep": [1, 2]})));
    assert_eq!(ask("second").await, answer(1, json!({"deep": [1, 2]})));
}

#[tokio::test]
async fn dry_runs_write_nothing() {
    let server = server().await;
    server.create_database("d").await;
    server.put_plugin(
        "dry.py",
        "def process_writes(influxdb3_local, table_batches, args=None):\n    \
             influxdb3_local.info('rows', len(table_batches[0]['rows']), args)\n    \
             influxdb3_local.write(LineBuilder('out').int64_field('n', 1).time_ns(1))\n    \
             if args and args.get('fail'): raise ValueError('as asked')\n",
    );
    let request = json!({"filename": "dry.py", "database": "d", "input_lp": "m v=1 1\nm v=2 2"});
    let report = server.post_json("/api/v3/plugin_test/wal", &request).await.json();
    assert_eq!(report["database_writes"], json!({"d": ["out n=1i 1"]}));
    assert_eq!(report["errors"], json!([]));
    assert!(
        report["log_lines"]
            .as_array()
            .unwrap()
            .contains(&json!("INFO: rows 2 None")),
        "{report}"
    );
    assert_eq!(
        server
            .query("d", "SHOW TABLES")
            .await
            .iter()
            .filter(|table| table["table_schema"] == "iox")
            .count(),
        0
    );
    let request = json!({"filename": "dry.py", "database": "d", "input_lp": "m v=1 1", "input_arguments": {"fail": "1"}});
    let report = server.post_json("/api/v3/plugin_test/wal", &request).await.json();
    assert_eq!(report["errors"].as_array().unwrap().len(), 1, "{report}");
    assert!(
        report["errors"][0]
            .as_str()
            .unwrap()
            .starts_with("error executing plugin: ValueError: as asked"),
        "{report}"
    );
    assert!(
        report["log_lines"]
            .as_array()
            .unwrap()
            .iter()
            .any(|line| line.as_str().unwrap().starts_with("INFO: rows 1")),
        "{report}"
    );
}
