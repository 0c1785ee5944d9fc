//! A data-write plugin that looks at every row: how fast it works off a backlog, through dictionaries and through Arrow.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Findings;
use super::rest::cpu_seconds_at_rest;
use super::triggers::{FIRST_ANSWER_LIMIT, Plugin, Trigger, with_triggers};
use crate::api::Row;
use crate::bench::BenchOptions;
use crate::bench::load::CpuLoad;
use crate::bench::measure::Measure;
use crate::bench::subject::Subject;
use crate::bench::writing::write_all;
use crate::failure::Failure;
use crate::statistics::median;
use crate::waiting::wait_until;

/// Few enough for the tail of the log that a server keeps in memory: a trigger that keeps up reads from there.
const ROWS_MAX: usize = 300_000;
/// A walk through Arrow is over so soon that a single one says little.
const ARROW_WALKS: usize = 5;
/// What the plugin reads Arrow tables with.
const ARROW_PACKAGE: &str = "pyarrow";
const LIMIT: Duration = Duration::from_mins(2);
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// More than the waiting plugin takes, less than a server that merges what was written.
const WAITING_CORES_MAX: f64 = 0.6;
/// Two ways of adding up the same numbers differ by rounding.
const TOLERANCE: f64 = 1e-6;

/// What was walked: by the bench's clock in all, by the plugin's in the plugin.
struct Walked {
    rows: f64,
    seconds: f64,
    in_plugin_s: f64,
}

pub(super) async fn measure_rows(subject: &mut Subject, options: &BenchOptions) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    if let Some(walked) = walk(subject, options, "rows", ROWS_MAX).await? {
        findings.add(Measure::WalkRate, walked.rows / walked.seconds);
        findings.add(Measure::WalkInPlugin, walked.rows / walked.in_plugin_s);
    }
    Ok(findings)
}

pub(super) async fn measure_arrow(
    subject: &mut Subject,
    options: &BenchOptions,
) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    subject.api.install_package(ARROW_PACKAGE).await?;
    let mut walks = Vec::new();
    for _ in 0..ARROW_WALKS {
        let Some(walked) = walk(subject, options, "arrow", ROWS_MAX).await? else {
            findings.note("the server hands over no Arrow tables");
            return Ok(findings);
        };
        walks.push(walked);
    }
    let rate = |seconds: fn(&Walked) -> f64| {
        median(&mut walks.iter().map(|w| w.rows / seconds(w)).collect::<Vec<_>>())
    };
    findings.add(Measure::ArrowRate, rate(|walked| walked.seconds));
    findings.add(
        Measure::ArrowHandOver,
        rate(|walked| walked.seconds - walked.in_plugin_s),
    );
    findings.add(Measure::ArrowInPlugin, rate(|walked| walked.in_plugin_s));
    if options.rows as usize > ROWS_MAX
        && let Some(walked) = walk(subject, options, "arrow", usize::MAX).await?
    {
        findings.add(Measure::ArrowBacklogRate, walked.rows / walked.seconds);
    }
    Ok(findings)
}

/// `None` where the server cannot hand over what the plugin wants.
async fn walk(
    subject: &mut Subject,
    options: &BenchOptions,
    through: &str,
    rows_max: usize,
) -> Result<Option<Walked>, Failure> {
    let table = subject.new_table("walk");
    let (release, progress) = (format!("{table}_release"), format!("{table}_progress"));
    let trigger = Trigger {
        database: subject.engine.clone(),
        name: "walk".to_owned(),
        plugin: Plugin::Walk,
        specification: format!("table:{table}"),
        arguments: json!({ "through": through, "table": table, "release": release, "progress": progress }),
    };
    with_triggers(subject, &[trigger], async |subject| {
        let database = subject.engine.clone();
        // One row makes the first run begin, which then waits; the backlog is written behind it.
        subject
            .api
            .write(
                &database,
                &format!("{table},hostname=first usage_user=0.5,usage_system=0.5 1"),
            )
            .await?;
        if !until_plugin_waits(subject, &release).await? {
            return Ok(None);
        }
        let load = CpuLoad {
            rows: (options.rows as usize).min(rows_max),
            ..options.load()
        }
        .render(&table);
        let rows = load.rows;
        write_all(subject.api.endpoint(), &database, load).await?;
        cpu_seconds_at_rest(subject.pid(), WAITING_CORES_MAX).await;

        let released = Instant::now();
        subject
            .api
            .write(&database, &format!("{release} go=true 1"))
            .await?;
        let report = until_walked(subject, &progress, rows as u64 + 1).await?;
        let seconds = released.elapsed().as_secs_f64();
        check_computed(subject, &table, &report).await?;
        Ok(Some(Walked {
            rows: rows as f64,
            seconds,
            in_plugin_s: number(&report, "seconds"),
        }))
    })
    .await
}

/// False where the plugin says that it cannot walk.
async fn until_plugin_waits(subject: &mut Subject, release: &str) -> Result<bool, Failure> {
    let database = subject.engine.clone();
    let waiting = format!("waiting for {release}");
    let sql = format!(
        "SELECT log_text FROM system.processing_engine_logs \
         WHERE log_text = '{waiting}' OR log_text = 'no Arrow tables for {release}' LIMIT 1"
    );
    let mut said = None;
    wait_until(FIRST_ANSWER_LIMIT, LOOK_PAUSE, async || {
        let mut rows = subject.api.query(&database, &sql).await?;
        said = rows.pop().and_then(|mut row| row.remove("log_text"));
        Ok(said.is_some())
    })
    .await?;
    match said {
        Some(text) => Ok(text == waiting),
        None => Err(Failure::new("the plugin was never run")),
    }
}

/// Waits until the plugin reports that many rows; gives its report.
async fn until_walked(subject: &mut Subject, progress: &str, rows: u64) -> Result<Row, Failure> {
    let database = subject.engine.clone();
    let sql = format!("SELECT rows, seconds, usage, hosts FROM {progress} ORDER BY rows DESC LIMIT 1");
    let mut report = Row::new();
    let walked_rows = |report: &Row| report.get("rows").and_then(Value::as_u64).unwrap_or(0);
    wait_until(LIMIT, LOOK_PAUSE, async || {
        let mut reports = subject.api.query_or_nothing(&database, &sql).await?;
        report = reports.pop().unwrap_or_default();
        Ok(walked_rows(&report) >= rows)
    })
    .await?;
    match walked_rows(&report) {
        walked if walked == rows => Ok(report),
        walked => Err(Failure::new(format!(
            "the plugin must see {rows} rows, it saw {walked}"
        ))),
    }
}

/// The plugin must have come to what SQL comes to.
async fn check_computed(subject: &mut Subject, table: &str, report: &Row) -> Result<(), Failure> {
    let database = subject.engine.clone();
    let sql = format!(
        "SELECT sum(usage_user) + sum(usage_system) AS usage, count(DISTINCT hostname) AS hosts FROM {table}"
    );
    let expected = subject
        .api
        .query(&database, &sql)
        .await?
        .pop()
        .unwrap_or_default();
    let usage = number(&expected, "usage");
    let is_same_usage = (number(report, "usage") - usage).abs() <= TOLERANCE * usage;
    if is_same_usage && report.get("hosts") == expected.get("hosts") {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the plugin must come to {expected:?}, it came to {report:?}"
    )))
}

fn number(row: &Row, name: &str) -> f64 {
    row.get(name).and_then(Value::as_f64).unwrap_or(0.0)
}
