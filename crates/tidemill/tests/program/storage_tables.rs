//! What is told about storage is true: files, tables, databases, and what compaction made of them.

use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tidemill_testkit::{TestServer, eventually};

use crate::server_on;

/// Every write becomes a file.
const SNAPSHOTS: [&str; 2] = ["--force-snapshot-mem-threshold", "1"];
const WRITES: u64 = 5;
const MONTH_NS: u64 = 30 * 24 * 3600 * 1_000_000_000;

fn number(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or_else(|| panic!("no {name}: {row}"))
}

fn sum(rows: &[Value], name: &str) -> u64 {
    rows.iter().map(|row| number(row, name)).sum()
}

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("the clock is right").as_nanos();
    u64::try_from(now).expect("the clock is right")
}

async fn parquet_files(server: &TestServer) -> Vec<Value> {
    let sql = "SELECT table_name, path, size_bytes, row_count, CAST(min_time AS BIGINT) AS first, \
               CAST(max_time AS BIGINT) AS last FROM system.parquet_files ORDER BY path";
    server.query("d", sql).await
}

async fn shown(server: &TestServer, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["show", "storage", "--format", "json"], arguments].concat();
    let output = server.command(&arguments).await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    serde_json::from_str(&output.stdout).expect("rows")
}

/// The value of a metric without labels.
async fn metric(server: &TestServer, name: &str) -> f64 {
    let metrics = server.get("/metrics").await.text();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

#[tokio::test]
async fn tables_tell_of_every_file_and_of_what_compaction_did() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let storage = ["--object-store", "file", "--data-dir"].map(str::to_owned);
    let storage = [&storage[..], &[home.path().display().to_string()]].concat();
    let file_bytes = |row: &Value| {
        let path = home.path().join(row["path"].as_str().expect("a path"));
        fs::metadata(path).expect("a listed file is there").len()
    };

    // Three points again and again, and a new one each time.
    let no_compaction = [&SNAPSHOTS[..], &["--compaction-cpu-share", "0"]].concat();
    let mut server = server_on(storage.clone(), &no_compaction).await;
    for write in 1..=WRITES {
        let again = (1..=3).map(|point| format!("m,host=a v={write} {point}\n"));
        let lines: String = again.chain([format!("m,host=b v=0 {}", 10 + write)]).collect();
        server.write("d", &lines).await;
        let files = async || (parquet_files(&server).await.len() as u64 == write).then_some(());
        eventually("the rows are in a file", files).await;
    }
    let before = parquet_files(&server).await;
    for (write, file) in (1..=WRITES).zip(&before) {
        assert_eq!(number(file, "size_bytes"), file_bytes(file));
        assert_eq!(file["table_name"], "m");
        assert_eq!(number(file, "row_count"), 4);
        assert_eq!((number(file, "first"), number(file, "last")), (1, 10 + write));
    }
    let compactions = "SELECT * FROM system.compactions";
    assert_eq!(server.query("d", compactions).await, [] as [Value; 0]);
    assert_eq!(server.stop().await, 0, "{}", server.log());

    let (started, started_ns) = (Instant::now(), now_ns());
    let server = server_on(storage, &SNAPSHOTS).await;
    let compactions = "SELECT table_name, database_name, reason, files_in, files_out, bytes_in, bytes_out, rows_in, rows_out, \
                       duration_ns, CAST(finished_at AS BIGINT) AS finished_ns FROM system.compactions";
    let done = eventually("the files are compacted", async || {
        server.query("d", compactions).await.into_iter().next()
    })
    .await;
    let elapsed_ns = u64::try_from(started.elapsed().as_nanos()).expect("a test is short");
    let after = parquet_files(&server).await;
    let rows = 3 + WRITES;
    assert_eq!(done["table_name"], "m");
    assert_eq!(done["database_name"], "d");
    assert_eq!(done["reason"], "small_files");
    assert_eq!(number(&done, "files_in"), WRITES);
    assert_eq!(number(&done, "bytes_in"), sum(&before, "size_bytes"));
    assert_eq!(number(&done, "rows_in"), 4 * WRITES);
    assert_eq!(number(&done, "files_out"), after.len() as u64);
    assert_eq!(number(&done, "bytes_out"), sum(&after, "size_bytes"));
    assert_eq!(number(&done, "rows_out"), rows);
    assert!((1..elapsed_ns).contains(&number(&done, "duration_ns")), "{done}");
    assert!(
        (started_ns..=now_ns()).contains(&number(&done, "finished_ns")),
        "{done}"
    );
    for file in &after {
        assert_eq!(number(file, "size_bytes"), file_bytes(file));
    }
    let of_all = server.query("_internal", compactions).await;
    assert_eq!(of_all, std::slice::from_ref(&done));
    assert_eq!(metric(&server, "tidemill_files").await as u64, after.len() as u64);

    // The files that it replaced are gone from the directory.
    let replaced = async || {
        let gone = |file: &Value| !home.path().join(file["path"].as_str().expect("a path")).exists();
        before.iter().all(gone).then_some(())
    };
    eventually("replaced files are removed", replaced).await;

    let answer = server
        .query("d", "SELECT count(*) AS n, sum(v) AS sum FROM m")
        .await;
    assert_eq!(answer, [json!({ "n": rows, "sum": 3.0 * WRITES as f64 })]);

    let expected = json!({
        "files": after.len(), "file_rows": rows, "file_bytes": sum(&after, "size_bytes"), "buffer_rows": 0, "buffer_bytes": 0,
        "pending_deletes": 0, "min_time": "1970-01-01T00:00:00.000000001", "max_time": "1970-01-01T00:00:00.000000015",
    });
    for (arguments, names) in [
        (&["-d", "d"][..], json!({ "table_name": "m" })),
        (&[], json!({ "database_name": "d", "tables": 1 })),
    ] {
        let found = shown(&server, arguments).await;
        let mut expected = expected.clone();
        let names = names.as_object().expect("an object").clone();
        expected.as_object_mut().expect("an object").extend(names);
        assert!(found.contains(&expected), "{expected} in {found:?}");
    }
    let log = &shown(&server, &["--log"]).await[0];
    assert_eq!(number(log, "snapshot_position"), WRITES, "{log}");
    assert_eq!(number(log, "newest_position"), WRITES, "{log}");
}

