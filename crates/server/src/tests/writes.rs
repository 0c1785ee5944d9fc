//! The write endpoints of versions 1 and 2, and what they share with that of version 3.

use std::time::Duration;

use http::HeaderValue;
use serde_json::{Value, json};
use tidemill_catalog::Limits;
use tidemill_ingest::SnapshotConfig;
use tidemill_testkit::{Fault, FaultyStore};

use super::{BODY_BYTES_MAX, Server};

const NOTHING: (u16, Value) = (204, Value::Null);

#[tokio::test]
async fn v1_writes_to_databases_and_retention_policies() {
    let server = Server::start().await;
    let write = async |query: &str, lines: &str| {
        let path = format!("/write?{query}");
        server.post(&path, lines.to_owned()).await.outcome()
    };
    assert_eq!(write("db=d", "m v=1 1").await, NOTHING);
    for rp in ["", "autogen", "AutoGen", "default"] {
        let query = format!("db=d&rp={rp}&precision=ms&u=me&p=secret&consistency=all");
        assert_eq!(write(&query, "m v=2 2").await, NOTHING, "{rp}");
    }
    assert_eq!(write("db=d&rp=week&precision=s", "m v=3 3").await, NOTHING);
    assert_eq!(
        server.rows("d", "SELECT time, v FROM m ORDER BY time").await,
        json!([{"time": "1970-01-01T00:00:00.000000001", "v": 1.0}, {"time": "1970-01-01T00:00:00.002", "v": 2.0}])
    );
    assert_eq!(
        server.rows("d/week", "SELECT time, v FROM m").await,
        json!([{"time": "1970-01-01T00:00:03", "v": 3.0}])
    );
}

#[tokio::test]
async fn v1_says_what_is_wrong() {
    let server = Server::start().await;
    let write = async |path: &str, lines: &str| server.post(path, lines.to_owned()).await.outcome();
    for path in ["/write", "/write?precision=s"] {
        assert_eq!(
            write(path, "m v=1").await,
            (400, json!({"error": "no db destination provided"}))
        );
    }
    let precisions = "`s`, `second`, `millisecond`, `ms`, `microsecond`, `u`, `us`, `n`, `nanosecond`, `ns`";
    for precision in ["xx", "auto"] {
        let text = format!(
            "failed to deserialize db/rp/precision in request: unknown variant `{precision}`, expected one of {precisions}"
        );
        assert_eq!(
            write(&format!("/write?db=d&precision={precision}"), "m v=1").await,
            (400, json!({"error": text}))
        );
    }
    assert_eq!(
        write("/write?db=d", "# nothing").await,
        (400, json!({"error": "incoming write was empty"}))
    );
    let name = "db name with invalid retention policy, if providing a retention policy name, must be of form '<db_name>/<rp_name>'";
    assert_eq!(
        write("/write?db=d/a&rp=b", "m v=1").await,
        (400, json!({"error": name}))
    );
    // All lines or none.
    let bad =
        json!({"error_message": "No fields were provided", "line_number": 2, "original_line": "m,h=a v=x"});
    assert_eq!(
        write("/write?db=d", "m v=1 1\nm,h=a v=x").await,
        (400, json!({"error": "line protocol parsing error", "data": bad}))
    );
    assert_eq!(server.get("/api/v3/query_sql?db=d&q=SELECT+1").await.status, 404);
}

#[tokio::test]
async fn v2_writes_to_buckets() {
    let server = Server::start().await;
    let write = async |query: &str, lines: &str| {
        let path = format!("/api/v2/write?{query}");
        server.post(&path, lines.to_owned()).await.outcome()
    };
    assert_eq!(write("org=o&bucket=d", "m v=1 1").await, NOTHING);
    assert_eq!(write("bucket=d&precision=us", "m v=2 2").await, NOTHING);
    assert_eq!(write("bucket=d%2Frp&precision=ns", "m v=3 3").await, NOTHING);
    assert_eq!(
        server.rows("d", "SELECT time, v FROM m ORDER BY time").await,
        json!([{"time": "1970-01-01T00:00:00.000000001", "v": 1.0}, {"time": "1970-01-01T00:00:00.000002", "v": 2.0}])
    );
    assert_eq!(server.rows("d/rp", "SELECT v FROM m").await, json!([{"v": 3.0}]));
}

