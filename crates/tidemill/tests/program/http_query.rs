//! `/api/v3/query_sql`: formats, parameters and errors as clients know them (`spec/database.md` 1.8).

use reqwest::Method;
use serde_json::{Value, json};

use crate::plain_server;

const LINES: &str = "\
cpu,host=a usage=1.5,n=3i,big=18446744073709551615u,ok=t,note=\"x,y\" 1700000000000000000
cpu,host=b usage=2 1700000001123000000
cpu,host=b n=7i 1700000001123000000
cpu,host=b usage=9 1700000001123000000
";

#[tokio::test]
async fn all_formats() {
    let server = plain_server().await;
    server.write("d", LINES).await;
    let get = async |format: &str, sql: &str| {
        let request = server.request(Method::GET, "/api/v3/query_sql");
        let answer = server
            .send(request.query(&[("db", "d"), ("q", sql), ("format", format)]))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        (
            answer.header("content-type").unwrap_or_default().to_owned(),
            answer,
        )
    };
    let sql = "SELECT * FROM cpu ORDER BY time";
    let none = "SELECT * FROM cpu WHERE host = 'z'";
    let (content_type, answer) = get("json", sql).await;
    assert_eq!(content_type, "application/json");
    let first = r#"{"big":18446744073709551615,"host":"a","n":3,"note":"x,y","ok":true,"time":"2023-11-14T22:13:20","usage":1.5}"#;
    let second = r#"{"host":"b","n":7,"time":"2023-11-14T22:13:21.123","usage":9.0}"#;
    assert_eq!(answer.text(), format!("[{first},{second}]"));
    assert_eq!(get("json", none).await.1.text(), "[]");
    let (content_type, answer) = get("jsonl", sql).await;
    assert_eq!(
        (content_type.as_str(), answer.text()),
        ("application/jsonl", format!("{first}\n{second}\n"))
    );
    assert_eq!(get("jsonl", none).await.1.text(), "");
    let (content_type, answer) = get("csv", sql).await;
    assert_eq!(content_type, "text/csv");
    assert_eq!(
        answer.text().lines().collect::<Vec<_>>(),
        [
            "big,host,n,note,ok,time,usage",
            "18446744073709551615,a,3,\"x,y\",true,2023-11-14T22:13:20,1.5",
            ",b,7,,,2023-11-14T22:13:21.123,9.0",
        ]
    );
    assert_eq!(get("csv", none).await.1.text(), "");
    let (content_type, answer) = get("pretty", "SELECT host, n FROM cpu ORDER BY time").await;
    assert_eq!(content_type, "text/plain; charset=utf-8");
    assert_eq!(
        answer.text(),
        "+------+---+\n| host | n |\n+------+---+\n| a    | 3 |\n| b    | 7 |\n+------+---+"
    );
    assert_eq!(get("pretty", none).await.1.text(), "++\n++");
    let (content_type, answer) = get("parquet", sql).await;
    assert_eq!(content_type, "application/vnd.apache.parquet");
    assert!(answer.body.starts_with(b"PAR1") && answer.body.ends_with(b"PAR1"));
}

#[tokio::test]
async fn the_accept_header_decides_where_no_format_is_given() {
    let server = plain_server().await;
    server.write("d", LINES).await;
    let ask = async |accept: &str| {
        let request = server
            .request(Method::GET, "/api/v3/query_sql?db=d&q=SELECT%201%20AS%20one")
            .header("accept", accept);
        let answer = server.send(request).await;
        (answer.status, answer.text())
    };
    assert_eq!(ask("text/csv").await, (200, "one\n1\n".into()));
    assert_eq!(ask("application/jsonl").await, (200, "{\"one\":1}\n".into()));
    assert_eq!(
        ask("text/html,application/xhtml+xml,*/*;q=0.8").await,
        (200, "[{\"one\":1}]".into())
    );
    assert_eq!(
        ask("application/xml").await,
        (400, r#"{"error":"invalid mime type (application/xml)"}"#.into())
    );
}

#[tokio::test]
async fn parameters_are_bound() {
    let server = plain_server().await;
    server.write("d", LINES).await;
    let ask = async |sql: &str, params: Value| {
        let answer = server
            .post_json(
                "/api/v3/query_sql",
                &json!({"db": "d", "q": sql, "params": params}),
            )
            .await;
        (answer.status, answer.json())
    };
    let sql = "SELECT n FROM cpu WHERE host = $host AND usage > $least";
    assert_eq!(
        ask(sql, json!({"host": "b", "least": 1})).await,
        (200, json!([{"n": 7}]))
    );
    let (status, body) = ask("SELECT n FROM cpu WHERE host = $h", json!({})).await;
    assert_eq!(status, 400);
    assert_eq!(
        body["error"],
        "Error during planning: No value found for placeholder with name $h"
    );
    let (status, body) = ask("SELECT 1", json!([1])).await;
    assert_eq!(status, 400);
    assert!(
        body["error"]
            .as_str()
            .unwrap()
            .contains("invalid type: sequence, expected a map"),
        "{body}"
    );
}

#[tokio::test]
async fn errors_say_what_is_wrong() {
    let server = plain_server().await;
    server.write("d", LINES).await;
    let ask = async |database: &str, sql: &str| {
        let answer = server.try_query(database, sql).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        (
            answer.status,
            answer.json()["error"].as_str().unwrap_or_default().to_owned(),
        )
    };
    assert_eq!(
        ask("nodb", "SELECT 1").await,
        (404, "query error: database not found: nodb".into())
    );
    assert_eq!(
        ask("d", "SELECT * FROM nope").await,
        (
            400,
            "Error during planning: table 'public.iox.nope' not found".into()
        )
    );
    let (status, error) = ask("d", "SELECT missing FROM cpu").await;
    assert!(
        status == 400 && error.contains("No field named missing"),
        "{status} {error}"
    );
    let (status, error) = ask("d", "selec 1").await;
    assert!(
        status == 400 && error.starts_with("SQL error: ParserError("),
        "{status} {error}"
    );
    assert_eq!(
        ask("d", "").await,
        (
            400,
            "Error during planning: No SQL statements were provided in the query string".into()
        )
    );
    assert_eq!(
        ask("d", "SELECT 1; SELECT 2").await,
        (
            405,
            "This feature is not implemented: The context currently only supports a single SQL statement"
                .into()
        )
    );
    let (status, error) = ask("d", "CREATE TABLE x AS SELECT 1").await;
    assert!(
        status == 400 && error.contains("DDL not supported: CreateMemoryTable"),
        "{status} {error}"
    );
    let (status, error) = ask("d", "INSERT INTO cpu SELECT * FROM cpu").await;
    assert!(
        status == 400 && error.contains("DML not supported"),
        "{status} {error}"
    );
    let answer = server.get("/api/v3/query_sql").await;
    assert_eq!(
        (answer.status, answer.json()),
        (400, json!({"error": "missing query parameters 'db' and 'q'"}))
    );
    let answer = server.get("/api/v3/query_sql?db=d&q=x&format=xml").await;
    let expected = "serde error: unknown variant `xml`, expected one of `parquet`, `csv`, `pretty`, `json`, `json_lines`, `jsonl`";
    assert_eq!((answer.status, answer.json()), (400, json!({"error": expected})));
    let answer = server.get("/nowhere").await;
    assert_eq!(
        (answer.status, answer.json()),
        (404, json!({"error": "Not found"}))
    );
    let answer = server
        .send(server.request(Method::PUT, "/api/v3/query_sql"))
        .await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), Some("GET,HEAD,POST"));
}

