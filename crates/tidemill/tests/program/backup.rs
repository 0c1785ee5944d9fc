//! What a server stores is copied while it works, made into another node, and checked.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reqwest::Client;
use serde_json::{Value, json};
use tidemill_testkit::{CommandOutput, S3Server, ServerOptions, TestServer, eventually};

use crate::{PROGRAM, server};

/// Sums up rows in its state, and notes each sum.
const SUM: &str = r#"
def process_writes(influxdb3_local, table_batches, args=None):
    total = influxdb3_local.state.get("total", 0)
    for batch in table_batches:
        for row in batch["rows"]:
            total += row["row"]
    influxdb3_local.state.put("total", total)
    influxdb3_local.write(LineBuilder("sums").int64_field("total", total).time_ns(total))
"#;

/// How many write at once.
const WRITERS: usize = 3;

/// Runs a command of the program without a server.
async fn run(arguments: &[&str]) -> CommandOutput {
    let output = tokio::process::Command::new(PROGRAM)
        .args(arguments)
        .output()
        .await
        .expect("the program starts");
    CommandOutput {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in ASCII")
}

fn expect_success(output: CommandOutput) -> String {
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    output.stdout
}

async fn verify(data_dir: &Path) -> CommandOutput {
    run(&["verify", "--node-id", "test", "--data-dir", text(data_dir)]).await
}

#[tokio::test]
async fn a_restored_server_answers_the_same_and_triggers_go_on() {
    let mut server = server().await;
    server.put_plugin("sum.py", SUM);
    server.create_database("d").await;
    // So that the table can be asked before the first run.
    server.write("d", "sums total=0i 0").await;
    server
        .create_trigger("d", "sum", "sum.py", "table:m", json!({}))
        .await;
    for row in 1..=20 {
        server
            .write("d", &format!("m,host=h{} row={row}i,v=0.5 {row}", row % 3))
            .await;
    }
    let sum_is = async |server: &TestServer, total: u64| {
        eventually("the trigger has summed up", async || {
            let rows = server.query("d", "SELECT max(total) AS total FROM sums").await;
            (rows[0]["total"].as_u64() == Some(total)).then_some(())
        })
        .await;
    };
    sum_is(&server, 210).await;
    let everything = "SELECT * FROM m ORDER BY time";
    let rows = server.query("d", everything).await;

    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("monday");
    let said = expect_success(server.command(&["backup", text(&backup)]).await);
    assert!(said.contains("holds node 'test'"), "{said}");
    let again = server.command(&["backup", text(&backup)]).await;
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("is not empty"), "{}", again.stderr);

    // Not in the backup.
    server.write("d", "m,host=later row=1000i 1000").await;
    assert_eq!(server.stop().await, 0, "{}", server.log());
    fs::remove_dir_all(server.data_dir()).unwrap();

    let data_dir = server.data_dir();
    let restore = [
        "restore",
        text(&backup),
        "--node-id",
        "test",
        "--data-dir",
        text(&data_dir),
    ];
    let said = expect_success(run(&restore).await);
    assert!(said.contains("copied and checked"), "{said}");
    let again = run(&restore).await;
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("has data already"), "{}", again.stderr);
    expect_success(verify(&data_dir).await);

    server.restart().await;
    assert_eq!(server.query("d", everything).await, rows);
    server.write("d", "m,host=new row=90i 2000").await;
    sum_is(&server, 300).await;
    let sums = server
        .query("d", "SELECT count(*) AS n FROM sums WHERE total > 210")
        .await;
    assert_eq!(sums, [json!({"n": 1})], "no row was summed up twice");
}

/// Writes numbered rows until told to stop.
struct Writers {
    answered: Vec<Arc<AtomicU64>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    fn start(server: &TestServer) -> Self {
        let answered: Vec<Arc<AtomicU64>> = (0..WRITERS).map(|_| Arc::default()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let url = format!("{}/api/v3/write_lp?db=d&precision=ns", server.url());
        let tasks = answered.iter().enumerate().map(|(writer, answered)| {
            let (url, answered, stop) = (url.clone(), Arc::clone(answered), Arc::clone(&stop));
            let client = Client::new();
            tokio::spawn(async move {
                for row in 1.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let line = format!("m,writer={writer} row={row}i {row}");
                    let status = client
                        .post(&url)
                        .body(line)
                        .send()
                        .await
                        .expect("the server runs")
                        .status();
                    assert_eq!(status, 204);
                    answered.store(row, Ordering::SeqCst);
                }
            })
        });
        Self {
            tasks: tasks.collect(),
            answered,
            stop,
        }
    }

    fn answered(&self) -> Vec<u64> {
        self.answered
            .iter()
            .map(|answered| answered.load(Ordering::SeqCst))
            .collect()
    }

