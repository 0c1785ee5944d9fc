//! `kill -9` under load, again and again, while rows become files and files are compacted: what was acknowledged is there with
//! its last values, and a trigger has had every row once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::Client;
use serde_json::{Value, json};
use tidemill_testkit::{ServerOptions, TestServer, eventually};
use tidemill_write_model::{
    Digest, Writer, derived_digest_sql, digest_sql, doubled_sql, first_line, in_doubt_sql, points_sql,
};
use tokio::task::JoinHandle;

use crate::PROGRAM;
use tidemill_testkit::S3Server;

const WRITERS: u32 = 3;
const BATCH_ROWS: u64 = 100;
const DERIVED: &str = "derived";

/// Writes a row of its own to `derived` for each row, which names the batch that wrote it.
const DERIVE: &str = r#"
import itertools, time

times = itertools.count(time.time_ns())

def process_writes(influxdb3_local, table_batches, args=None):
    for batch in table_batches:
        for row in batch["rows"]:
            change = row.get("change")
            line = LineBuilder("derived").tag("writer", row["writer"]).int64_field("number", row["number"])
            line.int64_field("batch", row["batch"] if change is None else change)
            influxdb3_local.write(line.time_ns(next(times)))
"#;

#[tokio::test]
async fn files_survive_kills_in_snapshots_and_compactions() {
    kill_again_and_again(None, 8).await;
}

#[tokio::test]
async fn an_s3_bucket_survives_kills_in_snapshots_and_compactions() {
    let Some(s3) = S3Server::start().await else { return };
    kill_again_and_again(Some(s3.arguments()), 4).await;
}

async fn kill_again_and_again(object_store: Option<Vec<String>>, kills: u64) {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let options = ServerOptions {
        object_store,
        arguments: words(&[
            "--force-snapshot-mem-threshold",
            "1",
            "--compaction-cpu-share",
            "1",
        ]),
        ..ServerOptions::default()
    };
    let mut server = TestServer::start_with(PROGRAM, options).await;
    server.put_plugin("derive.py", DERIVE);
    server.create_database("d").await;
    server.write("d", &first_line("m")).await;
    let settings = json!({"trigger_settings": {"run_async": false, "error_behavior": "retry"}});
    server
        .create_trigger("d", "derive", "derive.py", "table:m", settings)
        .await;
    let mut writers: Vec<Writer> = (0..WRITERS).map(Writer::new).collect();
    for kill in 1..=kills {
        let clients = Clients::start(&server, writers);
        // At ever other moments after files have changed.
        for _ in 0..=kill % 3 {
            files_have_changed(&server).await;
        }
        clients.wrote(kill % 4).await;
        server.kill();
        writers = clients.ended().await;
        server.restart().await;
        settle(&server, &mut writers).await;
        check_digests(&server, &writers).await;
    }
    check_derived(&server, &writers).await;
    // In order, and once more, so that no run is left that could derive something again.
    assert_eq!(server.stop().await, 0, "{}", server.log());
    server.restart().await;
    check_derived(&server, &writers).await;
    for writer in &writers {
        for part in writer.parts() {
            let found = server.query("d", &points_sql("m", writer.id(), &part)).await;
            let expected = writer.rows(&part);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found, expected);
            }
        }
    }
}

/// Waits until there are other files than now: a snapshot or a compaction has been.
async fn files_have_changed(server: &TestServer) {
    let files = async || -> BTreeSet<String> {
        let rows = server.query("d", "SELECT path FROM system.parquet_files").await;
        let paths = rows
            .iter()
            .map(|row| row["path"].as_str().expect("a path").to_owned());
        paths.collect()
    };
    let before = files().await;
    eventually("files change", async || (files().await != before).then_some(())).await;
}

/// Writers at work.
struct Clients {
    acknowledged: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<Writer>>,
}

