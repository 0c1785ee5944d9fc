//! What was deleted stays deleted, and what was undeleted is there, after any end of the process.

use serde_json::{Value, json};
use tidemill_testkit::{ServerOptions, TestServer, eventually};

use crate::{PROGRAM, server};

/// A server without plugins, on files, that forgets what has no data at once.
async fn forgetful_server() -> TestServer {
    let options = ServerOptions {
        without_plugins: true,
        arguments: vec!["--delete-grace-period".to_owned(), "0s".to_owned()],
        ..ServerOptions::default()
    };
    TestServer::start_with(PROGRAM, options).await
}

const VALUES: &str = "SELECT v FROM m ORDER BY v";

#[tokio::test]
async fn deleted_rows_do_not_come_back_after_a_kill() {
    let mut server = forgetful_server().await;
    server.write("d", "m,h=a v=1 1\nm,h=b v=2 2\nm,h=a v=3 3").await;
    let delete = json!({"db": "d", "table": "m", "predicate": "h = 'a' AND time < 3"});
    assert_eq!(server.post_json("/api/v3/delete", &delete).await.status, 204);
    server.write("d", "m,h=a v=4 1").await;
    let left = [json!({"v": 2.0}), json!({"v": 3.0}), json!({"v": 4.0})];
    assert_eq!(server.query("d", VALUES).await, left);
    for _ in 0..2 {
        server.kill();
        server.restart().await;
        assert_eq!(server.query("d", VALUES).await, left);
    }
    assert_eq!(server.stop().await, 0, "{}", server.log());
    server.restart().await;
    assert_eq!(server.query("d", VALUES).await, left);
}

#[tokio::test]
async fn a_table_that_was_undeleted_is_there_after_a_kill_and_one_that_is_due_is_not() {
    let mut server = forgetful_server().await;
    server.write("d", "m v=1 1\nn v=2 1").await;
    let delete = async |server: &TestServer, query: &str| {
        let path = format!("/api/v3/configure/table?{query}");
        let answer = server.send(server.request(reqwest::Method::DELETE, &path)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    delete(&server, "db=d&table=m").await;
    let undelete = json!({"db": "d", "table": "m"});
    let undeleted = server
        .post_json("/api/v3/configure/table/undelete", &undelete)
        .await;
    assert_eq!(undeleted.status, 200, "{}", undeleted.text());
    delete(&server, "db=d&table=n&hard_delete_at=now").await;
    let tables = "SELECT table_name FROM system.tables WHERE database_name = 'd'";
    let only_m: Vec<Value> = vec![json!({"table_name": "m"})];
    eventually("the deleted table is forgotten", async || {
        (server.query("_internal", tables).await == only_m).then_some(())
    })
    .await;
    server.kill();
    server.restart().await;
    assert_eq!(server.query("d", VALUES).await, [json!({"v": 1.0})]);
    assert_eq!(server.query("_internal", tables).await, only_m);
}

#[tokio::test]
async fn triggers_are_not_called_for_deletes() {
    let server = server().await;
    server.put_plugin(
        "count.py",
        "def process_writes(influxdb3_local, table_batches, args=None):\n    \
             influxdb3_local.info(str([len(batch['rows']) for batch in table_batches]))\n",
    );
    server.create_database("d").await;
    server
        .create_trigger("d", "count", "count.py", "table:m", json!({}))
        .await;
    server.write("d", "m,h=a v=1 1").await;
    let delete = json!({"db": "d", "table": "m", "predicate": "h = 'a'"});
    assert_eq!(server.post_json("/api/v3/delete", &delete).await.status, 204);
    server.write("d", "m,h=a v=2 2\nm,h=a v=3 3").await;
    let counts = async || -> usize {
        let log = server.plugin_log("d", "count").await;
        let rows = log.iter().filter_map(|line| {
            let list = line.split_once('[')?.1.strip_suffix(']')?;
            Some(
                list.split(", ")
                    .filter_map(|count| count.parse::<usize>().ok())
                    .sum::<usize>(),
            )
        });
        rows.sum()
    };
    eventually("all rows were given to the trigger", async || {
        (counts().await == 3).then_some(())
    })
    .await;
    assert_eq!(
        server.query("d", VALUES).await,
        [json!({"v": 2.0}), json!({"v": 3.0})]
    );
}