#[tokio::test]
async fn tables_and_databases_are_listed_with_what_becomes_of_them() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let storage = ["--object-store", "file", "--data-dir"].map(str::to_owned);
    let storage = [&storage[..], &[home.path().display().to_string()]].concat();
    let server = server_on(storage, &[]).await;
    server.write("d", "m,host=a,region=b v=1,w=2i 1\nn v=1 1").await;
    server.write("e", "x v=1 1").await;
    for command in [
        &["update", "database", "-d", "d", "-r", "30d"][..],
        &["delete", "table", "-d", "d", "n", "-y"],
        &["delete", "database", "e", "-y"],
    ] {
        let output = server.command(command).await;
        assert_eq!(output.code, 0, "{command:?}: {}", output.stderr);
    }

    let tables = server
        .query(
            "_internal",
            "SELECT * FROM system.tables WHERE database_name = 'd' ORDER BY table_name",
        )
        .await;
    assert_eq!(tables.len(), 2, "{tables:?}");
    assert_eq!(
        tables[0],
        json!({"database_name": "d", "table_name": "m", "column_count": 5, "series_key_columns": "host, region",
            "last_cache_count": 0, "distinct_cache_count": 0, "deleted": false, "retention_period_ns": MONTH_NS})
    );
    let deleted = &tables[1];
    assert_eq!(
        (&deleted["deleted"], &deleted["column_count"]),
        (&json!(true), &json!(2))
    );
    assert!(deleted["hard_deletion_time"].is_string(), "{deleted}");

    let databases = server
        .query(
            "_internal",
            "SELECT * FROM system.databases WHERE database_name <> '_internal' ORDER BY deleted",
        )
        .await;
    assert_eq!(databases.len(), 2, "{databases:?}");
    assert_eq!(
        databases[0],
        json!({"database_name": "d", "retention_period_ns": MONTH_NS, "deleted": false})
    );
    assert_eq!(databases[1]["deleted"], true);
    assert!(databases[1]["hard_deletion_time"].is_string(), "{databases:?}");

    let none: [Value; 0] = [];
    let durations = "SELECT * FROM system.generation_durations";
    assert_eq!(server.query("_internal", durations).await, none);
}