#[tokio::test]
async fn the_catalog_can_be_queried() {
    let server = plain_server().await;
    server.write("d", LINES).await;
    let tables = server.query("d", "SHOW TABLES").await;
    assert!(tables.contains(
        &json!({"table_catalog": "public", "table_schema": "iox", "table_name": "cpu", "table_type": "BASE TABLE"})
    ));
    let sql = "SELECT column_name, data_type, is_nullable FROM information_schema.columns \
               WHERE table_name = 'cpu' ORDER BY ordinal_position";
    let columns = server.query("d", sql).await;
    let column = |name: &str, data_type: &str, nullable: &str| json!({"column_name": name, "data_type": data_type, "is_nullable": nullable});
    assert_eq!(
        columns,
        [
            column("big", "UInt64", "YES"),
            column("host", "Dictionary(Int32, Utf8)", "YES"),
            column("n", "Int64", "YES"),
            column("note", "Utf8", "YES"),
            column("ok", "Boolean", "YES"),
            column("time", "Timestamp(ns)", "NO"),
            column("usage", "Float64", "YES"),
        ]
    );
    let answer = server.get("/ping").await;
    assert_eq!(answer.header("x-influxdb-build"), Some("Core"));
    assert!(answer.header("cluster-uuid").is_some());
    assert_eq!(answer.json()["version"], "3.10.0");
}

#[tokio::test]
async fn databases_and_tables_are_managed() {
    let server = plain_server().await;
    server.create_database("one").await;
    let answer = server
        .post_json("/api/v3/configure/database", &json!({"db": "one"}))
        .await;
    let exists = json!({"error": "attempted to create a resource that already exists"});
    assert_eq!((answer.status, answer.json()), (409, exists.clone()));
    let table =
        json!({"db": "one", "table": "t", "tags": ["a"], "fields": [{"name": "f", "type": "float64"}]});
    assert_eq!(
        server.post_json("/api/v3/configure/table", &table).await.status,
        200
    );
    let answer = server.post_json("/api/v3/configure/table", &table).await;
    assert_eq!((answer.status, answer.json()), (409, exists));
    let reserved = json!({"db": "one", "table": "u", "tags": ["time"]});
    let answer = server.post_json("/api/v3/configure/table", &reserved).await;
    assert_eq!(
        (answer.status, answer.json()),
        (400, json!({"error": "'time' is a reserved column"}))
    );
    assert_eq!(server.query("one", "SELECT * FROM t").await, Vec::<Value>::new());
    let list = server.get("/api/v3/configure/database?format=json").await.json();
    assert_eq!(
        list,
        json!([{"iox::database": "_internal"}, {"iox::database": "one"}])
    );
    let answer = server
        .send(server.request(Method::DELETE, "/api/v3/configure/table?db=one&table=zz"))
        .await;
    assert_eq!(
        (answer.status, answer.json()),
        (404, json!({"error": "Table zz not in DB schema for one"}))
    );
    assert_eq!(
        server
            .send(server.request(Method::DELETE, "/api/v3/configure/table?db=one&table=t"))
            .await
            .status,
        200
    );
    assert_eq!(server.try_query("one", "SELECT * FROM t").await.status, 400);
    assert_eq!(
        server
            .send(server.request(Method::DELETE, "/api/v3/configure/database?db=one"))
            .await
            .status,
        200
    );
    let answer = server
        .send(server.request(Method::DELETE, "/api/v3/configure/database?db=one"))
        .await;
    assert_eq!(
        (answer.status, answer.json()),
        (404, json!({"error": "the requested resource was not found: one"}))
    );
    let answer = server.post("/api/v3/configure/database", "{}").await;
    assert_eq!(answer.status, 415);
}