    /// Waits until each has been answered so many rows.
    async fn have_all_more_than(&self, count: u64) {
        let have = async || self.answered().iter().all(|rows| *rows > count).then_some(());
        eventually("the writers are busy", have).await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("writer does not panic");
        }
    }
}

/// A server without plugins that is written to without a pause.
async fn written_server() -> (TestServer, Writers) {
    let options = ServerOptions {
        without_plugins: true,
        ..ServerOptions::default()
    };
    let server = TestServer::start_with(PROGRAM, options).await;
    server.create_database("d").await;
    let writers = Writers::start(&server);
    (server, writers)
}

#[tokio::test]
async fn a_backup_under_load_has_what_was_answered_before_and_no_holes() {
    let (server, writers) = written_server().await;
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3_u64 {
        writers.have_all_more_than(100 * (round + 1)).await;
        let before = writers.answered();
        let backup = folder.path().join(format!("backup{round}"));
        expect_success(server.command(&["backup", text(&backup), "--quiet"]).await);
        let after = writers.answered();

        let data_dir = folder.path().join(format!("data{round}"));
        expect_success(
            run(&[
                "restore",
                text(&backup),
                "--node-id",
                "test",
                "--data-dir",
                text(&data_dir),
            ])
            .await,
        );
        let options = ServerOptions {
            without_plugins: true,
            object_store: Some(["--data-dir", text(&data_dir)].map(str::to_owned).to_vec()),
            ..ServerOptions::default()
        };
        let copy = TestServer::start_with(PROGRAM, options).await;
        let sql = "SELECT writer, count(*) AS n, max(row) AS last FROM m GROUP BY writer ORDER BY writer";
        let rows = copy.query("d", sql).await;
        assert_eq!(rows.len(), WRITERS);
        for ((row, before), after) in rows.iter().zip(before).zip(after) {
            let last = row["last"].as_u64().expect("a number");
            assert_eq!(row["n"], row["last"], "a row is missing or doubled");
            // At most the one in flight is there without having been answered.
            assert!((before..=after + 1).contains(&last), "{before} {last} {after}");
        }
    }
    writers.end().await;
}

/// A stopped server with two Parquet files of one table, and a log behind them.
async fn stopped_node() -> TestServer {
    let options = ServerOptions {
        without_plugins: true,
        ..ServerOptions::default()
    };
    let mut server = TestServer::start_with(PROGRAM, options).await;
    let folder = tempfile::tempdir().unwrap();
    for day in 1..=2_u64 {
        let lines: Vec<String> = (0..500)
            .map(|row| format!("cpu,host=a v={row} {}", day * 100_000 + row))
            .collect();
        server.write("d", &lines.join("\n")).await;
        // It makes a snapshot first.
        let backup = folder.path().join(day.to_string());
        expect_success(server.command(&["backup", text(&backup)]).await);
    }
    server.write("d", "cpu,host=b v=1 1").await;
    // So that the last rows stay in the log.
    server.kill();
    server
}

/// The files below a folder by their paths.
fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path(), entry.metadata().unwrap().len());
            }
        }
    }
    found
}

fn parquet_files(server: &TestServer) -> Vec<PathBuf> {
    let is_data = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "parquet") && !text(path).contains("/plugin_")
    };
    files(&server.data_dir()).into_keys().filter(is_data).collect()
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn verify_names_each_kind_of_damage() {
    let server = stopped_node().await;
    let data_dir = server.data_dir();
    let sound = expect_success(verify(&data_dir).await);
    assert!(sound.contains("Nothing is damaged."), "{sound}");
    let expect_damage = async |expected: &[&str]| {
        let output = verify(&data_dir).await;
        assert_eq!(output.code, 1, "{}", output.stdout);
        for expected in expected {
            assert!(
                output.stdout.contains(expected),
                "no {expected:?} in:\n{}",
                output.stdout
            );
        }
    };

    let data = parquet_files(&server);
    assert_eq!(data.len(), 2, "{data:?}");
    let content = fs::read(&data[0]).unwrap();
    flip(&data[0]);
    let table = "table cpu of database d: 1 of 2 files is damaged; rows between 1970-01-01T00:00:00.000";
    expect_damage(&[table, "its checksum does not match", "Everything else is intact."]).await;
    fs::remove_file(&data[0]).unwrap();
    expect_damage(&[table, "it is missing"]).await;
    fs::write(&data[0], content).unwrap();
    expect_success(verify(&data_dir).await);

    let log: Vec<PathBuf> = files(&data_dir.join("test/wal"))
        .into_keys()
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    let last = log.last().unwrap();
    let content = fs::read(last).unwrap();
    let mut longer = content.clone();
    longer.extend(b"half of a record");
    fs::write(last, longer).unwrap();
    let torn = expect_success(verify(&data_dir).await);
    assert!(torn.contains("16 bytes of an unfinished write"), "{torn}");
    let gap = last.with_file_name("00000000000000009999.wal");
    fs::rename(last, &gap).unwrap();
    expect_damage(&["log        DAMAGED"]).await;
    fs::rename(&gap, last).unwrap();
    fs::write(last, content).unwrap();

    let manifest = files(&data_dir.join("test/manifest/log"));
    let (record, length) = manifest.last_key_value().unwrap();
    let content = fs::read(record).unwrap();
    fs::write(record, &content[..usize::try_from(*length).unwrap() - 3]).unwrap();
    expect_damage(&[
        "manifest   DAMAGED",
        text(record.strip_prefix(&data_dir).unwrap()),
        "it holds",
    ])
    .await;
    fs::write(record, content).unwrap();

    let catalog = files(&data_dir.join("test/catalog"));
    let (record, _) = catalog.first_key_value().unwrap();
    let content = fs::read(record).unwrap();
    flip(record);
    expect_damage(&["catalog    DAMAGED"]).await;
    fs::write(record, content).unwrap();

    let json = run(&[
        "verify",
        "--node-id",
        "test",
        "--data-dir",
        text(&data_dir),
        "--format",
        "json",
    ])
    .await;
    let report: Value = serde_json::from_str(&expect_success(json)).unwrap();
    assert_eq!(report["sound"], true);
    assert_eq!(
        (&report["tables"][0]["files"], &report["tables"][0]["rows"]),
        (&json!(2), &json!(1000))
    );

    let unknown = run(&["verify", "--node-id", "other", "--data-dir", text(&data_dir)]).await;
    assert_eq!(unknown.code, 1);
    assert!(
        unknown.stderr.contains("there is no node 'other'"),
        "{}",
        unknown.stderr
    );
}

