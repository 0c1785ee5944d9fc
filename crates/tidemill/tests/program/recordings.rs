//! Recordings: what a trigger is given is saved, and a plugin runs on it without a server.

use serde_json::{Value, json};
use tidemill_testkit::{CommandOutput, TestServer, eventually, shared_venv};

use crate::server;

/// Logs everything that can differ about a row: its keys in order, and values with their types.
const SHOW: &str = r#"
def process_writes(influxdb3_local, table_batches, args=None):
    influxdb3_local.info("args", args)
    for batch in table_batches:
        for row in batch["rows"]:
            influxdb3_local.info(batch["table_name"], repr(row))
            influxdb3_local.write(LineBuilder("seen").int64_field("keys", len(row)).time_ns(row["time"]))
"#;

const LINES: &str = "air,site=a\\ b f=1.5,i=-3i,u=18446744073709551615u,s=\"x\\\"y\",b=true 1\n\
                     air f=2 2\n\
                     air,site=b s=\"ü\",f=0.1 3";

async fn replay(server: &TestServer, recording: &str, plugin: &str, more: &[&str]) -> CommandOutput {
    let python = shared_venv().join("bin/python").display().to_string();
    let arguments = [
        "replay", "plugin", recording, "--path", plugin, "--python", &python,
    ];
    server
        .command_in(&server.plugin_dir(), &[&arguments, more].concat())
        .await
}

fn report(output: &CommandOutput) -> Value {
    serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", output.stdout, output.stderr))
}

/// The log of the trigger when it has a line that ends so.
async fn log_with(server: &TestServer, trigger: &str, end: &str) -> Vec<String> {
    eventually("a line in the log", async || {
        let log = server.plugin_log("d", trigger).await;
        log.iter().any(|line| line.ends_with(end)).then_some(log)
    })
    .await
}

