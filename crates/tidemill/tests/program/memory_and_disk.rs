//! Limits of memory and of the disk: writers are told to come again, nothing that was answered is lost, and it gets
//! better by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tidemill_testkit::{Answer, ServerOptions, TestServer, eventually};

use crate::PROGRAM;

const ROWS_PER_REQUEST: usize = 1_000;
const WRITE: &str = "/api/v3/write_lp?db=d&precision=ns";

/// Rows of some hundred bytes each that nothing makes smaller.
fn lines(request: usize) -> String {
    let line = |row: usize| {
        let number = request * ROWS_PER_REQUEST + row;
        let mut random = number as u64 ^ 0x9e37_79b9_7f4a_7c15;
        let text: String = (0..16)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                format!("{random:016x}")
            })
            .collect();
        format!("m,host=h{} v={number}i,text=\"{text}\" {number}\n", number % 7)
    };
    (0..ROWS_PER_REQUEST).map(line).collect()
}

async fn row_count(server: &TestServer) -> usize {
    let rows = server
        .query("d", "SELECT count(*) AS n, count(DISTINCT v) AS d FROM m")
        .await;
    assert_eq!(rows[0]["n"], rows[0]["d"], "no row is there twice");
    let count = rows[0]["n"].as_u64().expect("a count is a number");
    usize::try_from(count).expect("there are few rows")
}

fn expect_come_again(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert!(answer.json()["error"].is_string());
}

#[tokio::test]
async fn more_rows_than_memory_are_written_and_there_after_any_end() {
    let options = ServerOptions {
        without_plugins: true,
        arguments: vec!["--force-snapshot-mem-threshold=8MB".to_owned()],
        ..ServerOptions::default()
    };
    let mut server = TestServer::start_with(PROGRAM, options).await;
    let requests = 60;
    for request in 0..requests {
        let lines = lines(request);
        // Where snapshots are slower than writers, these wait, and are told to come again at most.
        eventually("a request is taken", async || {
            let answer = server.post(WRITE, lines.clone()).await;
            if answer.status != 204 {
                expect_come_again(&answer);
            }
            (answer.status == 204).then_some(())
        })
        .await;
    }
    assert_eq!(row_count(&server).await, requests * ROWS_PER_REQUEST);
    let metrics = server.get("/metrics").await.text();
    let snapshots = metrics
        .lines()
        .find_map(|line| line.strip_prefix("tidemill_snapshots_total{outcome=\"ok\"} "));
    assert!(snapshots.unwrap().parse::<f64>().unwrap() >= 2.0, "{metrics}");
    server.kill();
    server.restart().await;
    assert_eq!(row_count(&server).await, requests * ROWS_PER_REQUEST);
    assert_eq!(server.stop().await, 0);
    server.restart().await;
    assert_eq!(row_count(&server).await, requests * ROWS_PER_REQUEST);
}

/// A file system in memory, until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this user must not mount anything.
    fn mount(folder: &Path, size: &str) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder)
            .output();
        let is_mounted = mounted.is_ok_and(|output| output.status.success());
        is_mounted.then(|| Self(folder.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since the server may still run.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writers_and_nothing_else() {
    let options = ServerOptions {
        without_plugins: true,
        ..ServerOptions::default()
    };
    let mut server = TestServer::start_with(PROGRAM, options).await;
    assert_eq!(server.stop().await, 0);
    fs::remove_dir_all(server.data_dir()).unwrap();
    fs::create_dir(server.data_dir()).unwrap();
    let Some(disk) = SmallDisk::mount(&server.data_dir(), "32m") else {
        eprintln!("skipped: this user cannot mount a file system of its own");
        return;
    };
    let ballast = disk.0.join("ballast");
    fs::write(&ballast, vec![1; 20 << 20]).unwrap();
    server.restart().await;
    let mut requests = 0;
    let refused = loop {
        let answer = server.post(WRITE, lines(requests)).await;
        if answer.status != 204 {
            break answer;
        }
        requests += 1;
    };
    expect_come_again(&refused);
    assert!(requests > 5, "{requests} requests fit");
    assert_eq!(row_count(&server).await, requests * ROWS_PER_REQUEST);
    expect_come_again(&server.post(WRITE, lines(requests)).await);

    fs::remove_file(&ballast).unwrap();
    eventually("writing goes on when there is room", async || {
        let answer = server.post(WRITE, lines(requests)).await;
        (answer.status == 204).then_some(())
    })
    .await;
    requests += 1;
    assert_eq!(row_count(&server).await, requests * ROWS_PER_REQUEST);
    server.kill();
    server.restart().await;
    assert_eq!(row_count(&server).await, requests * ROWS_PER_REQUEST);
    let error = server.try_query("d", "SELECT nothing FROM m").await;
    assert_ne!(error.status, 200);
    assert_eq!(
        server
            .query("d", "SELECT min(v) AS first, max(v) AS last FROM m")
            .await,
        [json!({"first": 0, "last": requests * ROWS_PER_REQUEST - 1})]
    );
    server.kill();
}
