//! A data-write plugin that looks at every row: how fast it works off a backlog.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{FIRST_ANSWER_LIMIT, Findings, Plugin, Trigger, ingest, wait_until, with_triggers};
use crate::bench::BenchOptions;
use crate::bench::load::CpuLoad;
use crate::bench::measure::Measure;
use crate::bench::subject::Subject;
use crate::failure::Failure;

const ROWS_MAX: usize = 300_000;
const LIMIT: Duration = Duration::from_mins(2);
const LOOK_PAUSE: Duration = Duration::from_millis(5);

pub(super) async fn measure(subject: &mut Subject, options: &BenchOptions) -> Result<Findings, Failure> {
    let database = subject.engine.clone();
    let table = subject.new_table("walk");
    let (release, progress) = (format!("{table}_release"), format!("{table}_progress"));
    let trigger = Trigger {
        database: &database,
        name: "walk",
        plugin: Plugin::Walk,
        specification: &format!("table:{table}"),
        arguments: json!({ "table": table, "release": release, "progress": progress }),
    };
    with_triggers(subject, &[trigger], async |subject| {
        // One row makes the first run begin, which then waits; the backlog is written behind it.
        subject
            .api
            .write(
                &database,
                &format!("{table},hostname=first usage_user=0.5,usage_system=0.5 1"),
            )
            .await?;
        until_plugin_waits(subject, &release).await?;
        let load = CpuLoad {
            rows: (options.rows as usize).min(ROWS_MAX),
            ..options.load()
        }
        .render(&table);
        let rows = load.rows;
        ingest::write_all(subject.api.endpoint(), &database, load).await?;

        let released = Instant::now();
        subject
            .api
            .write(&database, &format!("{release} go=true 1"))
            .await?;
        let in_plugin_s = until_walked(subject, &progress, rows as u64 + 1).await?;
        let mut findings = Findings::default();
        findings.add(Measure::WalkRate, rows as f64 / released.elapsed().as_secs_f64());
        findings.add(Measure::WalkInPlugin, rows as f64 / in_plugin_s);
        Ok(findings)
    })
    .await
}

async fn until_plugin_waits(subject: &mut Subject, release: &str) -> Result<(), Failure> {
    let database = subject.engine.clone();
    let sql = format!(
        "SELECT log_text FROM system.processing_engine_logs WHERE log_text = 'waiting for {release}' LIMIT 1"
    );
    let waits = wait_until(FIRST_ANSWER_LIMIT, LOOK_PAUSE, async || {
        Ok(!subject.api.query(&database, &sql).await?.is_empty())
    })
    .await?;
    if waits {
        Ok(())
    } else {
        Err(Failure::new("the plugin was never run"))
    }
}

/// Waits until the plugin reports that many rows; gives the seconds it has spent in walking them.
async fn until_walked(subject: &mut Subject, progress: &str, rows: u64) -> Result<f64, Failure> {
    let database = subject.engine.clone();
    let sql = format!("SELECT max(rows) AS rows, max(seconds) AS seconds FROM {progress}");
    let mut seen = (0, 0.0);
    let walked = wait_until(LIMIT, LOOK_PAUSE, async || {
        for row in subject.api.query_or_nothing(&database, &sql).await? {
            seen = (
                row.get("rows").and_then(serde_json::Value::as_u64).unwrap_or(0),
                row.get("seconds")
                    .and_then(serde_json::Value::as_f64)
                    .unwrap_or(0.0),
            );
        }
        Ok(seen.0 >= rows)
    })
    .await?;
    match seen {
        (seen_rows, seconds) if walked && seen_rows == rows => Ok(seconds),
        (seen_rows, _) => Err(Failure::new(format!(
            "the plugin must see {rows} rows, it saw {seen_rows}"
        ))),
    }
}
