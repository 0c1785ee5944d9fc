//! Batches that are given up: set aside once, run once more or dropped, whatever happens in between.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use object_store::ObjectStoreExt;
use object_store::path::Path;
use tidemill_triggers::{ErrorBehavior, TriggerSettings};

use super::Server;
use super::fake_python::{Action, Call, FakePython};
use crate::{Dropped, EngineErrorKind, Replayed, SelectDeadLetters};

const LETTERS: &str =
    "SELECT trigger_name, run_id, kind, attempts, rows, error FROM system.processing_engine_dead_letters";
const DONE: &str = "SELECT x, count(*) FROM done GROUP BY x ORDER BY x";

fn retries(attempts: u32) -> TriggerSettings {
    TriggerSettings {
        error_behavior: ErrorBehavior::Retry,
        max_attempts: NonZeroU32::new(attempts),
        ..TriggerSettings::default()
    }
}

fn all_of(trigger_name: &str) -> SelectDeadLetters {
    SelectDeadLetters {
        db: "db".to_owned(),
        trigger_name: trigger_name.to_owned(),
        run_ids: None,
    }
}

fn one_of(trigger_name: &str, run_id: &str) -> SelectDeadLetters {
    SelectDeadLetters {
        run_ids: Some(vec![run_id.to_owned()]),
        ..all_of(trigger_name)
    }
}

/// Copies rows to `done`, without a time of their own, so that what is run twice is there twice; fails on poison until it
/// is mended.
fn copies(mended: &Arc<AtomicBool>) -> Arc<FakePython> {
    let mended = Arc::clone(mended);
    FakePython::new(move |call: &Call| {
        let rows = call.rows();
        if rows.iter().any(|row| row.contains("poison")) && !mended.load(Ordering::SeqCst) {
            return Action::Raise("poison");
        }
        let lines = rows.iter().enumerate().map(|(index, row)| {
            let (_, x) = row.rsplit_once("x=").unwrap();
            format!("done,call={},row={index} x={x}", call.number)
        });
        Action::Return(vec![(None, lines.collect::<Vec<_>>().join("\n"))])
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_always_fails_is_set_aside_and_can_be_replayed_once() {
    let mended = Arc::new(AtomicBool::new(false));
    let python = copies(&mended);
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server
        .create_with("t", "table:cpu", |t| t.trigger_settings = retries(3))
        .await;
    server
        .write("db", "cpu,host=poison x=1 1\ncpu,host=poison x=2 2")
        .await;
    server.expect_log("db", "gave up after 3 attempts").await;
    server.write("db", "cpu,host=good x=3 3").await;
    server.expect_log("db", "finished execution in").await;
    server.expect_rows("db", DONE, &["3.0|1"]).await;
    assert_eq!(
        python.calls(4).await.len(),
        4,
        "three attempts, and the next batch"
    );
    let letter = server.query("db", LETTERS).await;
    let [letter] = &letter[..] else {
        panic!("{letter:?}")
    };
    let run_id = letter.split('|').nth(1).unwrap().to_owned();
    assert_eq!(*letter, format!("t|{run_id}|writes|3|2|ValueError: poison"));

    // Once more in vain: it stays, and says so.
    let replayed = server.engine.replay_dead_letters(&all_of("t")).await.unwrap();
    assert_eq!(
        replayed,
        Replayed {
            replayed: 0,
            failed: 1
        }
    );
    let failed_again = format!("t|{run_id}|writes|4|2|ValueError: poison");
    server.expect_rows("db", LETTERS, &[&failed_again]).await;
    server.expect_log("db", "error replaying dead letter").await;

    // After a crash it is there, and its batch is not run by itself.
    let server = server.crash(&python, |_| {}).await;
    server.expect_rows("db", LETTERS, &[&failed_again]).await;
    server.write("db", "cpu,host=good x=4 4").await;
    server.expect_rows("db", DONE, &["3.0|1", "4.0|1"]).await;

    mended.store(true, Ordering::SeqCst);
    let replayed = server
        .engine
        .replay_dead_letters(&one_of("t", &run_id))
        .await
        .unwrap();
    assert_eq!(
        replayed,
        Replayed {
            replayed: 1,
            failed: 0
        }
    );
    let done = ["1.0|1", "2.0|1", "3.0|1", "4.0|1"];
    server.expect_rows("db", DONE, &done).await;
    server.expect_rows("db", LETTERS, &[]).await;
    assert_eq!(python.calls(1).await.last().unwrap().run_id, run_id);
    let again = server.engine.replay_dead_letters(&all_of("t")).await.unwrap();
    assert_eq!(again, Replayed::default());
    let gone = server
        .engine
        .replay_dead_letters(&one_of("t", &run_id))
        .await
        .unwrap_err();
    assert_eq!(gone.kind(), EngineErrorKind::NotFound, "{gone}");

    let server = server.crash(&python, |_| {}).await;
    server.expect_rows("db", LETTERS, &[]).await;
    server.expect_rows("db", DONE, &done).await;
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_dropped_by_hand_or_with_their_trigger() {
    let mended = Arc::new(AtomicBool::new(false));
    let python = copies(&mended);
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    for name in ["first", "second"] {
        server
            .create_with(name, "table:cpu", |t| t.trigger_settings = retries(1))
            .await;
    }
    server.write("db", "cpu,host=poison x=1 1").await;
    let names = "SELECT trigger_name FROM system.processing_engine_dead_letters ORDER BY trigger_name";
    server.expect_rows("db", names, &["first", "second"]).await;
    server.engine.disable_trigger("db", "first").await.unwrap();
    let refused = server
        .engine
        .replay_dead_letters(&all_of("first"))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), EngineErrorKind::Conflict);
    assert_eq!(
        refused.to_string(),
        "trigger first is not running: enable it first"
    );
    let dropped = server.engine.drop_dead_letters(&all_of("first")).await.unwrap();
    assert_eq!(dropped, Dropped { dropped: 1 });
    server.expect_rows("db", names, &["second"]).await;
    server.engine.delete_trigger("db", "second", true).await.unwrap();
    server.expect_rows("db", names, &[]).await;
    let server = server.restart(&python).await;
    server.expect_rows("db", names, &[]).await;
    assert!(objects(&server).await.is_empty());
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_counts_only_when_the_log_says_so() {
    let python = copies(&Arc::default());
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server
        .create_with("t", "table:cpu", |t| t.trigger_settings = retries(1))
        .await;
    server.write("db", "cpu,host=poison x=1 1").await;
    let count = "SELECT count(*) FROM system.processing_engine_dead_letters";
    server.expect_rows("db", count, &["1"]).await;
    // What a crash leaves between the object and the record.
    let [letter] = &objects(&server).await[..] else {
        panic!("one object a letter")
    };
    let content = server.objects.get(letter).await.unwrap().bytes().await.unwrap();
    let without_mark = Path::from(letter.as_ref().replace("/w-", "/x-"));
    server.objects.put(&without_mark, content.into()).await.unwrap();
    let server = server.crash(&python, |_| {}).await;
    server.expect_rows("db", count, &["1"]).await;
    assert_eq!(objects(&server).await.len(), 1);
    server.engine.shutdown().await;
}

async fn objects(server: &Server) -> Vec<Path> {
    use futures::TryStreamExt;
    let folder = Path::from("node0/dead_letters");
    let listed: Vec<_> = server.objects.list(Some(&folder)).try_collect().await.unwrap();
    listed.into_iter().map(|object| object.location).collect()
}
