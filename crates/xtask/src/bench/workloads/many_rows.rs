//! What a server has in memory at most while it ingests far more rows than it may hold.

use std::path::Path;

use super::{Findings, ingest, queries};
use crate::bench::BenchOptions;
use crate::bench::measure::Measure;
use crate::bench::subject::OwnServer;
use crate::bench::writing::write_rounds;
use crate::failure::Failure;
use crate::process_info::peak_resident_bytes;
use crate::storage::flags;

const DATABASE: &str = "bench";
const ROWS: usize = 20_000_000;
const BUFFER_LIMIT: &str = "512MiB";
const MEBIBYTE: f64 = (1 << 20) as f64;

pub(super) async fn measure(program: &Path, options: &BenchOptions) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let own = OwnServer::start_with(program, flags::buffer_limit(BUFFER_LIMIT)).await?;
    let mut api = own.api();
    api.create_database(DATABASE).await?;
    let load = options.load();
    let rounds = ROWS.div_ceil(load.rows);
    let written = write_rounds(
        own.server.endpoint(),
        DATABASE,
        load.render(ingest::TABLE),
        rounds,
        load.duration_s(),
    )
    .await?;
    let peak_bytes = peak_resident_bytes(own.server.pid()?);
    findings.add(Measure::ManyRowsPeak, peak_bytes as f64 / MEBIBYTE);
    let seconds = written.duration.as_secs_f64();
    findings.add(Measure::ManyRowsRate, written.rows as f64 / seconds);
    findings.note(format!(
        "{} rows ingested with a buffer limit of {BUFFER_LIMIT}; {} batches were answered 503 and sent again",
        written.rows, written.refusals
    ));
    queries::check_count(&api.query(DATABASE, &queries::count_sql()).await?, written.rows)?;
    own.server.stop().await?;
    Ok(findings)
}
