//! Disabling, updating, deleting and stopping take seconds, whatever the plugin does (`spec/engine.md` 0.10, 0.14).

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tidemill_testkit::{TestServer, eventually};

use crate::isolation::{everything_works, has_started, with_neighbour};

const TRIGGER: &str = "/api/v3/configure/processing_engine_trigger";
/// Two grace periods are four seconds; the rest is for a busy machine.
const SECONDS: Duration = Duration::from_secs(10);

/// Loops in C that never give the interpreter lock back, and never look for a signal.
const HOLD: &str = "import itertools\ndef process_writes(*a):\n    sum(itertools.repeat(0))\n";

async fn create_and_start(server: &TestServer, name: &str, plugin: &str, time: i64) {
    server
        .create_trigger("d", name, plugin, "table:m", json!({}))
        .await;
    everything_works(server, time).await;
    has_started(server, name).await;
}

async fn in_seconds<T>(what: &str, action: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let value = action.await;
    assert!(began.elapsed() < SECONDS, "{what} took {:?}", began.elapsed());
    value
}

async fn disable(server: &TestServer, trigger: &str) -> u16 {
    let path = format!("{TRIGGER}/disable?db=d&trigger_name={trigger}");
    in_seconds("disable", server.post(&path, "")).await.status
}

#[tokio::test]
async fn a_loop_that_holds_the_interpreter_lock_stops_nothing() {
    let mut server = with_neighbour().await;
    server.put_plugin("hold.py", HOLD);
    create_and_start(&server, "disabled", "hold.py", 1).await;
    assert_eq!(disable(&server, "disabled").await, 200);
    everything_works(&server, 2).await;

    create_and_start(&server, "updated", "hold.py", 3).await;
    server.put_plugin(
        "log.py",
        "def process_writes(influxdb3_local, *a):\n    influxdb3_local.info('updated')\n",
    );
    let change = json!({"db": "d", "trigger_name": "updated", "plugin_filename": "log.py"});
    let update = server.send(server.request(Method::PUT, TRIGGER).json(&change));
    assert_eq!(in_seconds("update", update).await.status, 200);
    everything_works(&server, 4).await;
    let runs = async || {
        let log = server.plugin_log("d", "updated").await;
        log.contains(&"INFO: updated".to_owned()).then_some(())
    };
    eventually("the updated trigger runs", runs).await;

    create_and_start(&server, "deleted", "hold.py", 5).await;
    let path = format!("{TRIGGER}?db=d&trigger_name=deleted&force=true");
    let delete = server.send(server.request(Method::DELETE, &path));
    assert_eq!(in_seconds("delete", delete).await.status, 200);
    everything_works(&server, 6).await;

    create_and_start(&server, "first", "hold.py", 7).await;
    create_and_start(&server, "second", "hold.py", 8).await;
    assert_eq!(in_seconds("stop", server.stop()).await, 0, "{}", server.log());
}

#[tokio::test]
async fn a_plugin_that_loops_while_it_is_loaded_can_be_disabled() {
    let mut server = with_neighbour().await;
    server.put_plugin("load.py", "import itertools\nsum(itertools.repeat(0))\n");
    server
        .create_trigger("d", "load", "load.py", "table:m", json!({}))
        .await;
    everything_works(&server, 1).await;
    assert_eq!(disable(&server, "load").await, 200);
    assert_eq!(in_seconds("stop", server.stop()).await, 0, "{}", server.log());
}

#[tokio::test]
async fn a_trigger_is_disabled_during_a_long_run_while_tables_are_created() {
    let server = with_neighbour().await;
    server.put_plugin(
        "slow.py",
        "import time\ndef process_writes(*a):\n    time.sleep(60)\n",
    );
    create_and_start(&server, "slow", "slow.py", 1).await;
    let create = async {
        let mut slowest = Duration::ZERO;
        for number in 0..50 {
            let began = Instant::now();
            let body = json!({"db": "d", "table": format!("made_{number}"), "tags": ["site"]});
            let answer = server.post_json("/api/v3/configure/table", &body).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            server.write("d", &format!("written_{number} v=1 1")).await;
            slowest = slowest.max(began.elapsed());
        }
        assert!(slowest < Duration::from_secs(5), "a table took {slowest:?}");
    };
    let (status, ()) = tokio::join!(disable(&server, "slow"), create);
    assert_eq!(status, 200);
    everything_works(&server, 2).await;
}

#[tokio::test]
async fn a_module_that_does_not_load_is_tried_again_and_not_given_up() {
    let server = with_neighbour().await;
    server.put_plugin("broken.py", "import a_module_that_nobody_has\n");
    server
        .create_trigger("d", "broken", "broken.py", "table:broken", json!({}))
        .await;
    let failed = async |count: usize| {
        let log = server.plugin_log("d", "broken").await;
        let is_failure =
            |line: &&String| line.starts_with("ERROR: error executing wal plugin: ModuleNotFoundError");
        (log.iter().filter(is_failure).count() >= count).then_some(())
    };
    // More often than a process may die.
    for time in 1..=12 {
        server.write("d", &format!("broken v={time} {time}")).await;
        eventually("the run fails", async || failed(time).await).await;
    }
    everything_works(&server, 1).await;
    let sql = "SELECT disabled FROM system.processing_engine_triggers WHERE trigger_name = 'broken'";
    assert_eq!(server.query("d", sql).await, [json!({"disabled": false})]);
    server.put_plugin(
        "broken.py",
        "def process_writes(influxdb3_local, *a):\n    influxdb3_local.info('mended')\n",
    );
    server.write("d", "broken v=1 100").await;
    let mended = async || {
        let log = server.plugin_log("d", "broken").await;
        log.contains(&"INFO: mended".to_owned()).then_some(())
    };
    eventually("the mended module runs", mended).await;
}

#[tokio::test]
async fn a_process_that_is_killed_from_outside_comes_back() {
    let server = with_neighbour().await;
    server.put_plugin(
        "pid.py",
        "import os\ndef process_request(*a): return str(os.getpid())\n",
    );
    server
        .create_trigger("d", "pid", "pid.py", "request:pid", json!({}))
        .await;
    let pid = async || {
        let answer = server.get("/api/v3/engine/pid").await;
        (answer.status == 200).then(|| answer.text())
    };
    let mut before = eventually("it answers", pid).await;
    for time in 1..=3 {
        let number = before.parse().expect("a process id");
        let process = rustix::process::Pid::from_raw(number).expect("not zero");
        rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("it runs");
        everything_works(&server, time).await;
        let other = async || pid().await.filter(|now| *now != before);
        before = eventually("another process answers", other).await;
    }
}
