//! Data-write triggers: what they are given, and what becomes of what they write (`spec/engine.md` 2.3, 5).

use serde_json::json;
use tidemill_testkit::eventually;

use crate::server;

/// Writes one row a source row into `copies`, leaving out its own output.
const COPY: &str = r#"
def process_writes(influxdb3_local, table_batches, args=None):
    for batch in table_batches:
        if batch["table_name"] == "copies":
            continue
        for row in batch["rows"]:
            line = LineBuilder("copies").tag("source", batch["table_name"]).int64_field("v", row["v"])
            line.time_ns(row["time"])
            influxdb3_local.write(line)
"#;

#[tokio::test]
async fn every_row_reaches_the_plugin_and_its_rows_the_table() {
    let server = server().await;
    server.put_plugin("copy.py", COPY);
    server.create_database("d").await;
    server
        .create_trigger("d", "copy", "copy.py", "all_tables", json!({}))
        .await;
    for row in 0..50 {
        server
            .write("d", &format!("a v={row}i {row}\nb v={row}i {row}"))
            .await;
    }
    let copied = async || {
        let sql = "SELECT source, count(*) AS n, sum(v) AS sum FROM copies GROUP BY source ORDER BY source";
        let answer = server.try_query("d", sql).await;
        let expected = json!([{"source": "a", "n": 50, "sum": 1225}, {"source": "b", "n": 50, "sum": 1225}]);
        (answer.status == 200 && answer.json() == expected).then_some(())
    };
    eventually("all rows are copied", copied).await;
    let log = server.plugin_log("d", "copy").await;
    assert!(log.iter().all(|line| line.starts_with("INFO: ")), "{log:#?}");
    assert!(
        log.contains(&"INFO: starting execution of wal plugin.".to_owned()),
        "{log:#?}"
    );
    assert!(
        log.iter()
            .any(|line| line.starts_with("INFO: finished execution in ")),
        "{log:#?}"
    );
}

#[tokio::test]
async fn rows_have_the_values_and_the_order_of_the_line() {
    let server = server().await;
    server.put_plugin(
        "show.py",
        "def process_writes(influxdb3_local, table_batches, args=None):\n    \
             assert isinstance(table_batches, list) and args == {'k': 'v,w'}, args\n    \
             for batch in table_batches:\n        \
                 assert isinstance(batch, dict) and isinstance(batch['rows'], list)\n        \
                 influxdb3_local.info(batch['table_name'], batch['rows'])\n",
    );
    server.create_database("d").await;
    let arguments = json!({"trigger_arguments": {"k": "v,w"}});
    server
        .create_trigger("d", "show", "show.py", "table:m", arguments)
        .await;
    server.write("d", "other x=1 1").await;
    server
        .write("d", "m,z=tag,a=\\ b f=1.5,i=-3i,u=7u,s=\"text\",b=t 42\nm x=2 43")
        .await;
    let expected = "INFO: m [{'z': 'tag', 'a': ' b', 'f': 1.5, 'i': -3, 'u': 7, 's': 'text', 'b': True, 'time': 42}, {'x': 2.0, 'time': 43}]";
    let logged = async || {
        server
            .plugin_log("d", "show")
            .await
            .contains(&expected.to_owned())
            .then_some(())
    };
    eventually("the rows are logged", logged).await;
    let log = server.plugin_log("d", "show").await;
    assert!(
        !log.iter()
            .any(|line| line.contains("other") || line.starts_with("ERROR")),
        "{log:#?}"
    );
}

