//! What was answered is there after any end of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::Client;
use serde_json::{Value, json};
use tidemill_testkit::{TestServer, eventually};
use tokio::task::JoinHandle;

use crate::server;

#[tokio::test]
async fn a_clean_stop_and_a_kill_lose_nothing() {
    let mut server = server().await;
    server.write("d", "m,host=a v=1 1\nm,host=a w=2 1").await;
    assert_eq!(server.stop().await, 0, "{}", server.log());
    server.restart().await;
    let row = json!({"host": "a", "v": 1.0, "w": 2.0});
    assert_eq!(
        server.query("d", "SELECT host, v, w FROM m").await,
        std::slice::from_ref(&row)
    );
    server.write("d", "m,host=b v=3 1").await;
    server.kill();
    server.restart().await;
    assert_eq!(
        server.query("d", "SELECT host, v, w FROM m ORDER BY host").await,
        [row, json!({"host": "b", "v": 3.0})]
    );
}

/// How many write at once.
const WRITERS: usize = 4;

/// Writes numbered rows to `m` of `d` until the server is gone.
struct Writers {
    /// The last row of each writer that was answered.
    answered: Vec<Arc<AtomicU64>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts writers, each behind its row of that number.
    fn start(server: &TestServer, behind: &[u64]) -> Self {
        let answered: Vec<Arc<AtomicU64>> = behind.iter().map(|row| Arc::new(AtomicU64::new(*row))).collect();
        let url = format!("{}/api/v3/write_lp?db=d&precision=ns", server.url());
        let write = |(writer, answered): (usize, &Arc<AtomicU64>)| {
            let (url, answered, client) = (url.clone(), Arc::clone(answered), Client::new());
            tokio::spawn(async move {
                for row in answered.load(Ordering::SeqCst) + 1.. {
                    let line = format!("m,writer={writer} row={row}i {row}");
                    match client.post(&url).body(line).send().await {
                        Ok(answer) if answer.status() == 204 => answered.store(row, Ordering::SeqCst),
                        _ => break,
                    }
                }
            })
        };
        let tasks = answered.iter().enumerate().map(write).collect();
        Self { answered, tasks }
    }

    fn answered(&self) -> Vec<u64> {
        let rows = self.answered.iter();
        rows.map(|answered| answered.load(Ordering::SeqCst)).collect()
    }

    /// Waits until each has gone on by that many rows.
    async fn wrote(&self, behind: &[u64], rows: u64) {
        let everyone_wrote = async || {
            let mut each = self.answered().into_iter().zip(behind);
            each.all(|(answered, behind)| answered >= behind + rows)
                .then_some(())
        };
        eventually("every writer has written", everyone_wrote).await;
    }

    /// The last row of each that was answered, when all have noticed that the server is gone.
    async fn ended(mut self) -> Vec<u64> {
        for task in self.tasks.drain(..) {
            task.await.expect("writer does not panic");
        }
        self.answered()
    }
}

#[tokio::test]
async fn every_acknowledged_row_survives_kill_under_load() {
    let mut server = server().await;
    server.create_database("d").await;
    let mut last = vec![0; WRITERS];
    for _round in 0..3 {
        let writers = Writers::start(&server, &last);
        writers.wrote(&last, 21).await;
        server.kill();
        let acknowledged = writers.ended().await;
        server.restart().await;
        last = last_rows(&server).await;
        for (writer, (last, acknowledged)) in last.iter().zip(acknowledged).enumerate() {
            // At most the one write in flight may be there without having been answered.
            assert!(
                (acknowledged..=acknowledged + 1).contains(last),
                "writer {writer}: {last} rows, {acknowledged} acknowledged"
            );
        }
    }
}

/// The last row of each writer; none before it may be missing or doubled.
async fn last_rows(server: &TestServer) -> Vec<u64> {
    let sql = "SELECT writer, count(*) AS n, max(row) AS last FROM m GROUP BY writer ORDER BY writer";
    let rows = server.query("d", sql).await;
    assert_eq!(rows.len(), WRITERS);
    let number = |row: &Value, name: &str| row[name].as_u64().expect("a count");
    for row in &rows {
        assert_eq!(
            number(row, "n"),
            number(row, "last"),
            "a row is missing or doubled: {row}"
        );
    }
    rows.iter().map(|row| number(row, "last")).collect()
}

