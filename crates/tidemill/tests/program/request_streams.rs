//! Request triggers whose answers leave while they are made, and clients that leave before they have one
//! (`spec/engine.md` 0.14, 0.27).

use serde_json::json;
use tidemill_testkit::{TestServer, eventually};

use crate::server;

const STREAMS: &str = r#"
import threading
import time

go_on = threading.Event()
made = 0


def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    form = query_parameters["form"]
    if form == "go":
        go_on.set()
        return "gone"
    if form == "made":
        return str(made)
    if form == "sleep":
        return sleep(influxdb3_local)
    return globals()[form](influxdb3_local), 200, {"Content-Type": "text/event-stream"}


def events(influxdb3_local):
    try:
        number = 0
        while True:
            yield f"data: {number}\n\n"
            assert go_on.wait(30)
            go_on.clear()
            number += 1
    finally:
        influxdb3_local.info("events closed")


async def endless(influxdb3_local):
    import asyncio

    try:
        yield "begun"
        await asyncio.sleep(600)
    finally:
        influxdb3_local.info("endless closed")


def written(influxdb3_local):
    influxdb3_local.write("derived v=1 1")
    yield "a"
    influxdb3_local.write("derived v=2 2")
    yield "b"


def broken(influxdb3_local):
    influxdb3_local.write("derived v=3 3")
    yield "a"
    raise KeyError("in the middle")


def early(influxdb3_local):
    raise KeyError("before the first item")
    yield "a"


def large(influxdb3_local):
    global made
    try:
        for _ in range(4096):
            made += 1
            yield b"x" * 65536
    finally:
        influxdb3_local.info("large closed")


def sleep(influxdb3_local):
    influxdb3_local.write_sync("kept v=1 1", no_sync=False)
    influxdb3_local.write("lost v=1 1")
    influxdb3_local.info("asleep")
    try:
        for _ in range(60_000):
            time.sleep(0.01)
    finally:
        influxdb3_local.info("awake")
    return "slept"
"#;

async fn with_streams(run_async: bool) -> TestServer {
    let server = server().await;
    server.put_plugin("streams.py", STREAMS);
    server.create_database("d").await;
    let settings = json!({"trigger_settings": {"run_async": run_async}});
    server
        .create_trigger("d", "streams", "streams.py", "request:streams", settings)
        .await;
    server
}

fn path(form: &str) -> String {
    format!("/api/v3/engine/streams?form={form}")
}

/// The answer to a request, with its body still to be read.
async fn open(server: &TestServer, form: &str) -> reqwest::Response {
    let request = server.request(reqwest::Method::GET, &path(form));
    request.send().await.expect("the head of the answer")
}

async fn logged(server: &TestServer, line: &str) {
    let logged = async || {
        let log = server.plugin_log("d", "streams").await;
        log.iter().any(|logged| logged == line).then_some(())
    };
    eventually(&format!("'{line}' is logged"), logged).await;
}

#[tokio::test]
async fn events_come_one_by_one_and_end_when_the_client_leaves() {
    let server = with_streams(true).await;
    let mut events = open(&server, "events").await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    for number in 0..3 {
        // The next one is not made before this one has arrived.
        let event = events.chunk().await.expect("an event").expect("more of them");
        assert_eq!(event, format!("data: {number}\n\n"));
        assert_eq!(server.get(&path("go")).await.text(), "gone");
    }
    let mut endless = open(&server, "endless").await;
    assert_eq!(endless.chunk().await.unwrap().unwrap(), "begun");
    drop((events, endless));
    logged(&server, "INFO: events closed").await;
    logged(&server, "INFO: endless closed").await;
    let left = "INFO: the client left before the answer was complete; the run was ended.";
    logged(&server, left).await;
}

