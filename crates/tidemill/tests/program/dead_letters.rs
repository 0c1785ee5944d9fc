//! Dead letters on the command line: runs that failed too often are listed, run again and forgotten.

use serde_json::{Value, json};
use tidemill_testkit::{CommandOutput, TestServer, eventually};

use crate::server;

const BROKEN: &str = "
def process_writes(influxdb3_local, table_batches, args=None):
    raise ValueError('not yet mended')
";

const MENDED: &str = "
def process_writes(influxdb3_local, table_batches, args=None):
    for batch in table_batches:
        for row in batch['rows']:
            influxdb3_local.write(LineBuilder('done').int64_field('n', 1).time_ns(row['time']))
";

async fn letters(server: &TestServer) -> Vec<Value> {
    let shown = server
        .command(&[
            "show",
            "dead-letters",
            "-d",
            "d",
            "--trigger",
            "t",
            "--format",
            "json",
        ])
        .await;
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    serde_json::from_str(&shown.stdout).expect("a list of letters")
}

async fn letter(server: &TestServer) -> String {
    let found = eventually("a dead letter", async || letters(server).await.into_iter().next()).await;
    assert_eq!(
        (&found["attempts"], &found["rows"]),
        (&json!(2), &json!(1)),
        "{found}"
    );
    let error = found["error"].as_str().expect("an error");
    assert!(error.contains("not yet mended"), "{error}");
    found["run_id"].as_str().expect("an id").to_owned()
}

fn check(output: &CommandOutput, code: i32, expected: &str) {
    let text = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.code, code, "{text}");
    assert!(text.contains(expected), "{text}");
}

#[tokio::test]
async fn failed_runs_are_run_again_or_forgotten() {
    let server = server().await;
    server.create_database("d").await;
    server.put_plugin("p.py", BROKEN);
    let settings = json!({ "trigger_settings": { "error_behavior": "retry", "max_attempts": 2 } });
    server
        .create_trigger("d", "t", "p.py", "table:air", settings)
        .await;
    server.write("d", "air f=1 1").await;
    let first = letter(&server).await;

    let replay = ["replay", "trigger", "t", "-d", "d"];
    let failed = server.command(&replay).await;
    check(
        &failed,
        1,
        "1 failed again and stay; `tidemill logs trigger t --database d` says why",
    );
    let unknown = server
        .command(&[&replay[..], &["--run-id", "w-0"]].concat())
        .await;
    check(&unknown, 1, "w-0");

    let drop = ["drop", "dead-letters", "-d", "d", "-t", "t"];
    let dropped = server.command(&[&drop[..], &["--run-id", &first]].concat()).await;
    check(&dropped, 0, "1 dead letter of trigger t dropped\n");
    assert_eq!(letters(&server).await, Vec::<Value>::new());

    server.write("d", "air f=2 2").await;
    letter(&server).await;
    server.put_plugin("p.py", MENDED);
    check(
        &server.command(&replay).await,
        0,
        "1 dead letter of trigger t replayed\n",
    );
    assert_eq!(
        server
            .query("d", "SELECT n, CAST(time AS BIGINT) AS at FROM done")
            .await,
        [json!({ "n": 1, "at": 2 })]
    );
    check(
        &server.command(&replay).await,
        0,
        "No dead letter of trigger t replayed\n",
    );
    check(
        &server.command(&drop).await,
        0,
        "No dead letter of trigger t dropped\n",
    );
}
