//! What a plugin may take: memory, output, log. Whatever it tries, everything else goes on.

use serde_json::{Value, json};
use tidemill_testkit::{ServerOptions, TestServer, eventually};

use crate::isolation::{add_neighbours, everything_works, has_started};
use crate::{PROGRAM, server};

async fn server_with(arguments: &[&str]) -> TestServer {
    let options = ServerOptions {
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        ..ServerOptions::default()
    };
    let server = TestServer::start_with(PROGRAM, options).await;
    add_neighbours(&server).await;
    server
}

/// Waits until the log of a trigger of `d` has a line that `wanted` accepts.
async fn logged(server: &TestServer, trigger: &str, what: &str, wanted: impl Fn(&str) -> bool) {
    let found = async || {
        let log = server.plugin_log("d", trigger).await;
        log.iter().any(|line| wanted(line)).then_some(())
    };
    eventually(what, found).await;
}

/// The most memory that a process has had, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kibibytes: u64 = kibibytes
        .and_then(|text| text.trim().parse().ok())
        .expect("a number of kB");
    kibibytes * 1024
}

#[tokio::test]
async fn four_gibibytes_are_refused_or_end_the_process_and_nothing_else() {
    let server = server_with(&["--memory-limit", "256MB"]).await;
    server.put_plugin(
        "hog.py",
        "def process_writes(influxdb3_local, table_batches, args=None):\n    \
             way = table_batches[0]['rows'][0]['way']\n    \
             if way == 1:\n        bytearray(4 << 30)\n    \
             if way == 2:\n        [b'x' * (1 << 20) for _ in range(4 << 10)]\n    \
             if way == 3:\n        held = b'x'\n        while len(held) < 4 << 30: held += held\n    \
             influxdb3_local.info('survived')\n",
    );
    server
        .create_trigger("d", "hog", "hog.py", "table:hog", json!({}))
        .await;
    for way in 1..=3 {
        server.write("d", &format!("hog way={way}i {way}")).await;
        everything_works(&server, way).await;
        let failures = async || {
            let log = server.plugin_log("d", "hog").await;
            let is_failure = |line: &&String| {
                line.starts_with("ERROR: error executing wal plugin: ")
                    && (line.contains("exceeded its memory limit of 256MiB") || line.contains("MemoryError"))
            };
            (log.iter().filter(is_failure).count() as i64 == way).then_some(())
        };
        eventually(&format!("way {way} fails"), failures).await;
    }
    server.write("d", "hog way=0i 9").await;
    logged(&server, "hog", "the next run", |line| line == "INFO: survived").await;
}

#[tokio::test]
async fn a_trigger_may_have_a_memory_limit_of_its_own() {
    let server = server_with(&[]).await;
    server.put_plugin(
        "hog.py",
        "def process_request(*a):\n    held = [b'x' * (1 << 20) for _ in range(1 << 10)]\n    return 'enough'\n",
    );
    for (name, settings) in [("small", json!({"memory_limit": "128MB"})), ("usual", json!({}))] {
        let settings = json!({ "trigger_settings": settings });
        let path = format!("request:{name}");
        server.create_trigger("d", name, "hog.py", &path, settings).await;
    }
    let answer = server.get("/api/v3/engine/small").await;
    assert_eq!(answer.status, 500);
    let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
    assert_eq!(error, "the plugin's process exceeded its memory limit of 128MiB");
    let answer = server.get("/api/v3/engine/usual").await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "enough"),
        "{}",
        answer.text()
    );
}

