//! `/api/v3/delete` and `/api/v2/delete`.

use serde_json::{Value, json};

use super::Server;

const V3: &str = "/api/v3/delete";
const V2: &str = "/api/v2/delete?bucket=d&org=any";

async fn filled() -> Server {
    let server = Server::start().await;
    let lines = "m,h=a v=1 1\nm,h=b v=2 2\nm,h=a v=3 3\nn,h=a,rack=1 w=1i 1";
    let answer = server.post("/api/v3/write_lp?db=d&precision=s", lines).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    server
}

async fn values(server: &Server) -> Value {
    server.rows("d", "SELECT v FROM m ORDER BY time").await
}

#[tokio::test]
async fn rows_are_gone_with_the_answer() {
    let server = filled().await;
    let delete = async |body: Value| server.post_json(V3, &body).await.outcome();
    let gone = (204, Value::Null);
    assert_eq!(
        delete(json!({"db": "d", "table": "m", "predicate": "h = 'a'", "stop": "1970-01-01T00:00:02Z"}))
            .await,
        gone
    );
    assert_eq!(values(&server).await, json!([{"v": 2.0}, {"v": 3.0}]));
    // Both ends are included.
    assert_eq!(
        delete(json!({"db": "d", "table": "m", "start": 3_000_000_000_u64, "stop": 3_000_000_000_i64})).await,
        gone
    );
    assert_eq!(values(&server).await, json!([{"v": 2.0}]));
    // A delete of nothing is no error, and one without conditions is of all rows.
    assert_eq!(
        delete(json!({"db": "d", "table": "m", "predicate": "h = 'zz'"})).await,
        gone
    );
    assert_eq!(delete(json!({"db": "d", "table": "m"})).await, gone);
    assert_eq!(values(&server).await, json!([]));
    assert_eq!(server.rows("d", "SELECT w FROM n").await, json!([{"w": 1}]));
    // What is written later stays.
    server
        .post("/api/v3/write_lp?db=d&precision=s", "m,h=a v=9 1")
        .await;
    assert_eq!(values(&server).await, json!([{"v": 9.0}]));
}

#[tokio::test]
async fn a_delete_that_is_not_clear_is_a_bad_request() {
    let server = filled().await;
    let refused = async |body: Value| {
        let (status, body) = server.post_json(V3, &body).await.outcome();
        (status, body["error"].as_str().unwrap_or_default().to_owned())
    };
    let bad = |text: &str| (400, text.to_owned());
    let of = |predicate: &str| json!({"db": "d", "table": "m", "predicate": predicate});
    assert_eq!(
        refused(of("v = '1'")).await,
        bad("column 'v' of table 'm' is a field: rows are deleted by tags and time only")
    );
    assert_eq!(
        refused(of("rack = '1'")).await,
        bad("there is no column 'rack' in table 'm'")
    );
    assert_eq!(
        refused(of("h = a")).await,
        bad("cannot read the predicate at character 5: expected a value in quotes, found 'a'")
    );
    assert_eq!(
        refused(json!({"db": "d", "table": "m", "start": 2, "stop": 1})).await,
        bad("no instant lies in the span of time to delete: it begins after its end")
    );
    let (status, text) = refused(json!({"db": "d", "table": "m", "start": "noon"})).await;
    assert!(
        status == 400 && text.contains("'noon' is no time: expected one like"),
        "{text}"
    );
    let (status, text) = refused(json!({"db": "d", "table": "m", "start": true})).await;
    assert!(status == 400 && text.contains("expected a time"), "{text}");
    assert_eq!(
        refused(json!({"db": "d"})).await,
        bad("serde json error: missing field `table` at line 1 column 10")
    );
    assert_eq!(
        refused(json!({"db": "d", "table": "zz"})).await,
        (404, "Table zz not in DB schema for d".to_owned())
    );
    assert_eq!(
        refused(json!({"db": "nope", "table": "m"})).await,
        (404, "the requested resource was not found: nope".to_owned())
    );
    let plain = server.post(V3, r#"{"db":"d","table":"m"}"#).await;
    assert_eq!(plain.status, 415);
    assert_eq!(server.get(V3).await.status, 405);
    assert_eq!(
        values(&server).await,
        json!([{"v": 1.0}, {"v": 2.0}, {"v": 3.0}]),
        "nothing was deleted"
    );
}

#[tokio::test]
async fn clients_of_the_version_before_delete_too() {
    let server = filled().await;
    let delete = async |path: &str, body: &str| server.post(path, body.to_owned()).await.outcome();
    let all_time = r#""start":"1970-01-01T00:00:00Z","stop":"2100-01-01T00:00:00Z""#;
    let of_m = format!(r#"{{{all_time},"predicate":"_measurement=\"m\" AND h=\"b\""}}"#);
    assert_eq!(delete(V2, &of_m).await, (204, Value::Null));
    assert_eq!(values(&server).await, json!([{"v": 1.0}, {"v": 3.0}]));
    let unknown = format!(r#"{{{all_time},"predicate":"_measurement=\"none\""}}"#);
    assert_eq!(delete(V2, &unknown).await, (204, Value::Null));
    // In all tables.
    let of_all = format!(r#"{{{all_time},"predicate":"h='a'"}}"#);
    assert_eq!(delete(V2, &of_all).await, (204, Value::Null));
    assert_eq!(values(&server).await, json!([]));
    assert_eq!(server.rows("d", "SELECT w FROM n").await, json!([]));

    let error = |status: u16, code: &str, message: &str| (status, json!({"code": code, "message": message}));
    let of_field = format!(r#"{{{all_time},"predicate":"v=\"1\""}}"#);
    assert_eq!(
        delete(V2, &of_field).await,
        error(
            400,
            "invalid",
            "column 'v' of table 'm' is a field: rows are deleted by tags and time only"
        )
    );
    assert_eq!(
        delete(V2, r#"{"start":"1970-01-01T00:00:00Z"}"#).await,
        error(
            400,
            "invalid",
            "serde json error: missing field `stop` at line 1 column 32"
        )
    );
    let whole = format!("{{{all_time}}}");
    assert_eq!(
        delete("/api/v2/delete?bucket=nope", &whole).await,
        error(404, "not found", "the requested resource was not found: nope")
    );
    assert_eq!(
        delete("/api/v2/delete?org=o", &whole).await,
        error(400, "invalid", "no org/bucket destination provided")
    );
}