impl Clients {
    /// Each writes batches until the server is gone; then its last batch is in doubt.
    fn start(server: &TestServer, writers: Vec<Writer>) -> Self {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let url = format!("{}/api/v3/write_lp?db=d&precision=ns", server.url());
        let tasks = writers.into_iter().map(|writer| {
            let (url, acknowledged) = (url.clone(), Arc::clone(&acknowledged));
            tokio::spawn(write(writer, url, acknowledged))
        });
        Self {
            tasks: tasks.collect(),
            acknowledged,
        }
    }

    /// Waits until so many more batches are acknowledged.
    async fn wrote(&self, batches: u64) {
        let wanted = self.acknowledged.load(Ordering::SeqCst) + batches;
        let have_written = async || (self.acknowledged.load(Ordering::SeqCst) >= wanted).then_some(());
        eventually("batches are acknowledged", have_written).await;
    }

    async fn ended(self) -> Vec<Writer> {
        let mut writers = Vec::new();
        for task in self.tasks {
            writers.push(task.await.expect("a client does not panic"));
        }
        writers
    }
}

async fn write(mut writer: Writer, url: String, acknowledged: Arc<AtomicU64>) -> Writer {
    let client = Client::new();
    loop {
        let lines = writer.next_batch("m", BATCH_ROWS).lines.clone();
        // Until it is acknowledged: there may be no room in memory for a while.
        loop {
            let Ok(answer) = client.post(&url).body(lines.clone()).send().await else {
                return writer;
            };
            match answer.status().as_u16() {
                204 => break,
                503 => tokio::task::yield_now().await,
                status => {
                    let text = answer.text().await.unwrap_or_default();
                    panic!("a write was answered {status}: {text}");
                }
            }
        }
        writer.settle(true);
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
}

/// A batch whose answer was cut off is there whole or not at all.
async fn settle(server: &TestServer, writers: &mut [Writer]) {
    for writer in writers {
        let Some(batch) = writer.in_doubt() else { continue };
        let rows = server
            .query("d", &in_doubt_sql("m", writer.id(), batch.number))
            .await;
        let found = rows[0]["n"].as_u64().expect("a count");
        assert!(
            found == 0 || found == batch.rows,
            "of batch {} of writer {} {found} of {} rows are there",
            batch.number,
            writer.id(),
            batch.rows
        );
        writer.settle(found > 0);
    }
}

async fn check_digests(server: &TestServer, writers: &[Writer]) {
    let rows = server.query("d", &digest_sql("m")).await;
    for row in &rows {
        assert_eq!(row["torn"], 0, "{row}");
    }
    let expected = writers
        .iter()
        .map(|writer| (writer.id().to_string(), writer.digest()));
    assert_eq!(digests(&rows), expected.collect());
}

async fn check_derived(server: &TestServer, writers: &[Writer]) {
    let wanted: u64 = writers.iter().map(Writer::rows_written).sum();
    let count = format!("SELECT count(*) AS n FROM {DERIVED}");
    let all_are_there = async || {
        let answer = server.try_query("d", &count).await;
        (answer.status == 200 && answer.json()[0]["n"].as_u64() >= Some(wanted)).then_some(())
    };
    eventually("every row is derived", all_are_there).await;
    let doubled = server.query("d", &doubled_sql(DERIVED)).await;
    assert_eq!(doubled, [] as [Value; 0]);
    let rows = server.query("d", &derived_digest_sql(DERIVED)).await;
    let expected = writers
        .iter()
        .map(|writer| (writer.id().to_string(), writer.derived_digest()));
    assert_eq!(digests(&rows), expected.collect());
}

/// Of every writer but the one that made the table.
fn digests(rows: &[Value]) -> BTreeMap<String, Digest> {
    let rows = rows.iter().filter(|row| row["writer"] != "nobody");
    let digests = rows.map(|row| {
        let writer = row["writer"].as_str().expect("a writer").to_owned();
        let digest = row.as_object().and_then(Digest::from_row);
        (writer, digest.unwrap_or_else(|| panic!("no digest: {row}")))
    });
    digests.collect()
}
