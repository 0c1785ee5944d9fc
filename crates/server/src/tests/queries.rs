//! `/api/v3/query_sql` where it is HTTP's business and not that of SQL.

use axum::body::Body;
use http::Request;
use serde_json::json;

use super::Server;

async fn filled() -> Server {
    let server = Server::start().await;
    let answer = server
        .post("/api/v3/write_lp?db=d", "m,h=a v=1 1\nm,h=b v=2 2")
        .await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    server
}

#[tokio::test]
async fn an_error_in_the_parameters_names_its_place() {
    let server = filled().await;
    let post = async |body: &'static str| server.post("/api/v3/query_sql", body).await.outcome();
    let error = |text: &str| (400, json!({ "error": text }));
    assert_eq!(
        post(r#"{"db":"d","q":"SELECT 1","params":[1]}"#).await,
        error("serde json error: invalid type: sequence, expected a map at line 1 column 34")
    );
    assert_eq!(
        post(r#"{"db":"d","q":"SELECT 1","params":{"a":{}}}"#).await,
        error(
            "serde json error: invalid type: map, expected a string, number, boolean or null at line 1 column 41"
        )
    );
    assert_eq!(
        post(r#"{"db":"d1"}"#).await,
        error("serde json error: missing field `q` at line 1 column 11")
    );
    let answer = server
        .get("/api/v3/query_sql?db=d&q=SELECT+1&params=%5B1%5D")
        .await;
    assert_eq!(
        answer.outcome(),
        error("serde json error: invalid type: sequence, expected a map at line 1 column 0")
    );
    let body = r#"{"db":"d","q":"SELECT v FROM m WHERE h = $h AND v > $v","params":{"h":"b","v":1}}"#;
    assert_eq!(post(body).await, (200, json!([{"v": 2.0}])));
    let answer = server
        .get("/api/v3/query_sql?db=d&q=SELECT+$n+AS+n&params=%7B%22n%22:18446744073709551615%7D")
        .await;
    assert_eq!(answer.text(), r#"[{"n":18446744073709551615}]"#);
}

#[tokio::test]
async fn an_unknown_database_is_a_query_error() {
    let server = filled().await;
    assert_eq!(
        server.get("/api/v3/query_sql?db=nodb&q=SELECT+1").await.outcome(),
        (404, json!({"error": "query error: database not found: nodb"}))
    );
}

#[tokio::test]
async fn a_media_type_may_have_parameters() {
    let server = filled().await;
    for (accept, content_type) in [
        ("text/csv; charset=utf-8", "text/csv"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ("application/jsonl;q=1", "application/jsonl"),
        ("text/csv, */*", "application/json"),
    ] {
        let request = Request::get("/api/v3/query_sql?db=d&q=SELECT+1").header("accept", accept);
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], content_type, "{accept}");
    }
}

#[tokio::test]
async fn what_is_too_large_for_a_table_of_characters_comes_as_text() {
    let server = filled().await;
    let sql = "SELECT+value+FROM+generate_series(1,3000000)";
    let answer = server
        .get(&format!("/api/v3/query_sql?db=d&format=pretty&q={sql}"))
        .await;
    assert_eq!(answer.status, 500);
    assert!(
        answer.text().contains("too large for the format 'pretty'"),
        "{}",
        answer.text()
    );
    let answer = server
        .get(&format!("/api/v3/query_sql?db=d&format=csv&q={sql}"))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text().lines().count(), 3_000_001);
}
