//! No plugin can hurt the database or another plugin (`design.md` section 6).

use std::time::{Duration, Instant};

use serde_json::json;
use tidemill_testkit::{TestServer, eventually};

use crate::server;

/// A healthy trigger beside the bad one; its answer shows that others run on.
async fn with_neighbour() -> TestServer {
    let server = server().await;
    server.put_plugin("good.py", "def process_request(*a): return 'well'\n");
    server.put_plugin("mirror.py", "def process_writes(influxdb3_local, table_batches, args=None):\n    for batch in table_batches:\n        for row in batch['rows']:\n            influxdb3_local.write(LineBuilder('mirror').float64_field('v', row['v']).time_ns(row['time']))\n");
    server.create_database("d").await;
    server
        .create_trigger("d", "good", "good.py", "request:good", json!({}))
        .await;
    server
        .create_trigger("d", "mirror", "mirror.py", "table:m", json!({}))
        .await;
    server
}

/// Writes, queries, a request to the neighbour and the neighbour's derived row, all while the bad plugin does its worst.
async fn everything_works(server: &TestServer, time: i64) {
    let started = Instant::now();
    server.write("d", &format!("m v=1 {time}")).await;
    assert_eq!(
        server
            .query(
                "d",
                &format!("SELECT v FROM m WHERE time = to_timestamp_nanos({time})")
            )
            .await,
        [json!({"v": 1.0})]
    );
    assert_eq!(server.get("/api/v3/engine/good").await.text(), "well");
    let mirrored = async || {
        let sql = format!("SELECT v FROM mirror WHERE time = to_timestamp_nanos({time})");
        (server.try_query("d", &sql).await.json() == json!([{"v": 1.0}])).then_some(())
    };
    eventually("the neighbour derives its row", mirrored).await;
    // Not a measurement: only to tell "at once" from "when the bad plugin is done", which is never.
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "took {:?}",
        started.elapsed()
    );
}

async fn started(server: &TestServer, trigger: &str) {
    let started = async || {
        let log = server.plugin_log("d", trigger).await;
        log.iter()
            .any(|line| line.contains("starting execution"))
            .then_some(())
    };
    eventually("the bad plugin runs", started).await;
}

#[tokio::test]
async fn endless_loops_hurt_nobody_and_can_be_disabled() {
    let mut server = with_neighbour().await;
    server.put_plugin("spin.py", "def process_writes(*a):\n    while True: pass\n");
    server
        .create_trigger("d", "spin", "spin.py", "table:m", json!({}))
        .await;
    everything_works(&server, 1).await;
    started(&server, "spin").await;
    for time in 2..5 {
        everything_works(&server, time).await;
    }
    let disable = "/api/v3/configure/processing_engine_trigger/disable?db=d&trigger_name=spin";
    assert_eq!(server.post(disable, "").await.status, 200);
    let enable = disable.replace("disable?", "enable?");
    assert_eq!(server.post(&enable, "").await.status, 200);
    server.write("d", "m v=1 9").await;
    assert_eq!(server.stop().await, 0, "{}", server.log());
}

#[tokio::test]
async fn a_loop_that_holds_the_interpreter_lock() {
    let mut server = with_neighbour().await;
    server.put_plugin(
        "hold.py",
        "import re\ndef process_writes(*a):\n    re.match('(a+)+$', 'a' * 60 + 'b')\n",
    );
    server
        .create_trigger("d", "hold", "hold.py", "table:m", json!({}))
        .await;
    everything_works(&server, 1).await;
    started(&server, "hold").await;
    everything_works(&server, 2).await;
    assert_eq!(server.stop().await, 0, "{}", server.log());
}

#[tokio::test]
async fn a_process_that_dies_fails_its_run_and_comes_back() {
    for (name, code, trace) in [
        ("exit", "import os\ndef die(): os._exit(1)\n", ""),
        (
            "segfault",
            "import ctypes\ndef die(): ctypes.string_at(0)\n",
            "Segmentation fault",
        ),
        (
            "kill",
            "import os, signal\ndef die(): os.kill(os.getpid(), signal.SIGKILL)\n",
            "",
        ),
    ] {
        let server = with_neighbour().await;
        let plugin = format!(
            "{code}def process_writes(influxdb3_local, table_batches, args=None):\n    \
             for row in table_batches[0]['rows']:\n        if row['v'] == 13.0: die()\n    \
             influxdb3_local.info('survived')\n"
        );
        server.put_plugin("die.py", &plugin);
        server
            .create_trigger("d", "die", "die.py", "table:fatal", json!({}))
            .await;
        server.write("d", "fatal v=13 1").await;
        let failed = async || {
            let log = server.plugin_log("d", "die").await;
            (log.iter()
                .any(|line| line.starts_with("ERROR: error executing wal plugin: "))
                && log.iter().any(|line| line.contains(trace)))
            .then_some(())
        };
        eventually(&format!("{name}: the run counts as failed"), failed).await;
        everything_works(&server, 1).await;
        server.write("d", "fatal v=1 2").await;
        let survived = async || {
            server
                .plugin_log("d", "die")
                .await
                .contains(&"INFO: survived".to_owned())
                .then_some(())
        };
        eventually(&format!("{name}: a new process runs the next batch"), survived).await;
    }
}

#[tokio::test]
async fn a_request_to_a_dying_plugin_is_answered() {
    let server = with_neighbour().await;
    server.put_plugin(
        "die.py",
        "import os\ndef process_request(l, q, *a):\n    if 'die' in q: os._exit(1)\n    return 'alive'\n",
    );
    server
        .create_trigger("d", "die", "die.py", "request:die", json!({}))
        .await;
    assert_eq!(server.get("/api/v3/engine/die").await.text(), "alive");
    assert_eq!(server.get("/api/v3/engine/die?die=1").await.status, 500);
    let back = async || (server.get("/api/v3/engine/die").await.text() == "alive").then_some(());
    eventually("the plugin answers again", back).await;
    everything_works(&server, 1).await;
}

#[tokio::test]
async fn no_process_outlives_the_server() {
    let mut server = with_neighbour().await;
    server.put_plugin(
        "pid.py",
        "import os\ndef process_request(*a): return str(os.getpid())\n",
    );
    server
        .create_trigger("d", "pid", "pid.py", "request:pid", json!({}))
        .await;
    let pid = server.get("/api/v3/engine/pid").await.text();
    let process = std::path::PathBuf::from(format!("/proc/{pid}/stat"));
    assert!(process.exists());
    server.kill();
    let gone = async || {
        // A killed process whose new parent has not collected it yet is gone for our purposes.
        let state = std::fs::read_to_string(&process).ok();
        state.is_none_or(|stat| stat.contains(") Z ")).then_some(())
    };
    eventually("the worker is gone", gone).await;
}

#[tokio::test]
async fn output_of_a_plugin_is_in_its_log() {
    let server = with_neighbour().await;
    server.put_plugin("print.py", "import sys\ndef process_request(*a):\n    print('to stdout')\n    print('to stderr', file=sys.stderr)\n    return 'done'\n");
    server
        .create_trigger("d", "print", "print.py", "request:print", json!({}))
        .await;
    assert_eq!(server.get("/api/v3/engine/print").await.text(), "done");
    let logged = async || {
        let log = server.plugin_log("d", "print").await;
        (log.contains(&"INFO: to stdout".to_owned()) && log.contains(&"WARN: to stderr".to_owned()))
            .then_some(())
    };
    eventually("both lines are logged", logged).await;
}
