//! One host and one hour out of 30 days of many hosts: cold, the first query that a server gets, and warm, asked again.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Findings, milliseconds};
use crate::api::{Api, query_request};
use crate::bench::BenchOptions;
use crate::bench::load::{CpuLoad, START_S, host_name};
use crate::bench::measure::Measure;
use crate::bench::subject::OwnServer;
use crate::bench::writing::write_rounds;
use crate::failure::{During, Failure};
use crate::statistics::median;
use crate::storage::{flags, until_compacted};

const DATABASE: &str = "bench";
const TABLE: &str = "cpu";
const DAYS: u64 = 30;
const DAY_S: u64 = 24 * 3600;
/// Between two rows of a host. A row every 10 s would be 260 million rows.
const STEP_S: u64 = 600;
/// Parts of the load, of which one is in memory at a time.
const ROUNDS: u64 = 5;
const COMPACTED_LIMIT: Duration = Duration::from_mins(3);
const COLD_RUNS: usize = 5;

pub(super) async fn measure(program: &Path, options: &BenchOptions) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let round_s = DAYS / ROUNDS * DAY_S;
    let load = CpuLoad {
        step_s: STEP_S,
        rows: (round_s / STEP_S) as usize * options.hosts as usize,
        ..options.load()
    };
    let own = OwnServer::start_with(program, flags::eager_snapshots()).await?;
    own.api().create_database(DATABASE).await?;
    let written = write_rounds(
        own.server.endpoint(),
        DATABASE,
        load.render(TABLE),
        ROUNDS as usize,
        round_s,
    )
    .await?;
    let rows = written.rows as u64;
    // A server that stops writes to files what it has in memory, sooner than it would otherwise.
    let own = own.restart_with(flags::eager_snapshots()).await?;
    let mut api = own.api();
    let (took, files) = until_compacted(&mut api, own.server.pid()?, DATABASE, rows, COMPACTED_LIMIT).await?;
    findings.note(format!(
        "{DAYS} days of {} hosts, a row of each every {STEP_S} s: {rows} rows in {} files, compacted {:.1} s after a restart; an hour of a host has {} rows",
        options.hosts,
        files.len(),
        took.as_secs_f64(),
        3600 / STEP_S
    ));

    let sql = one_hour_sql(&host_name(options.hosts / 2));
    let mut own = own.restart_with(Vec::new()).await?;
    let mut cold_ms = Vec::new();
    for _ in 0..COLD_RUNS {
        (_, own) = own.restart_after_stop().await?;
        cold_ms.push(ask(&mut own.api(), &sql).await?);
    }
    findings.add(Measure::HistoryCold, median(&mut cold_ms));
    let mut api = own.api();
    let mut warm_ms = Vec::new();
    for run in 0..=options.query_runs {
        let took_ms = ask(&mut api, &sql).await?;
        if run > 0 {
            warm_ms.push(took_ms);
        }
    }
    findings.add(Measure::HistoryWarm, median(&mut warm_ms));
    own.server.stop().await?;
    Ok(findings)
}

/// An hour from the middle.
fn one_hour_sql(host: &str) -> String {
    let from_s = START_S + DAYS / 2 * DAY_S + 12 * 3600;
    let until_s = from_s + 3600;
    format!(
        "SELECT time, usage_user, usage_system FROM {TABLE} WHERE hostname = '{host}' \
         AND time >= to_timestamp_nanos({from_s}000000000) AND time < to_timestamp_nanos({until_s}000000000) ORDER BY time"
    )
}

/// How long the answer took, in milliseconds; it must have every row of the hour.
async fn ask(api: &mut Api, sql: &str) -> Result<f64, Failure> {
    // The connection is there before the clock starts.
    let hello = api.endpoint().get("/health");
    api.exchange(&hello).await?;
    let request = query_request(api.endpoint(), DATABASE, sql);
    let asked = Instant::now();
    let answer = api.exchange(&request).await?;
    let took_ms = milliseconds(asked.elapsed());
    if !answer.is_success() {
        return Err(Failure::new(format!(
            "{sql} answered {}: {}",
            answer.status,
            answer.text()
        )));
    }
    let rows: Vec<serde_json::Value> =
        serde_json::from_slice(&answer.body).during(format!("cannot read the answer to {sql}"))?;
    if rows.len() as u64 != 3600 / STEP_S {
        return Err(Failure::new(format!(
            "{sql} must answer {} rows, it answered {}",
            3600 / STEP_S,
            rows.len()
        )));
    }
    Ok(took_ms)
}