#[tokio::test]
async fn what_a_stream_writes_is_there_at_its_end_or_never() {
    let server = with_streams(false).await;
    let answer = open(&server, "written").await;
    assert_eq!(answer.text().await.unwrap(), "ab");
    let rows = async || server.query("d", "SELECT v FROM derived ORDER BY v").await;
    assert_eq!(rows().await, [json!({"v": 1.0}), json!({"v": 2.0})]);

    // The connection breaks, perhaps before the first part has left.
    let broken = server.request(reqwest::Method::GET, &path("broken")).send();
    let whole = async { broken.await?.text().await };
    let error = whole.await.expect_err("the part is not taken for the whole");
    assert!(
        error.is_body() || error.is_decode() || error.is_request(),
        "{error:?}"
    );
    assert_eq!(rows().await.len(), 2);
    let log = server.plugin_log("d", "streams").await;
    let traceback = log.last().expect("a log");
    assert!(
        traceback.contains("streams.py\", line") && traceback.ends_with("KeyError: 'in the middle'"),
        "{log:#?}"
    );
    let answer = server.get(&path("early")).await;
    assert_eq!(
        (answer.status, answer.json()),
        (500, json!({"error": "KeyError: 'before the first item'"}))
    );
    // A dry run shows the items together, also of what fails.
    let test = json!({"filename": "streams.py", "database": "d", "query_parameters": {"form": "broken"}});
    let report = server
        .post_json("/api/v3/plugin_test/request", &test)
        .await
        .json();
    assert_eq!(report["response"]["body"], "a", "{report}");
    assert_eq!(
        report["errors"],
        json!(["error executing plugin: KeyError: 'in the middle'"])
    );
    let test = json!({"filename": "streams.py", "database": "d", "query_parameters": {"form": "large"}});
    let report = server
        .post_json("/api/v3/plugin_test/request", &test)
        .await
        .json();
    assert_eq!(report["response"]["body"].as_str().map(str::len), Some(1 << 20));
    let error = report["errors"][0].as_str().unwrap();
    assert!(
        error.ends_with("more than the 1048576 bytes that a dry run shows"),
        "{error}"
    );
}

#[tokio::test]
async fn a_client_that_takes_nothing_stops_the_generator() {
    let server = with_streams(true).await;
    let mut large = open(&server, "large").await;
    large.chunk().await.unwrap().unwrap();
    let mut before = (0, 0);
    let stands_still = async || {
        let made: u32 = server.get(&path("made")).await.text().parse().expect("a number");
        before = if made == before.0 {
            (made, before.1 + 1)
        } else {
            (made, 0)
        };
        (before.1 == 20).then_some(made)
    };
    let made = eventually("the generator waits for its client", stands_still).await;
    // A window of a megabyte, and what the two ends of the connection hold.
    assert!(made < 1024, "{made} of 4096 items were made for nobody");
    let mut bytes = 0;
    while bytes < 100 << 20 {
        bytes += large.chunk().await.unwrap().expect("more").len();
    }
    drop(large);
    logged(&server, "INFO: large closed").await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_run() {
    let server = with_streams(false).await;
    let ask = |form| tokio::spawn(server.request(reqwest::Method::GET, &path(form)).send());
    let sleeping = ask("sleep");
    logged(&server, "INFO: asleep").await;
    // The second waits behind the first, and has not begun when its client leaves.
    let waiting = ask("written");
    let both_are_there = async || {
        let sql = "SELECT runs_in_flight FROM system.processing_engine_trigger_status";
        (server.query("d", sql).await == [json!({"runs_in_flight": 2})]).then_some(())
    };
    eventually("both requests are there", both_are_there).await;
    for client in [sleeping, waiting] {
        client.abort();
    }
    logged(&server, "INFO: awake").await;
    assert_eq!(server.get(&path("made")).await.text(), "0");
    assert_eq!(server.query("d", "SELECT v FROM kept").await, [json!({"v": 1.0})]);
    let tables = server.query("d", "SHOW TABLES").await;
    let names: Vec<&str> = tables
        .iter()
        .filter_map(|table| table["table_name"].as_str())
        .collect();
    assert!(
        !names.contains(&"lost") && !names.contains(&"derived"),
        "{names:?}"
    );
    let log = server.plugin_log("d", "streams").await;
    assert!(log.iter().all(|line| line.starts_with("INFO")), "{log:#?}");
}