#[tokio::test]
async fn verify_runs_beside_the_server() {
    let (server, writers) = written_server().await;
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3_u64 {
        writers.have_all_more_than(50 * (round + 1)).await;
        expect_success(verify(&server.data_dir()).await);
        let backup = folder.path().join(round.to_string());
        expect_success(server.command(&["backup", text(&backup)]).await);
    }
    writers.end().await;
}

#[tokio::test]
async fn an_unfinished_or_damaged_backup_is_not_restored() {
    let server = stopped_node().await;
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let restore = async |backup: &Path| {
        let output = run(&[
            "restore",
            text(backup),
            "--node-id",
            "n",
            "--data-dir",
            text(&data_dir),
        ])
        .await;
        assert_eq!(output.code, 1, "{}", output.stdout);
        output.stderr
    };
    let missing = restore(&folder.path().join("nowhere")).await;
    assert!(missing.contains("there is no directory"), "{missing}");
    let none = restore(&server.data_dir()).await;
    assert!(none.contains("holds no finished backup"), "{none}");
    assert!(!data_dir.exists(), "nothing was begun");

    let mut server = server;
    server.restart().await;
    let backup = folder.path().join("backup");
    expect_success(server.command(&["backup", text(&backup)]).await);
    let data = files(&backup)
        .into_keys()
        .find(|path| text(path).ends_with(".parquet"))
        .unwrap();
    flip(&data);
    let damaged = restore(&backup).await;
    assert!(
        damaged.contains("the backup is damaged") && damaged.contains(".parquet"),
        "{damaged}"
    );

    let output = run(&[
        "serve",
        "--node-id",
        "n",
        "--data-dir",
        text(&data_dir),
        "--http-bind",
        "127.0.0.1:0",
    ])
    .await;
    assert_eq!(output.code, 1, "{}{}", output.stdout, output.stderr);
    assert!(output.stderr.contains("unfinished restore"), "{}", output.stderr);
}

#[tokio::test]
async fn a_backup_in_a_bucket_is_restored_into_files_and_into_the_bucket() {
    let Some(store) = S3Server::start().await else {
        return;
    };
    let mut server = stopped_node().await;
    server.restart().await;
    let sql = "SELECT * FROM cpu ORDER BY time, host";
    let rows = server.query("d", sql).await;
    let url = format!("s3://{}/backups/monday", store.bucket());
    let arguments = store.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // Without the kind of store and the bucket, which are in the URL.
    let credentials = &arguments[4..];
    let said = expect_success(server.command(&[&["backup", &url], credentials].concat()).await);
    assert!(said.contains(&url), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let into_files = [
        "restore",
        &url,
        "--node-id",
        "test",
        "--data-dir",
        text(&data_dir),
    ];
    expect_success(run(&[&into_files, credentials].concat()).await);
    expect_success(run(&[&["restore", &url, "--node-id", "test"], &arguments[..]].concat()).await);
    let of_files = ["--data-dir", text(&data_dir)].map(str::to_owned).to_vec();
    for object_store in [of_files, store.arguments()] {
        let options = ServerOptions {
            without_plugins: true,
            object_store: Some(object_store),
            ..ServerOptions::default()
        };
        let copy = TestServer::start_with(PROGRAM, options).await;
        assert_eq!(copy.query("d", sql).await, rows);
    }
}
