//! Starting and stopping, with and without rows.

use std::path::Path;

use super::{Findings, ingest, milliseconds, queries};
use crate::api::Api;
use crate::bench::BenchOptions;
use crate::bench::measure::Measure;
use crate::bench::subject::OwnServer;
use crate::bench::writing::write_all;
use crate::failure::Failure;
use crate::server::Server;

const DATABASE: &str = "bench";

/// Starts servers of `program`, since each start must find what it is measured with.
pub(super) async fn measure_starts(program: &Path, options: &BenchOptions) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let stopped = OwnServer::start(program).await?;
    findings.add(
        Measure::StartEmpty,
        milliseconds(stopped.server.time_to_healthy()),
    );
    write_rows(&stopped.server, options).await?;
    let (stop_time, restarted) = stopped.restart_after_stop().await?;
    findings.add(Measure::StopTime, milliseconds(stop_time));
    let after_stop = [Measure::StartAfterStop, Measure::CountAfterStop];
    add_start(&mut findings, after_stop, &restarted.server, options).await?;
    restarted.server.stop().await?;

    let killed = OwnServer::start(program).await?;
    write_rows(&killed.server, options).await?;
    let restarted = killed.restart_after_kill().await?;
    let after_kill = [Measure::StartAfterKill, Measure::CountAfterKill];
    add_start(&mut findings, after_kill, &restarted.server, options).await?;
    restarted.server.stop().await?;
    Ok(findings)
}

/// The time until the server said that it serves, and until it has shown that no row is missing.
async fn add_start(
    findings: &mut Findings,
    [healthy, counted]: [Measure; 2],
    server: &Server,
    options: &BenchOptions,
) -> Result<(), Failure> {
    findings.add(healthy, milliseconds(server.time_to_healthy()));
    check_rows(server, options).await?;
    findings.add(counted, milliseconds(server.started().elapsed()));
    Ok(())
}

async fn write_rows(server: &Server, options: &BenchOptions) -> Result<(), Failure> {
    Api::new(server.endpoint().clone())
        .create_database(DATABASE)
        .await?;
    let load = options.load().render(ingest::TABLE);
    write_all(server.endpoint(), DATABASE, load).await.map(drop)
}

async fn check_rows(server: &Server, options: &BenchOptions) -> Result<(), Failure> {
    let answer = Api::new(server.endpoint().clone())
        .query(DATABASE, &queries::count_sql())
        .await?;
    queries::check_count(&answer, options.rows as usize)
}
