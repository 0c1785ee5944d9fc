//! The six queries over the rows just written.

use std::time::Instant;

use super::ingest::{self, TABLE};
use super::{Findings, milliseconds};
use crate::api::{Api, Row, query_request};
use crate::bench::BenchOptions;
use crate::bench::load::{CpuLoad, FIELDS, START_S, host_name};
use crate::bench::measure::Measure;
use crate::bench::subject::Subject;
use crate::failure::{During, Failure};
use crate::statistics::median;

const WARM_UP_RUNS: u32 = 2;
/// Sums of floats differ in their last digits with the order of adding.
const MEAN_TOLERANCE: f64 = 1e-6;

pub(super) const QUERIES: usize = 6;
/// What each of them is called, in their order.
const MEASURES: [Measure; QUERIES] = [
    Measure::QueryCount,
    Measure::QueryMeans,
    Measure::QueryHostHour,
    Measure::QueryOneHost,
    Measure::QueryLastPoints,
    Measure::QueryThreshold,
];

/// A query, and how many rows its answer must have where that is known.
struct Query {
    sql: String,
    rows: Option<usize>,
}

pub(super) async fn measure(subject: &mut Subject, options: &BenchOptions) -> Result<Findings, Failure> {
    ingest::ensure_written(subject, options).await?;
    let database = subject.data.clone();
    check_answers(&mut subject.api, &database, options).await?;
    let mut findings = Findings::default();
    for (measure, took_ms) in MEASURES
        .into_iter()
        .zip(medians_ms(&mut subject.api, &database, options).await?)
    {
        findings.add(measure, took_ms);
    }
    Ok(findings)
}

/// What each of the six queries takes, in milliseconds, the median of its runs.
pub(super) async fn medians_ms(
    api: &mut Api,
    database: &str,
    options: &BenchOptions,
) -> Result<[f64; QUERIES], Failure> {
    let mut medians_ms = [0.0; QUERIES];
    for (query, median_ms) in queries(&options.load()).iter().zip(&mut medians_ms) {
        let request = query_request(api.endpoint(), database, &query.sql);
        let mut samples_ms = Vec::new();
        for run in 0..WARM_UP_RUNS + options.query_runs {
            let sent = Instant::now();
            let answer = api.exchange(&request).await?;
            let took_ms = milliseconds(sent.elapsed());
            if !answer.is_success() {
                return Err(Failure::new(format!(
                    "{} answered {}: {}",
                    query.sql,
                    answer.status,
                    answer.text()
                )));
            }
            if run == 0 {
                check_rows(query, &answer.body)?;
            }
            if run >= WARM_UP_RUNS {
                samples_ms.push(took_ms);
            }
        }
        *median_ms = median(&mut samples_ms);
    }
    Ok(medians_ms)
}

/// Every row is there, and with its values.
pub(super) async fn check_answers(
    api: &mut Api,
    database: &str,
    options: &BenchOptions,
) -> Result<(), Failure> {
    check_count(&api.query(database, &count_sql()).await?, options.rows as usize)?;
    check_means(&api.query(database, &means_sql()).await?, &options.load())
}

pub(super) fn count_sql() -> String {
    format!("SELECT count(*) AS row_count FROM {TABLE}")
}

/// The fields whose means are asked for.
fn mean_fields() -> &'static [&'static str] {
    &FIELDS[..5]
}

fn means_sql() -> String {
    let means: Vec<String> = mean_fields()
        .iter()
        .map(|field| format!("avg({field}) AS {field}"))
        .collect();
    format!("SELECT {} FROM {TABLE}", means.join(", "))
}

/// What is answered fast must also be right.
fn check_means(answer: &[Row], load: &CpuLoad) -> Result<(), Failure> {
    for (field, expected) in mean_fields().iter().zip(load.means()) {
        let mean = answer.first().and_then(|row| row.get(*field)?.as_f64());
        if mean.is_none_or(|mean| (mean - expected).abs() > MEAN_TOLERANCE) {
            return Err(Failure::new(format!(
                "the mean of {field} is {expected}, the server answers {answer:?}"
            )));
        }
    }
    Ok(())
}

/// Every row that was acknowledged must be there.
pub(super) fn check_count(answer: &[Row], expected: usize) -> Result<(), Failure> {
    let counted = answer.first().and_then(|row| row.get("row_count")?.as_u64());
    if counted == Some(expected as u64) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{expected} rows were acknowledged, count(*) answers {answer:?}"
    )))
}

fn check_rows(query: &Query, body: &[u8]) -> Result<(), Failure> {
    let rows: Vec<Row> =
        serde_json::from_slice(body).during(format!("cannot read the answer to {}", query.sql))?;
    match query.rows {
        Some(expected) if expected != rows.len() => Err(Failure::new(format!(
            "{} must answer {expected} rows, it answered {}",
            query.sql,
            rows.len()
        ))),
        _ => Ok(()),
    }
}

fn queries(load: &CpuLoad) -> [Query; QUERIES] {
    let host = host_name(load.hosts / 2);
    // An hour from the middle, so that neither end of the table is special.
    let from_s = START_S + load.whole_hours() / 2 * 3600;
    let until_s = from_s + 3600;
    let within_hour = format!(
        "time >= to_timestamp_nanos({from_s}000000000) AND time < to_timestamp_nanos({until_s}000000000)"
    );
    let query = |sql, rows| Query { sql, rows };
    [
        query(count_sql(), Some(1)),
        query(means_sql(), Some(1)),
        query(
            format!(
                "SELECT hostname, date_bin(INTERVAL '1 hour', time) AS hour, \
                 avg(usage_user), avg(usage_system), avg(usage_idle) FROM {TABLE} GROUP BY 1, 2"
            ),
            Some(load.host_hours()),
        ),
        query(
            format!(
                "SELECT date_bin(INTERVAL '1 minute', time) AS minute, avg(usage_user), max(usage_user) \
                 FROM {TABLE} WHERE hostname = '{host}' AND {within_hour} GROUP BY 1 ORDER BY 1"
            ),
            (load.whole_hours() > 0).then_some(60),
        ),
        query(
            format!(
                "SELECT hostname, max(time) AS time, last_value(usage_user ORDER BY time) AS usage_user, \
                 last_value(usage_system ORDER BY time) AS usage_system FROM {TABLE} GROUP BY hostname"
            ),
            Some(load.rows.min(load.hosts as usize)),
        ),
        query(
            format!("SELECT * FROM {TABLE} WHERE hostname = '{host}' AND usage_user > 90.0"),
            None,
        ),
    ]
}