#[tokio::test]
async fn a_failing_run_is_logged_and_the_next_one_runs() {
    let server = server().await;
    server.put_plugin(
        "fail.py",
        "def process_writes(influxdb3_local, table_batches, args=None):\n    \
             v = table_batches[0]['rows'][0]['v']\n    \
             influxdb3_local.write(LineBuilder('out').float64_field('v', v))\n    \
             if v < 0:\n        raise ValueError(f'negative: {v}')\n",
    );
    server.create_database("d").await;
    server
        .create_trigger("d", "fail", "fail.py", "table:m", json!({}))
        .await;
    server.write("d", "m v=-1 1").await;
    let failed = "ERROR: error executing wal plugin: ValueError: negative: -1.0";
    let logged = async || {
        server
            .plugin_log("d", "fail")
            .await
            .iter()
            .any(|line| line.starts_with(failed))
            .then_some(())
    };
    eventually("the failure is logged", logged).await;
    server.write("d", "m v=5 2").await;
    let written = async || {
        (server.try_query("d", "SELECT v FROM out").await.json() == json!([{"v": 5.0}])).then_some(())
    };
    eventually("only what the good run wrote is there", written).await;
}

#[tokio::test]
async fn retry_repeats_the_batch_until_it_succeeds() {
    let server = server().await;
    let flag = server.plugin_dir().join("go");
    server.put_plugin(
        "retry.py",
        &format!(
            "import os\ndef process_writes(influxdb3_local, table_batches, args=None):\n    \
             if not os.path.exists({flag:?}):\n        raise RuntimeError('not yet')\n    \
             for row in table_batches[0]['rows']:\n        \
             influxdb3_local.write(LineBuilder('out').float64_field('v', row['v']).time_ns(row['time']))\n"
        ),
    );
    server.create_database("d").await;
    let settings = json!({"trigger_settings": {"run_async": false, "error_behavior": "retry"}});
    server
        .create_trigger("d", "retry", "retry.py", "table:m", settings)
        .await;
    server.write("d", "m v=1 1").await;
    server.write("d", "m v=2 2").await;
    std::fs::write(&flag, "").unwrap();
    let written = async || {
        let rows = server.try_query("d", "SELECT v FROM out ORDER BY time").await;
        (rows.json() == json!([{"v": 1.0}, {"v": 2.0}])).then_some(())
    };
    eventually("both batches are there once, in order", written).await;
}

#[tokio::test]
async fn asynchronous_runs_overlap() {
    let server = server().await;
    // Each run waits until another one is running too.
    server.put_plugin(
        "meet.py",
        "import threading\nbarrier = threading.Barrier(2)\n\
         def process_writes(influxdb3_local, table_batches, args=None):\n    \
             barrier.wait(20)\n    influxdb3_local.info('met')\n",
    );
    server.create_database("d").await;
    let settings = json!({"trigger_settings": {"run_async": true, "error_behavior": "log"}});
    server
        .create_trigger("d", "meet", "meet.py", "table:m", settings)
        .await;
    server.write("d", "m v=1 1").await;
    let started = async || {
        let log = server.plugin_log("d", "meet").await;
        log.iter()
            .any(|line| line.contains("starting execution"))
            .then_some(())
    };
    eventually("the first run has started", started).await;
    server.write("d", "m v=2 2").await;
    let met = async || {
        (server
            .plugin_log("d", "meet")
            .await
            .iter()
            .filter(|line| *line == "INFO: met")
            .count()
            == 2)
            .then_some(())
    };
    eventually("both runs have met", met).await;
}

#[tokio::test]
async fn a_write_that_does_not_fit_makes_the_run_fail() {
    let server = server().await;
    server.put_plugin(
        "bad.py",
        "def process_writes(influxdb3_local, table_batches, args=None):\n    \
             influxdb3_local.write(LineBuilder('m').string_field('v', 'text'))\n",
    );
    server.create_database("d").await;
    server
        .create_trigger("d", "bad", "bad.py", "table:m", json!({}))
        .await;
    server.write("d", "m v=1 1").await;
    let failed = async || {
        let log = server.plugin_log("d", "bad").await;
        log.iter()
            .any(|line| line.starts_with("ERROR: ") && line.contains("invalid column type for column 'v'"))
            .then_some(())
    };
    eventually("the failed write is logged", failed).await;
}
