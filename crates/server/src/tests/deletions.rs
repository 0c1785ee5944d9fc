//! Databases and tables that go and come back, and how long tables keep their rows.

use http::Method;
use serde_json::{Value, json};

use super::Server;

const DATABASE: &str = "/api/v3/configure/database";
const TABLE: &str = "/api/v3/configure/table";

async fn filled() -> Server {
    let server = Server::start().await;
    server.write("m v=1 1").await;
    server
}

impl Server {
    async fn write(&self, lines: &'static str) {
        let answer = self.post("/api/v3/write_lp?db=d&precision=s", lines).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    async fn delete(&self, path: &str) -> (u16, Value) {
        self.request(Method::DELETE, path, "").await.outcome()
    }

    async fn put_json(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = http::Request::put(path).header("content-type", "application/json");
        self.send(request.body(body.to_string().into()).unwrap())
            .await
            .outcome()
    }

    /// The present name of the only deleted table.
    async fn deleted_table(&self) -> String {
        let sql = "SELECT table_name FROM system.tables WHERE deleted";
        let rows = self.rows("_internal", sql).await;
        assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
        rows[0]["table_name"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_table_comes_back_by_either_name() {
    let server = filled().await;
    let undelete = async |body: Value| {
        server
            .post_json(&format!("{TABLE}/undelete"), &body)
            .await
            .outcome()
    };
    let error = |status: u16, text: &str| (status, json!({ "error": text }));
    assert_eq!(
        undelete(json!({"db": "d", "table": "m"})).await,
        error(404, "there is no deleted table 'm'")
    );
    assert_eq!(
        server.delete(&format!("{TABLE}?db=d&table=m")).await,
        (200, Value::Null)
    );
    assert_eq!(
        server.delete(&format!("{TABLE}?db=d&table=m")).await,
        error(404, "Table m not in DB schema for d")
    );
    let missing = server
        .post_json("/api/v3/query_sql", &json!({"db": "d", "q": "SELECT v FROM m"}))
        .await;
    assert_eq!(missing.status, 400);
    assert_eq!(
        undelete(json!({"db": "d", "table": "m"})).await,
        (200, json!({"db": "d", "table": "m"}))
    );
    assert_eq!(server.rows("d", "SELECT v FROM m").await, json!([{"v": 1.0}]));

    server
        .delete(&format!("{TABLE}?db=d&table=m&hard_delete_at=never"))
        .await;
    let deleted = server.deleted_table().await;
    assert!(deleted.starts_with("m-20"), "{deleted}");
    server.write("m v=2 1").await;
    assert_eq!(
        undelete(json!({"db": "d", "table": deleted})).await,
        error(
            409,
            "there is another table 'm' now: delete it first, or undelete under another name"
        )
    );
    assert_eq!(
        undelete(json!({"db": "d", "table": deleted, "new_name": "before"})).await,
        (200, json!({"db": "d", "table": "before"}))
    );
    assert_eq!(
        server.rows("d", "SELECT v FROM before").await,
        json!([{"v": 1.0}])
    );
    assert_eq!(server.rows("d", "SELECT v FROM m").await, json!([{"v": 2.0}]));
    assert_eq!(
        undelete(json!({"db": "nope", "table": "m"})).await,
        error(404, "the requested resource was not found: nope")
    );
    let (status, _) = server
        .delete(&format!("{TABLE}?db=d&table=m&hard_delete_at=soon"))
        .await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_database_comes_back_with_its_tables() {
    let server = filled().await;
    let undelete = async |body: Value| {
        server
            .post_json(&format!("{DATABASE}/undelete"), &body)
            .await
            .outcome()
    };
    let error = |status: u16, text: &str| (status, json!({ "error": text }));
    for _ in 0..2 {
        server.write("m v=1 1").await;
        assert_eq!(
            server.delete(&format!("{DATABASE}?db=d")).await,
            (200, Value::Null)
        );
    }
    let (status, body) = undelete(json!({"db": "d"})).await;
    let text = body["error"].as_str().unwrap();
    assert!(
        status == 400
            && text.starts_with("several deleted databases were called 'd', name one of them: d-20"),
        "{text}"
    );
    let second = text.rsplit(", ").next().unwrap().to_owned();
    let write = format!("/api/v3/write_lp?db={second}");
    assert_eq!(
        server.post(&write, "m v=1 1").await.outcome(),
        error(
            400,
            &format!("cannot write to soft-deleted database '{second}' - it is marked for deletion")
        )
    );
    assert_eq!(
        undelete(json!({"db": second, "new_name": "not allowed"})).await.0,
        400
    );
    assert_eq!(undelete(json!({"db": second})).await, (200, json!({"db": "d"})));
    assert_eq!(server.rows("d", "SELECT v FROM m").await, json!([{"v": 1.0}]));
    // Only one of that name is deleted now.
    assert_eq!(
        undelete(json!({"db": "d"})).await,
        error(
            409,
            "there is another database 'd' now: delete it first, or undelete under another name"
        )
    );
    assert_eq!(
        undelete(json!({"db": "d", "new_name": "e"})).await,
        (200, json!({"db": "e"}))
    );
    assert_eq!(
        undelete(json!({"db": "zz"})).await,
        error(404, "there is no deleted database 'zz'")
    );
}

#[tokio::test]
async fn a_table_may_keep_its_rows_for_another_time_than_its_database() {
    let server = filled().await;
    let rows = async || server.rows("d", "SELECT v FROM m").await;
    let update = async |period: Value| {
        let body = json!({"db": "d", "table": "m", "retention_period": period});
        server.put_json(TABLE, &body).await
    };
    let (there, gone) = (json!([{"v": 1.0}]), json!([]));
    assert_eq!(update(json!("7d")).await, (200, Value::Null));
    assert_eq!(rows().await, gone);
    assert_eq!(update(Value::Null).await, (200, Value::Null));
    assert_eq!(rows().await, there);
    server
        .put_json(DATABASE, &json!({"db": "d", "retention_period": "1d"}))
        .await;
    assert_eq!(rows().await, gone);
    assert_eq!(update(json!("infinite")).await, (200, Value::Null));
    assert_eq!(rows().await, there);
    assert_eq!(update(json!("200y")).await, (200, Value::Null));
    assert_eq!(rows().await, there);
    let sql = "SELECT table_name, retention_period_ns FROM system.tables WHERE database_name = 'd'";
    assert_eq!(
        server.rows("_internal", sql).await,
        json!([{"table_name": "m", "retention_period_ns": 200 * 31_557_600_000_000_000_u64}])
    );

    let (status, body) = update(json!("30x")).await;
    let text = body["error"].as_str().unwrap();
    assert!(
        status == 400
            && text.starts_with(
                "serde json error: invalid value: string \"30x\", expected a duration or infinite"
            ),
        "{text}"
    );
    let unknown = json!({"db": "d", "table": "zz", "retention_period": "1d"});
    assert_eq!(
        server.put_json(TABLE, &unknown).await,
        (404, json!({"error": "Table zz not in DB schema for d"}))
    );
    let create = json!({"db": "d", "table": "short", "fields": [{"name": "f", "type": "float64"}],
        "retention_period": "1h"});
    assert_eq!(server.post_json(TABLE, &create).await.status, 200);
    server.write("short f=1 1").await;
    assert_eq!(server.rows("d", "SELECT f FROM short").await, json!([]));
}
