//! Scheduled triggers (`spec/engine.md` 1.3, 1.4, 2.4).

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tidemill_testkit::{ServerOptions, TestServer, eventually};

use crate::{PROGRAM, server};

#[tokio::test]
async fn every_and_cron_call_at_their_instants() {
    let server = server().await;
    server.put_plugin(
        "tick.py",
        "import datetime\n\
         def process_scheduled_call(influxdb3_local, call_time, args=None):\n    \
             assert isinstance(call_time, datetime.datetime) and call_time.tzinfo is None\n    \
             influxdb3_local.write(LineBuilder('ticks').tag('by', influxdb3_local.trigger_name)\n        \
             .int64_field('us', call_time.microsecond).string_field('at', call_time.isoformat()))\n",
    );
    server.create_database("d").await;
    server
        .create_trigger("d", "fast", "tick.py", "every:100ms", json!({}))
        .await;
    server
        .create_trigger("d", "cron", "tick.py", "cron:* * * * * *", json!({}))
        .await;
    let sql = "SELECT by, count(*) AS n FROM ticks GROUP BY by ORDER BY by";
    let ticked = async || {
        let rows = server.try_query("d", sql).await.json();
        let count = |by: &str| rows.as_array()?.iter().find(|row| row["by"] == by)?["n"].as_u64();
        (count("cron") >= Some(2) && count("fast") >= Some(10)).then_some(())
    };
    eventually("both have ticked", ticked).await;
    let off = "SELECT count(*) AS n FROM ticks WHERE us % 100000 <> 0 OR (by = 'cron' AND us <> 0)";
    assert_eq!(server.query("d", off).await, [json!({"n": 0})]);
    let twice = "SELECT by, at, count(*) AS n FROM ticks GROUP BY by, at HAVING count(*) > 1";
    assert_eq!(server.query("d", twice).await, Vec::<serde_json::Value>::new());
    let log = server.plugin_log("d", "cron").await;
    assert!(
        log.iter()
            .any(|line| line.starts_with("INFO: starting execution with scheduled time 20")),
        "{log:#?}"
    );
}

#[tokio::test]
async fn specifications_that_make_no_sense_are_refused() {
    let server = server().await;
    server.put_plugin(
        "tick.py",
        "def process_scheduled_call(influxdb3_local, call_time, args=None): pass\n",
    );
    server.create_database("d").await;
    for (specification, expected) in [
        ("every:0s", "failed to parse trigger from every:0s"),
        ("every:500us", "failed to parse trigger from every:500us"),
        (
            "every:nonsense",
            "failed to parse trigger from every:nonsense: couldn't parse to duration",
        ),
        (
            "every:2years",
            "failed to parse trigger from every:2years: don't support every schedules of over 1 year",
        ),
        (
            "table:",
            "failed to parse trigger from table:: table name is empty",
        ),
        ("cron:whenever", "failed to parse trigger from cron:whenever"),
        (
            "sometimes",
            "failed to parse trigger from sometimes: expect one of the following forms: 'table:<TABLE_NAME>', 'all_tables', \
             'cron:<CRON_EXPRESSION>', 'every:<DURATION>', or 'request:<PATH>'",
        ),
    ] {
        let body = json!({
            "db": "d", "trigger_name": "t", "plugin_filename": "tick.py", "trigger_specification": specification, "disabled": false,
        });
        let answer = server
            .post_json("/api/v3/configure/processing_engine_trigger", &body)
            .await;
        assert_eq!(answer.status, 400, "{specification}: {}", answer.text());
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.starts_with(expected), "{specification}: {error}");
    }
}

#[tokio::test]
async fn what_passes_while_the_server_is_down_is_caught_up_where_that_is_set() {
    let options = ServerOptions {
        arguments: vec!["--catch-up".to_owned(), "all".to_owned()],
        ..ServerOptions::default()
    };
    let mut server = TestServer::start_with(PROGRAM, options).await;
    // Two of three runs write nothing.
    server.put_plugin(
        "tick.py",
        "import datetime\n\
         def process_scheduled_call(influxdb3_local, call_time, args=None):\n    \
             second = int(call_time.replace(tzinfo=datetime.timezone.utc).timestamp())\n    \
             if second % 3 == 0: influxdb3_local.write(LineBuilder('ticks').int64_field('second', second))\n",
    );
    server.create_database("d").await;
    server
        .create_trigger("d", "tick", "tick.py", "every:1s", json!({}))
        .await;
    let ticks = async |server: &TestServer| {
        let sql = "SELECT second FROM ticks ORDER BY time";
        let rows = server.try_query("d", sql).await.json();
        let rows = rows.as_array().cloned().unwrap_or_default();
        let seconds = rows.iter().filter_map(|row| row["second"].as_u64());
        seconds.collect::<Vec<u64>>()
    };
    let has_ticked = async || (!ticks(&server).await.is_empty()).then_some(());
    eventually("it ticks", has_ticked).await;
    server.kill();
    let killed = now_s();
    // The time without a server is what is tested: more than a whole period of what is written.
    eventually("some seconds pass", async || (now_s() > killed + 4).then_some(())).await;
    server.restart().await;
    let restarted = now_s();
    let caught_up = async || {
        let ticks = ticks(&server).await;
        ticks.iter().any(|tick| *tick >= restarted).then_some(ticks)
    };
    let ticks = eventually("it has caught up", caught_up).await;
    assert!(
        ticks.windows(2).all(|two| two[1] - two[0] == 3),
        "each instant once, in order: {ticks:?}"
    );
    assert_eq!(server.stop().await, 0, "{}", server.log());
}

fn now_s() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.expect("the clock is not before 1970").as_secs()
}
