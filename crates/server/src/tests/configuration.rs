//! `/api/v3/configure/database/retention_period`.

use http::Method;
use serde_json::{Value, json};

use super::Server;

#[tokio::test]
async fn a_retention_period_is_set_and_cleared() {
    let server = Server::start().await;
    let answer = server.post("/api/v3/write_lp?db=d&precision=s", "m v=1 1").await;
    assert_eq!(answer.status, 204);
    let path = "/api/v3/configure/database/retention_period";
    let rows = async || server.rows("d", "SELECT v FROM m").await;
    let set = server.post(&format!("{path}?db=d&duration=7d"), "").await;
    assert_eq!(set.outcome(), (204, Value::Null));
    assert_eq!(rows().await, json!([]));
    let clear = server.request(Method::DELETE, &format!("{path}?db=d"), "").await;
    assert_eq!(clear.outcome(), (204, Value::Null));
    assert_eq!(rows().await, json!([{"v": 1.0}]));

    let unknown = server.post(&format!("{path}?db=nope&duration=7d"), "").await;
    assert_eq!(
        unknown.outcome(),
        (
            404,
            json!({"error": "the requested resource was not found: nope"})
        )
    );
    let (status, body) = server
        .post(&format!("{path}?db=d&duration=30x"), "")
        .await
        .outcome();
    let text = body["error"].as_str().unwrap();
    assert!(
        status == 400 && text.starts_with("Cannot parse the given human time: "),
        "{status} {text}"
    );
    let missing = server.post(&format!("{path}?db=d"), "").await;
    assert_eq!(
        missing.outcome(),
        (400, json!({"error": "serde error: missing field `duration`"}))
    );
    // Explorer tells by this 404 which product it talks to.
    assert_eq!(server.get("/api/v3/configure/retention_period").await.status, 404);
}