#[tokio::test]
async fn v2_errors_have_a_code_and_a_message() {
    let limits = Limits {
        columns_per_table_max: 1,
        ..Limits::default()
    };
    let server = Server::with_limits(limits).await;
    let check = async |path: &str, lines: &str, status: u16, code: &str, message: &str| {
        let outcome = server.post(path, lines.to_owned()).await.outcome();
        assert_eq!(
            outcome,
            (status, json!({"code": code, "message": message})),
            "{path}"
        );
    };
    let missing = "no org/bucket destination provided";
    check("/api/v2/write", "m v=1", 400, "invalid", missing).await;
    check("/api/v2/write?org=o", "m v=1", 400, "invalid", missing).await;
    check(
        "/api/v2/write?bucket=",
        "m v=1",
        400,
        "invalid",
        "missing bucket value",
    )
    .await;
    let precision = "failed to deserialize org/bucket/precision in request: unknown variant `xx`, expected one of `s`, \
                     `second`, `millisecond`, `ms`, `microsecond`, `u`, `us`, `n`, `nanosecond`, `ns`";
    check(
        "/api/v2/write?bucket=d&precision=xx",
        "m v=1",
        400,
        "invalid",
        precision,
    )
    .await;
    let path = "/api/v2/write?bucket=d";
    let empty = "write buffer error: incoming write was empty";
    check(path, "", 400, "invalid", empty).await;
    let no_fields = "write buffer error: line protocol parse failed: No fields were provided";
    check(path, "m v=1 1\nm v=x", 400, "invalid", no_fields).await;
    let name = "db name did not start with a number or letter";
    check("/api/v2/write?bucket=_d", "m v=1", 400, "invalid", name).await;
    let columns = "write buffer error: line protocol parse failed: Update to schema would exceed number of columns \
                   per table limit of 1 columns";
    check(path, "m v=1,w=1", 422, "unprocessable entity", columns).await;
    let size = format!("max request size ({BODY_BYTES_MAX} bytes) exceeded");
    let large = " ".repeat(BODY_BYTES_MAX + 1);
    check(path, &large, 413, "request too large", &size).await;
    // Nothing of what was refused is left behind.
    assert_eq!(server.get("/api/v3/query_sql?db=d&q=SELECT+1").await.status, 404);
}

#[tokio::test]
async fn without_room_in_memory_writers_are_told_when_to_come_again() {
    let snapshot = SnapshotConfig {
        room_wait_max: Duration::from_millis(1),
        ..SnapshotConfig::default().with_buffer_bytes_max(1)
    };
    let server = Server::with(Limits::default(), snapshot).await;
    let first = server.post("/api/v3/write_lp?db=d", "m v=1 1").await;
    assert_eq!(first.status, 204, "one request is let in whatever its size");
    let text =
        |answer: &super::Answer, field: &str| answer.json()[field].as_str().unwrap_or_default().to_owned();
    for path in ["/api/v3/write_lp?db=d", "/write?db=d"] {
        let answer = server.post(path, "m v=2 2").await;
        assert_eq!(
            (answer.status.as_u16(), &answer.headers["retry-after"]),
            (503, &HeaderValue::from(5))
        );
        let error = text(&answer, "error");
        assert!(error.starts_with("write buffer is full: "), "{error}");
    }
    let answer = server.post("/api/v2/write?bucket=d", "m v=2 2").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["retry-after"]),
        (503, &HeaderValue::from(5))
    );
    assert_eq!(text(&answer, "code"), "unavailable");
    assert!(text(&answer, "message").starts_with("write buffer is full: "));
    assert_eq!(
        server.rows("d", "SELECT v FROM m").await,
        json!([{"v": 1.0}]),
        "queries work"
    );
    let metrics = server.get("/metrics").await;
    assert!(
        metrics.text().contains("tidemill_write_refused_total 3"),
        "{}",
        metrics.text()
    );
}

#[tokio::test]
async fn a_schema_that_finds_no_room_on_the_disk_is_refused_like_a_write() {
    let objects = FaultyStore::new();
    let (limits, snapshot) = (Limits::default(), SnapshotConfig::default());
    let server = Server::on(objects.object_store(), limits, snapshot).await;
    let write = async |path: &str, lines: &'static str| server.post(path, lines).await;
    let create = async |what: &str, body: Value| {
        server
            .post_json(&format!("/api/v3/configure/{what}"), &body)
            .await
    };
    assert_eq!(write("/api/v3/write_lp?db=d", "m v=1 1").await.status, 204);

    let refused = |answer: &super::Answer, field: &str| {
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.headers["retry-after"], "5");
        let message = answer.json()[field].as_str().unwrap_or_default().to_owned();
        assert!(message.starts_with("catalog store: "), "{message}");
    };
    for (path, field) in [
        ("/api/v3/write_lp?db=d", "error"),
        ("/write?db=d", "error"),
        ("/api/v2/write?bucket=d", "message"),
    ] {
        for lines in ["m w=1 2", "n v=1 2"] {
            objects.fail_next_put(Fault::DiskFull);
            refused(&write(path, lines).await, field);
        }
    }
    let (database, table) = (
        json!({"db": "e"}),
        json!({"db": "d", "table": "n", "tags": ["t"]}),
    );
    for (what, body) in [("database", &database), ("table", &table)] {
        objects.fail_next_put(Fault::DiskFull);
        refused(&create(what, body.clone()).await, "error");
    }
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'm' ORDER BY 1";
    assert_eq!(
        server.rows("d", columns).await,
        json!([{"column_name": "time"}, {"column_name": "v"}])
    );

    for (what, body) in [("database", database), ("table", table)] {
        assert_eq!(create(what, body).await.status, 200, "{what}");
    }
    assert_eq!(write("/api/v3/write_lp?db=d", "m w=1 2").await.status, 204);
    assert_eq!(
        server.rows("d", "SELECT w FROM m WHERE w > 0").await,
        json!([{"w": 1.0}])
    );
}