#[tokio::test]
async fn a_plugin_sees_on_a_recording_what_it_saw_in_the_server() {
    let server = server().await;
    let folder = server.plugin_dir();
    server.create_database("d").await;
    server.put_plugin("show.py", SHOW);
    let more = json!({ "trigger_arguments": { "limit": "30" } });
    server
        .create_trigger("d", "show", "show.py", "table:air", more)
        .await;
    server.write("d", LINES).await;
    server.write("d", "sea f=1 1").await;
    let live = log_with(&server, "show", "'time': 3}").await;

    let record = [
        "record",
        "trigger",
        "show",
        "--database",
        "d",
        "--output",
        "show.jsonl",
        "--start-at",
        "beginning",
        "--timeout",
        "0s",
    ];
    let recorded = server.command_in(&folder, &record).await;
    assert_eq!(recorded.code, 0, "{}", recorded.stderr);
    assert_eq!(recorded.stdout, "1 batch recorded into show.jsonl\n");
    let again = server.command_in(&folder, &record).await;
    assert_eq!(
        (again.code, again.stderr.as_str()),
        (
            1,
            "Record command failed: show.jsonl exists; another --output, or --overwrite\n"
        )
    );

    let replayed = replay(&server, "show.jsonl", "show.py", &[]).await;
    assert_eq!(replayed.code, 0, "{}", replayed.stderr);
    let report = report(&replayed);
    assert_eq!((&report["runs"], &report["rows"]), (&json!(1), &json!(3)));
    assert_eq!(
        report["database_writes"],
        json!({ "d": ["seen keys=7i 1", "seen keys=2i 2", "seen keys=4i 3"] })
    );
    let offline: Vec<&str> = report["log_lines"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let live: Vec<&str> = live
        .iter()
        .filter(|line| line.starts_with("INFO: a"))
        .map(String::as_str)
        .collect();
    assert_eq!(offline.len(), 4, "{offline:#?}");
    assert_eq!(offline, live, "rows, keys, types and arguments are the same");

    // Neither the recording nor the replay has made the trigger run again or written anything.
    server.write("d", "air f=9 9").await;
    let log = log_with(&server, "show", "'time': 9}").await;
    assert_eq!(log.iter().filter(|line| line.contains("'time': 1}")).count(), 1);
    // The line is there before the run is committed.
    eventually("the row of the last run is there", async || {
        let rows = server.query("d", "SELECT count(*) AS n FROM seen").await;
        (rows == [json!({ "n": 4 })]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_written_from_now_on_is_recorded_also_for_a_disabled_trigger() {
    let server = server().await;
    let folder = server.plugin_dir();
    server.create_database("d").await;
    server.put_plugin("show.py", SHOW);
    server.put_plugin(
        "bad.py",
        "def process_writes(api, batches, args):\n    raise ValueError(len(batches))\n",
    );
    server
        .create_trigger("d", "show", "show.py", "all_tables", json!({ "disabled": true }))
        .await;
    server.write("d", "air f=1 1").await;

    let record = [
        "record",
        "trigger",
        "show",
        "-d",
        "d",
        "-o",
        "now.jsonl",
        "--batches",
        "2",
        "--timeout",
        "1m",
    ];
    let writes = async {
        let lines = || std::fs::read_to_string(folder.join("now.jsonl")).map(|text| text.lines().count());
        // Its first line is there as soon as the recording has its place in the log.
        eventually("the first line", async || {
            lines().ok().filter(|count| *count == 1)
        })
        .await;
        server.write("d", "air f=2 2").await;
        eventually("the first batch", async || {
            lines().ok().filter(|count| *count == 2)
        })
        .await;
        server.write("d", "sea f=3 3").await;
    };
    let (recorded, ()) = tokio::join!(server.command_in(&folder, &record), writes);
    assert_eq!(recorded.code, 0, "{}", recorded.stderr);
    assert_eq!(recorded.stdout, "2 batches recorded into now.jsonl\n");

    let replayed = replay(&server, "now.jsonl", "show.py", &["--arguments", "a=1"]).await;
    let lines = &report(&replayed)["log_lines"];
    assert_eq!(
        *lines,
        json!([
            "INFO: args {'a': '1'}",
            "INFO: air {'f': 2.0, 'time': 2}",
            "INFO: args {'a': '1'}",
            "INFO: sea {'f': 3.0, 'time': 3}"
        ])
    );

    let failed = replay(&server, "now.jsonl", "bad.py", &[]).await;
    assert_eq!(failed.code, 1);
    assert_eq!(
        failed.stderr,
        "Replay command failed: the plugin reported an error\n"
    );
    let errors = &report(&failed)["errors"];
    let error = errors[1].as_str().expect("two errors");
    assert!(
        error.starts_with("w-") && error.contains("bad.py\", line 2"),
        "{error}"
    );
    assert!(error.ends_with("ValueError: 1"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_recorded_or_replayed_says_why() {
    let server = server().await;
    let folder = server.plugin_dir();
    server.create_database("d").await;
    server.put_plugin("show.py", SHOW);
    server
        .create_trigger("d", "latest", "show.py", "request:latest", json!({}))
        .await;
    server
        .create_trigger("d", "show", "show.py", "table:air", json!({}))
        .await;
    for (trigger, more, expected) in [
        (
            "latest",
            &[][..],
            "only triggers on writes (table:, all_tables) can be recorded; latest is request:latest",
        ),
        ("none", &[], "404 Not Found"),
        (
            "show",
            &["--timeout", "0s"],
            "nothing was written that trigger show reads",
        ),
    ] {
        let arguments = ["record", "trigger", trigger, "-d", "d", "-o", "out.jsonl"];
        let output = server.command_in(&folder, &[&arguments, more].concat()).await;
        assert_eq!(output.code, 1, "{trigger}");
        assert!(output.stderr.contains(expected), "{}", output.stderr);
    }

    server.put_plugin("not.jsonl", "air f=1\n");
    let output = replay(&server, "not.jsonl", "show.py", &[]).await;
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("not.jsonl, line 1: not JSON"),
        "{}",
        output.stderr
    );
    let output = server
        .command_in(
            &folder,
            &[
                "replay",
                "plugin",
                "not.jsonl",
                "--path",
                "show.py",
                "--python",
                "/none",
            ],
        )
        .await;
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("cannot run /none") && output.stderr.contains("--python"),
        "{}",
        output.stderr
    );
    let output = replay(&server, "none.jsonl", "show.py", &[]).await;
    assert!(
        output.stderr.contains("none.jsonl: No such file"),
        "{}",
        output.stderr
    );
}
