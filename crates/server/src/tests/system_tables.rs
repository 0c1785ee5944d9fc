//! What the server says of itself and of what it stores.

use serde_json::json;

use super::Server;

async fn filled() -> Server {
    let server = Server::start().await;
    let lines = "m,h=a v=1 1\nm,h=b v=2 2\nn w=1i 1";
    let answer = server.post("/api/v3/write_lp?db=d&precision=s", lines).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    server
}

#[tokio::test]
async fn storage_has_a_row_for_each_table() {
    let server = filled().await;
    let sql = "SELECT database_name, table_name, deleted, buffer_rows, buffer_bytes > 0 AS has_bytes, file_count, \
         file_rows, pending_deletes, min_time, max_time FROM system.storage ORDER BY table_name";
    let row = |table: &str, rows: u64, max_time: &str| {
        json!({
            "database_name": "d", "table_name": table, "deleted": false, "buffer_rows": rows, "has_bytes": true,
            "file_count": 0, "file_rows": 0, "pending_deletes": 0,
            "min_time": "1970-01-01T00:00:01", "max_time": max_time,
        })
    };
    assert_eq!(
        server.rows("_internal", sql).await,
        json!([
            row("m", 2, "1970-01-01T00:00:02"),
            row("n", 1, "1970-01-01T00:00:01")
        ])
    );
    let log = server
        .rows(
            "_internal",
            "SELECT newest_position, snapshot_position FROM system.log",
        )
        .await;
    assert_eq!(log, json!([{"newest_position": 1, "snapshot_position": 0}]));
    let columns = "SELECT column_name FROM information_schema.columns \
         WHERE table_schema = 'system' AND table_name = 'parquet_files' ORDER BY ordinal_position";
    let names: Vec<String> = [
        "table_name",
        "path",
        "size_bytes",
        "row_count",
        "min_time",
        "max_time",
    ]
    .map(str::to_owned)
    .to_vec();
    let rows = server.rows("d", columns).await;
    let found: Vec<&str> = rows
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["column_name"].as_str())
        .collect();
    assert_eq!(found, names);
    assert_eq!(
        server.rows("d", "SELECT * FROM system.parquet_files").await,
        json!([])
    );
}

#[tokio::test]
async fn metrics_sum_up_what_is_stored() {
    let server = filled().await;
    let metrics = server.get("/metrics").await.text();
    for line in [
        "tidemill_buffer_rows 3",
        "tidemill_files 0",
        "tidemill_pending_row_deletes 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn the_node_and_the_catalog_are_shown_as_tools_expect() {
    let server = filled().await;
    let nodes = server.rows("_internal", "SELECT * FROM system.nodes").await;
    assert_eq!(
        nodes,
        json!([{
            "node_id": "test", "node_catalog_id": 0, "instance_id": "00000000-0000-0000-0000-000000000000",
            "mode": ["core"], "core_count": 2, "state": "running",
            "updated_at": "1970-01-01T00:00:00.000000001", "cli_params": "{}",
        }])
    );
    assert_eq!(
        server
            .rows("_internal", "SELECT * FROM system.generation_durations")
            .await,
        json!([]),
        "files have no fixed spans of time"
    );
    assert_eq!(
        server
            .rows("_internal", "SELECT * FROM system.tables WHERE table_name = 'm'")
            .await,
        json!([{
            "database_name": "d", "table_name": "m", "column_count": 3, "series_key_columns": "h",
            "last_cache_count": 0, "distinct_cache_count": 0, "deleted": false,
        }])
    );
    let unknown = server
        .post_json(
            "/api/v3/query_sql",
            &json!({"db": "d", "q": "SELECT * FROM system.nodes"}),
        )
        .await;
    assert_eq!(unknown.status, 400, "only in _internal");
}