/// Gives back a gigabyte in every way there is.
const FLOOD: &str = r#"
def attempt(action, *args):
    try:
        action(*args)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def process_request(influxdb3_local, query_parameters, *a):
    if query_parameters["way"] == "text":
        return "x" * 1_000_000_000
    lines = "flood v=1 1\n" * (1_000_000_000 // 12)
    influxdb3_local.info(lines)
    return {
        "write": attempt(influxdb3_local.write, lines),
        "write_sync": attempt(influxdb3_local.write_sync, lines, True),
        "small write": attempt(influxdb3_local.write, "kept v=1 1"),
    }
"#;

#[tokio::test]
async fn a_gigabyte_of_output_is_an_error_of_its_run() {
    let server = server_with(&["--output-limit", "4MB"]).await;
    server.put_plugin("flood.py", FLOOD);
    server
        .create_trigger("d", "flood", "flood.py", "request:flood", json!({}))
        .await;
    let limit = 4 << 20;
    let answer = server.get("/api/v3/engine/flood?way=text").await;
    assert_eq!(answer.status, 500);
    let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        error,
        format!(
            "the run exceeds the trigger's output limit of {limit} bytes: its answer has 1000000000, the lines that it \
             writes have 0"
        )
    );
    everything_works(&server, 1).await;
    let answer = server.get("/api/v3/engine/flood?way=writes").await;
    assert_eq!(
        answer.json(),
        json!({
            "write": format!("ValueError: the run exceeds the trigger's output limit of {limit} bytes"),
            "write_sync": format!("ValueError: the write exceeds the trigger's output limit of {limit} bytes"),
            "small write": Value::Null,
        })
    );
    assert_eq!(server.query("d", "SELECT v FROM kept").await, [json!({"v": 1.0})]);
    logged(&server, "flood", "the long line is cut", |line| {
        line.ends_with(" more bytes)")
    })
    .await;
    // One process has answered all of it.
    let log = server.plugin_log("d", "flood").await;
    assert!(
        !log.iter().any(|line| line.contains("the plugin's process")),
        "{log:#?}"
    );
    let peak = peak_memory(server.pid());
    assert!(peak < 512 << 20, "the server had {} MiB", peak >> 20);
}

#[tokio::test]
async fn ten_million_lines_of_log_drown_nobody() {
    let server = server_with(&[]).await;
    server.put_plugin(
        "loud.py",
        "def process_scheduled_call(influxdb3_local, call_time, args=None):\n    \
             for number in range(5_000_000):\n        influxdb3_local.info('line', number)\n        print('line', number)\n    \
             influxdb3_local.info('all of it is said')\n",
    );
    server
        .create_trigger("d", "loud", "loud.py", "every:1s", json!({}))
        .await;
    has_started(&server, "loud").await;
    for time in 1..8 {
        everything_works(&server, time).await;
    }
    let log = server.plugin_log("d", "loud").await;
    let kept_bytes: usize = log.iter().map(String::len).sum();
    assert!(kept_bytes < 8 << 20, "{kept_bytes} bytes are kept");
    let neighbours = server.plugin_log("d", "mirror").await;
    assert!(!neighbours.is_empty(), "the neighbours' lines are still there");
    let disable = "/api/v3/configure/processing_engine_trigger/disable?db=d&trigger_name=loud";
    assert_eq!(server.post(disable, "").await.status, 200);
    let peak = peak_memory(server.pid());
    assert!(peak < 1 << 30, "the server had {} MiB", peak >> 20);
}

#[tokio::test]
async fn limits_that_cannot_be_are_refused() {
    let server = server().await;
    server.create_database("d").await;
    server.put_plugin("p.py", "def process_request(*a): return ''\n");
    for (settings, expected) in [
        (
            json!({"output_limit": "1GB"}),
            "an output limit of 1GiB is more than the 256MiB that there may be",
        ),
        (json!({"memory_limit": "much"}), "'much' is not a size"),
        (json!({"run_timeout": "0s"}), "a time limit must not be zero"),
        (json!({"catch_up": "some"}), "some"),
        (json!({"async_concurrency_limit": 0}), "nonzero"),
    ] {
        let body = json!({
            "db": "d", "trigger_name": "t", "plugin_filename": "p.py", "trigger_specification": "request:p",
            "trigger_settings": settings, "disabled": false,
        });
        let answer = server
            .post_json("/api/v3/configure/processing_engine_trigger", &body)
            .await;
        assert_eq!(answer.status, 400, "{settings}: {}", answer.text());
        assert!(answer.text().contains(expected), "{settings}: {}", answer.text());
    }
}
