//! Two servers with one node id: one of them serves, and the other says why it does not.

use serde_json::{Value, json};
use tidemill_testkit::{S3Server, TestServer, eventually};

use crate::s3::FAST;
use crate::{refused, server_on};

/// Every write becomes a file.
const SNAPSHOTS: [&str; 2] = ["--force-snapshot-mem-threshold", "1"];

async fn values(server: &TestServer) -> Vec<Value> {
    server.query("d", "SELECT v FROM m ORDER BY v").await
}

fn expected(values: &[f64]) -> Vec<Value> {
    values.iter().map(|value| json!({ "v": value })).collect()
}

/// Waits until the table is in that many files.
async fn files(server: &TestServer, wanted: u64) {
    let files = async || {
        let count = "SELECT count(*) AS n FROM system.parquet_files";
        let found = server.query("d", count).await;
        (found == [json!({ "n": wanted })]).then_some(())
    };
    eventually("rows are in files", files).await;
}

#[tokio::test]
async fn a_data_directory_has_one_server() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let storage = ["--object-store", "file", "--data-dir"].map(str::to_owned);
    let storage = [&storage[..], &[home.path().display().to_string()]].concat();
    let mut first = server_on(storage.clone(), &SNAPSHOTS).await;
    first.write("d", "m v=1 1").await;
    files(&first, 1).await;

    let message = format!(
        "node id 'test' is in use: process {} serves it from {}; stop that server, or start this one with another --node-id",
        first.pid(),
        home.path().display()
    );
    let (code, said) = refused(&storage).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&message), "{said}");
    // It has touched nothing: the first one goes on changing the catalog, the log and the list of files.
    first.write("d", "m v=2 2\nother v=2 2").await;
    files(&first, 3).await;

    // However long the first one is silent, as long as it is there nobody takes its place.
    first.pause();
    let (code, said) = refused(&storage).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&message), "{said}");
    first.resume();
    first.write("d", "m v=3 3").await;
    files(&first, 4).await;

    first.kill();
    let second = server_on(storage, &SNAPSHOTS).await;
    assert_eq!(values(&second).await, expected(&[1.0, 2.0, 3.0]));
    second.write("d", "m v=4 4").await;
}

#[tokio::test]
async fn a_bucket_has_one_server_of_a_name() {
    let Some(store) = S3Server::start().await else {
        return;
    };
    let mut first = server_on(store.arguments(), &FAST).await;
    let (code, said) = refused(&store.arguments()).await;
    assert_eq!(code, 1, "{said}");
    let in_use = format!("node id 'test' is in use: process {} on host ", first.pid());
    assert!(said.contains(&in_use), "{said}");
    assert!(
        said.contains("stop that server, or start this one with another --node-id"),
        "{said}"
    );
    // The first one has noticed nothing.
    first.write("d", "m v=1 1").await;

    // On one machine it can be told that the first one is dead, so nobody waits for its lease to end.
    let dead = format!("process {}", first.pid());
    first.kill();
    let mut second = server_on(store.arguments(), &FAST).await;
    let log = second.log();
    let took_over = log
        .lines()
        .find(|line| line.contains("the server that had this node id has ended, taking over"));
    assert!(took_over.is_some_and(|line| line.contains(&dead)), "{log}");
    assert_eq!(values(&second).await, expected(&[1.0]));
    second.write("d", "m v=2 2").await;

    // One that gave it back is not even mentioned.
    assert_eq!(second.stop().await, 0, "{}", second.log());
    let third = server_on(store.arguments(), &FAST).await;
    assert!(!third.log().contains("taking over"), "{}", third.log());
    assert_eq!(values(&third).await, expected(&[1.0, 2.0]));
}

/// A server that was suspended while another one took its place, as on a machine that was given up and comes back.
#[tokio::test]
async fn a_server_that_was_overtaken_writes_nothing_and_ends() {
    let Some(store) = S3Server::start().await else {
        return;
    };
    let mut first = server_on(store.arguments(), &FAST).await;
    first.write("d", "m v=1 1").await;
    first.pause();
    let (code, said) = refused(&store.arguments()).await;
    assert_eq!(code, 1, "it is there, though silent: {said}");
    // Who knows better than the lease removes it.
    store.remove("test/lease").await;
    let mut second = server_on(store.arguments(), &FAST).await;
    second.write("d", "m v=2 2").await;
    let objects = store.names("test/").await;

    let late = first.request(reqwest::Method::POST, "/api/v3/write_lp?db=d&precision=ns");
    let late = tokio::spawn(late.body("m v=100 100").send());
    first.resume();
    // It may also have ended before it took the request.
    if let Ok(answer) = late.await.expect("a request does not panic") {
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap_or_default();
        assert!(matches!(status, 500 | 503), "{status}: {text}");
        if status == 500 {
            assert!(
                text.contains("another process writes to the log with the same node id"),
                "{text}"
            );
        }
    }
    assert_eq!(first.ended().await, 1, "{}", first.log());
    let message = format!(
        "node id 'test' was taken over by process {} on host ",
        second.pid()
    );
    let log = first.log();
    assert!(log.contains(&message), "{log}");
    assert!(log.contains("this server must not go on"), "{log}");
    assert_eq!(store.names("test/").await, objects);

    second.write("d", "m v=3 3").await;
    assert_eq!(values(&second).await, expected(&[1.0, 2.0, 3.0]));
    second.kill();
    second.restart().await;
    assert_eq!(values(&second).await, expected(&[1.0, 2.0, 3.0]));
}
