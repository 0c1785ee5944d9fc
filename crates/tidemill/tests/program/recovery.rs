//! What was answered is there after any end of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::Client;
use serde_json::json;
use tidemill_testkit::eventually;

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

#[tokio::test]
async fn every_acknowledged_row_survives_kill_under_load() {
    const WRITERS: u64 = 4;
    let mut server = server().await;
    server.create_database("d").await;
    let mut acknowledged = vec![0; WRITERS as usize];
    for _round in 0..3 {
        let progress: Vec<Arc<AtomicU64>> = acknowledged
            .iter()
            .map(|n| Arc::new(AtomicU64::new(*n)))
            .collect();
        let url = format!("{}/api/v3/write_lp?db=d&precision=ns", server.url());
        let writers: Vec<_> = progress
            .iter()
            .enumerate()
            .map(|(writer, progress)| {
                let (url, progress, client) = (url.clone(), Arc::clone(progress), Client::new());
                tokio::spawn(async move {
                    // Rows are numbered; the writer goes on until the server is gone.
                    for row in progress.load(Ordering::SeqCst) + 1.. {
                        let answer = client
                            .post(&url)
                            .body(format!("m,writer={writer} row={row}i {row}"))
                            .send()
                            .await;
                        match answer {
                            Ok(answer) if answer.status() == 204 => progress.store(row, Ordering::SeqCst),
                            _ => break,
                        }
                    }
                })
            })
            .collect();
        let before = acknowledged.clone();
        let everyone_wrote = async || {
            let wrote =
                |(progress, before): (&Arc<AtomicU64>, &u64)| progress.load(Ordering::SeqCst) > before + 20;
            progress.iter().zip(&before).all(wrote).then_some(())
        };
        eventually("every writer has written", everyone_wrote).await;
        server.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        acknowledged = progress
            .iter()
            .map(|progress| progress.load(Ordering::SeqCst))
            .collect();
        server.restart().await;
        let rows = server
            .query(
                "d",
                "SELECT writer, count(*) AS n, max(row) AS last FROM m GROUP BY writer ORDER BY writer",
            )
            .await;
        for (writer, row) in rows.iter().enumerate() {
            let (count, last) = (row["n"].as_u64().unwrap(), row["last"].as_u64().unwrap());
            assert_eq!(count, last, "writer {writer}: a row is missing or doubled");
            // At most the one write in flight may be there without having been answered.
            let expected = acknowledged[writer]..=acknowledged[writer] + 1;
            assert!(
                expected.contains(&last),
                "writer {writer}: {last} rows, {} acknowledged",
                acknowledged[writer]
            );
            acknowledged[writer] = last;
        }
        assert_eq!(rows.len(), WRITERS as usize);
    }
}
