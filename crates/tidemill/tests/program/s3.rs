//! A server whose data is in a store that speaks the protocol of S3.

use std::time::{Duration, Instant};

use serde_json::json;
use tidemill_testkit::{S3Server, eventually};

use crate::{refused, server_on};

pub(crate) const FAST: [&str; 2] = ["--wal-flush-interval", "10ms"];

#[tokio::test]
async fn a_kill_and_a_clean_stop_lose_nothing() {
    let Some(store) = S3Server::start().await else {
        return;
    };
    let mut server = server_on(store.arguments(), &FAST).await;
    server.write("d", "m,host=a v=1 1").await;
    server.kill();
    server.restart().await;
    server.write("d", "m,host=b v=2 2").await;
    assert_eq!(server.stop().await, 0, "{}", server.log());
    server.restart().await;
    assert_eq!(
        server.query("d", "SELECT host, v FROM m ORDER BY host").await,
        [json!({"host": "a", "v": 1.0}), json!({"host": "b", "v": 2.0})]
    );
    assert!(!server.log().contains("test-secret"), "a secret is in the log");
    let metrics = server.get("/metrics").await.text();
    let put = r#"tidemill_object_store_requests_total{operation="put",outcome="ok"}"#;
    let puts = metrics.lines().find_map(|line| line.strip_prefix(put));
    let puts: f64 = puts.expect("puts are counted").trim().parse().unwrap();
    assert!(puts >= 2.0, "the lease and a record: {puts}");
}

#[tokio::test]
async fn a_log_record_is_an_object_a_flush_interval() {
    let Some(store) = S3Server::start().await else {
        return;
    };
    let server = server_on(store.arguments(), &["--wal-flush-interval", "300ms"]).await;
    // A table that is there: otherwise the catalog's own record would take part of the time.
    server.write("d", "m v=0 0").await;
    let started = Instant::now();
    server.write("d", "m v=1 1").await;
    server.write("d", "m v=2 2").await;
    let elapsed = started.elapsed();
    assert!(
        elapsed >= Duration::from_millis(300),
        "two flushes in {elapsed:?}"
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_store_is_told_at_the_start() {
    let Some(store) = S3Server::start().await else {
        return;
    };
    let mut arguments = store.arguments();
    for argument in &mut arguments {
        if argument == store.bucket() {
            "nowhere".clone_into(argument);
        }
    }
    let (code, said) = refused(&arguments).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("cannot use the object store: "), "{said}");
    assert!(said.contains("nowhere"), "{said}");
    assert!(!said.contains("test-secret"), "a secret is shown");

    let arguments = [
        "--object-store",
        "s3",
        "--bucket",
        "b",
        "--aws-credentials-file",
        "/none",
    ];
    let (code, said) = refused(&arguments.map(str::to_owned)).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("cannot use the credentials file /none: "), "{said}");
    let (code, said) = refused(&["--object-store", "s3"].map(str::to_owned)).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--object-store s3 needs --bucket <NAME>"), "{said}");
}

#[tokio::test]
async fn a_store_that_does_not_answer_for_a_while_costs_nothing() {
    let Some(store) = S3Server::start().await else {
        return;
    };
    let server = server_on(store.arguments(), &FAST).await;
    server.write("d", "m v=1 1").await;
    store.pause();
    let waiting = tokio::spawn({
        let request = server.request(reqwest::Method::POST, "/api/v3/write_lp?db=d&precision=ns");
        async move { request.body("m v=2 2").send().await.unwrap().status().as_u16() }
    });
    // Reads come from memory meanwhile.
    assert_eq!(server.query("d", "SELECT v FROM m").await, [json!({"v": 1.0})]);
    store.resume();
    assert_eq!(waiting.await.unwrap(), 204, "{}", server.log());
    eventually("the row is there", async || {
        let rows = server.query("d", "SELECT count(*) AS n FROM m").await;
        (rows == [json!({"n": 2})]).then_some(())
    })
    .await;
}