/// Writes a row of its own to `seen` for each row. Runs take differently long, so that they end in another order than they
/// began in.
const COUNT: &str = r#"
import itertools, random, time

times = itertools.count(time.time_ns())

def process_writes(influxdb3_local, table_batches, args=None):
    time.sleep(random.random() * 0.03)
    for batch in table_batches:
        for row in batch["rows"]:
            line = LineBuilder("seen").tag("writer", row["writer"]).int64_field("row", row["row"])
            line.time_ns(next(times))
            influxdb3_local.write(line)
"#;

#[tokio::test]
async fn an_asynchronous_trigger_counts_every_row_once_over_kills_under_load() {
    let mut server = server().await;
    server.put_plugin("count.py", COUNT);
    server.create_database("d").await;
    let settings = json!({"trigger_settings": {"run_async": true, "error_behavior": "log"}});
    server
        .create_trigger("d", "count", "count.py", "table:m", settings)
        .await;
    let mut last = vec![0; WRITERS];
    for _round in 0..5 {
        let writers = Writers::start(&server, &last);
        writers.wrote(&last, 400).await;
        let counted_before = counted(&server, "SELECT count(*) AS n FROM seen").await;
        let counts = async || {
            let counted = counted(&server, "SELECT count(*) AS n FROM seen").await;
            (counted > counted_before + 1_000).then_some(())
        };
        eventually("the trigger keeps counting", counts).await;
        server.kill();
        writers.ended().await;
        server.restart().await;
        last = last_rows(&server).await;
    }
    let written: u64 = last.iter().sum();
    let all_counted = async || {
        let sql = "SELECT count(*) AS n FROM (SELECT DISTINCT writer, row FROM seen)";
        (counted(&server, sql).await == written).then_some(())
    };
    eventually("every row is counted", all_counted).await;
    // In order, so that no run is left that could count something again.
    assert_eq!(server.stop().await, 0, "{}", server.log());
    server.restart().await;
    let doubled = "SELECT writer, row, count(*) AS n FROM seen GROUP BY writer, row HAVING count(*) > 1";
    assert_eq!(server.query("d", doubled).await, [] as [Value; 0]);
    assert_eq!(counted(&server, "SELECT count(*) AS n FROM seen").await, written);
}

/// Counts rows in its state, and notes each count.
const TALLY: &str = r#"
def process_writes(influxdb3_local, table_batches, args=None):
    rows = sum(len(batch["rows"]) for batch in table_batches)
    before = influxdb3_local.state.get("counted", 0)
    influxdb3_local.state.put("counted", before + rows)
    line = LineBuilder("tally").int64_field("known", before).int64_field("added", rows)
    influxdb3_local.write(line.time_ns(before))
"#;

#[tokio::test]
async fn a_counter_in_the_state_is_exact_over_kills_under_load() {
    let mut server = server().await;
    server.put_plugin("tally.py", TALLY);
    server.create_database("d").await;
    server
        .create_trigger("d", "tally", "tally.py", "table:m", json!({}))
        .await;
    let mut last = vec![0; WRITERS];
    for _round in 0..3 {
        let writers = Writers::start(&server, &last);
        writers.wrote(&last, 100).await;
        server.kill();
        writers.ended().await;
        server.restart().await;
        last = last_rows(&server).await;
    }
    let written: u64 = last.iter().sum();
    let sql = "SELECT max(known + added) AS n FROM tally";
    let all_counted = async || (counted(&server, sql).await == written).then_some(());
    eventually("every row is counted", all_counted).await;
    // Each run went on from where the one before it ended, whose lines and state are one record.
    assert_eq!(
        counted(&server, "SELECT sum(added) AS n FROM tally").await,
        written
    );
}

/// The `n` of a query; 0 where its table is not there yet.
async fn counted(server: &TestServer, sql: &str) -> u64 {
    let answer = server.try_query("d", sql).await;
    if answer.status == 200 {
        answer.json()[0]["n"].as_u64().expect("a count")
    } else {
        0
    }
}
