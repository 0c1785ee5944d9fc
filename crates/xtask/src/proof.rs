//! `kill-compaction`: many rows are ingested and left in small files, and the server is killed with -9 each time that
//! compaction has begun to write a large one. After each kill, and when all is compacted, every count and every checksum must
//! be that of the rows that were acknowledged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::api::{Api, Row};
use crate::bench::load::{CpuLoad, FIELDS, Order, START_S, STEP_S, VALUE_SCALE, host_name};
use crate::bench::writing::write_rounds;
use crate::compile;
use crate::failure::{During, Failure};
use crate::interruption::interrupted;
use crate::random::Random;
use crate::server::{Server, ServerSetup};
use crate::storage::{
    bytes_in, data_files, flags, parquet_paths, rows_in, until_compacted, until_fewer_files, until_in_files,
    until_new_parquet,
};
use crate::workspace::Workspace;

const DATABASE: &str = "proof";
const TABLE: &str = "cpu";
const HOSTS: u32 = 1_000;
/// One round is in this process's memory at a time.
const ROUND_ROWS: usize = 1_000_000;
/// Small, so that there are many files to compact.
const BUFFER: &str = "256MB";
const IN_FILES_LIMIT: Duration = Duration::from_mins(5);
const COMPACTED_LIMIT: Duration = Duration::from_mins(10);
const BEGIN_LIMIT: Duration = Duration::from_mins(1);
/// From a file's first sight until the kill, at most.
const DELAY_MS_MAX: u32 = 500;

/// Options of `cargo xtask kill-compaction`.
#[derive(Args)]
pub(crate) struct ProofOptions {
    /// Kill this program instead of building the one of this checkout.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Millions of rows, each of ten tags and ten fields.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    million_rows: u16,
    /// How often the server is killed.
    #[arg(long, value_name = "N", default_value_t = 3)]
    kills: u32,
    /// The seed of the rows and of the moments of the kills.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

/// Tells every step; fails at the first answer that is not right, and keeps the server's files then.
pub(crate) async fn run(workspace: &Workspace, options: &ProofOptions) -> Result<(), Failure> {
    let program = compile::named_or_release(workspace, options.program.as_deref())?;
    let directory = tempfile::Builder::new()
        .prefix("tidemill-kill-compaction-")
        .tempdir()
        .during("cannot make a temporary directory")?;
    let proved = tokio::select! {
        proved = prove(&program, &directory, options) => proved,
        interruption = interrupted() => {
            interruption?;
            return Err(Failure::new("interrupted"));
        }
    };
    if proved.is_err() {
        eprintln!(
            "the server's log and data are kept in {}",
            directory.keep().display()
        );
    }
    proved
}

async fn prove(program: &Path, directory: &TempDir, options: &ProofOptions) -> Result<(), Failure> {
    let load = CpuLoad {
        seed: options.seed,
        hosts: HOSTS,
        rows: ROUND_ROWS,
        step_s: STEP_S,
        batch_lines: 5_000,
        connections: 8,
        order: Order::Host,
    };
    let rounds = u64::from(options.million_rows);
    let rows = rounds * ROUND_ROWS as u64;
    let expected = Expected::of(&load, rounds);
    let mut random = Random::from_seed(options.seed);
    let mut setup = ServerSetup::new(program.to_owned(), "proof", directory.path())?;

    let small_files = [
        flags::eager_snapshots(),
        flags::buffer_limit(BUFFER),
        flags::no_compaction(),
    ];
    setup.set_arguments(small_files.concat());
    let server = setup.start().await?;
    let mut api = Api::new(server.endpoint().clone());
    api.create_database(DATABASE).await?;
    let rendered = load.render(TABLE);
    let written = write_rounds(
        server.endpoint(),
        DATABASE,
        rendered,
        rounds as usize,
        load.duration_s(),
    )
    .await?;
    println!(
        "{rows} rows acknowledged in {:.1} s of writing, {} batches after having been answered 503",
        written.duration.as_secs_f64(),
        written.refusals
    );
    // A server that stops writes to files what it has in memory, sooner than it would otherwise.
    server.stop().await?;
    let server = setup.start().await?;
    let mut api = Api::new(server.endpoint().clone());
    let files = until_in_files(&mut api, DATABASE, rows, IN_FILES_LIMIT).await?;
    let uncompacted = files.len();
    println!(
        "they are in {uncompacted} files, {:.1} MB, none of them compacted",
        bytes_in(&files) as f64 / 1e6
    );
    expected.require(&mut api, "before the first kill").await?;
    server.stop().await?;

    setup.set_arguments(Vec::new());
    let mut server = setup.start().await?;
    for kill in 1..=options.kills {
        server = kill_in_compaction(&setup, server, &mut random, kill).await?;
        let mut api = Api::new(server.endpoint().clone());
        expected.require(&mut api, &format!("after kill {kill}")).await?;
    }
    let mut api = Api::new(server.endpoint().clone());
    let after_kills = Instant::now();
    // Where compaction gets little of the processor, a server that has just started looks as if it had nothing to do.
    until_fewer_files(&mut api, DATABASE, uncompacted / 2, COMPACTED_LIMIT).await?;
    let (_, files) = until_compacted(&mut api, server.pid()?, DATABASE, rows, COMPACTED_LIMIT).await?;
    let took = after_kills.elapsed();
    if rows_in(&files) != rows {
        return Err(Failure::new(format!(
            "the compacted files have {} rows, not {rows}",
            rows_in(&files)
        )));
    }
    println!(
        "compacted after {:.1} s more: {} files, {:.1} MB",
        took.as_secs_f64(),
        files.len(),
        bytes_in(&files) as f64 / 1e6
    );
    expected.require(&mut api, "compacted").await?;
    server.stop().await?;
    let server = setup.start().await?;
    expected
        .require(&mut Api::new(server.endpoint().clone()), "after a last restart")
        .await?;
    server.stop().await.map(drop)
}

/// Waits until compaction writes a file, kills the server while it does, and starts it again.
async fn kill_in_compaction(
    setup: &ServerSetup,
    server: Server,
    random: &mut Random,
    kill: u32,
) -> Result<Server, Failure> {
    let folder = setup.data_dir();
    let known = parquet_paths(&folder);
    let before = data_files(&mut Api::new(server.endpoint().clone()), DATABASE).await?;
    if !until_new_parquet(&folder, &known, BEGIN_LIMIT).await? {
        return Err(Failure::new(format!(
            "compaction wrote no file within {} s before kill {kill}; more rows (--million-rows) give it more to do",
            BEGIN_LIMIT.as_secs()
        )));
    }
    let delay_ms = random.below(DELAY_MS_MAX + 1);
    sleep(Duration::from_millis(u64::from(delay_ms))).await;
    server.kill().await?;
    let unnamed = parquet_paths(&folder).difference(&known).count();
    let server = setup.start().await?;
    let after = data_files(&mut Api::new(server.endpoint().clone()), DATABASE).await?;
    println!(
        "kill {kill}, {delay_ms} ms after compaction began a file: healthy again after {:.2} s; {unnamed} new files on disk, {} of \
         them in the manifest",
        server.time_to_healthy().as_secs_f64(),
        after.keys().filter(|path| !before.contains_key(*path)).count()
    );
    Ok(server)
}

/// What the rows add up to.
struct Expected {
    rows_of_round: u64,
    rounds: u64,
    round_ns: u64,
    /// Sums of every field, in ten-thousandths, over the rows of a round; all rounds are alike.
    round: [u64; FIELDS.len()],
    /// The same by host, over all rounds.
    by_host: BTreeMap<String, [u64; FIELDS.len()]>,
}

impl Expected {
    fn of(load: &CpuLoad, rounds: u64) -> Self {
        let hosts = load.sums_by_host();
        let mut round = [0; FIELDS.len()];
        for host in &hosts {
            for (sum, of_host) in round.iter_mut().zip(host) {
                *sum += of_host;
            }
        }
        let by_host = hosts.into_iter().enumerate();
        let by_host = by_host.map(|(number, sums)| (host_name(number as u32), sums.map(|sum| sum * rounds)));
        Expected {
            rows_of_round: load.rows as u64,
            rounds,
            round_ns: load.duration_s() * 1_000_000_000,
            round,
            by_host: by_host.collect(),
        }
    }

    /// Requires that counts and sums are right by time and by host.
    async fn require(&self, api: &mut Api, when: &str) -> Result<(), Failure> {
        let asked = Instant::now();
        let sums: Vec<String> = FIELDS
            .iter()
            .map(|field| format!("sum(CAST(round({field} * {VALUE_SCALE}.0) AS BIGINT)) AS {field}"))
            .collect();
        let sums = sums.join(", ");
        let round = format!("(CAST(time AS BIGINT) - {START_S}000000000) / {}", self.round_ns);
        let by_round =
            format!("SELECT {round} AS round, count(*) AS n, {sums} FROM {TABLE} GROUP BY 1 ORDER BY 1");
        let rows = api.query(DATABASE, &by_round).await?;
        require_equal(when, "parts of time", rows.len() as u64, self.rounds)?;
        for (number, row) in rows.iter().enumerate() {
            let what = format!("part {number} of the time");
            require_equal(when, &what, integer(row, "round")?, number as u64)?;
            require_equal(when, &what, integer(row, "n")?, self.rows_of_round)?;
            require_sums(when, &what, row, &self.round)?;
        }
        let by_host = format!("SELECT hostname, count(*) AS n, {sums} FROM {TABLE} GROUP BY 1");
        let rows = api.query(DATABASE, &by_host).await?;
        require_equal(when, "hosts", rows.len() as u64, self.by_host.len() as u64)?;
        let rows_of_host = self.rounds * self.rows_of_round / self.by_host.len() as u64;
        for row in &rows {
            let host = row
                .get("hostname")
                .and_then(|host| host.as_str())
                .unwrap_or_default();
            let expected = self
                .by_host
                .get(host)
                .ok_or_else(|| Failure::new(format!("{when}: nobody wrote {row:?}")))?;
            require_equal(when, host, integer(row, "n")?, rows_of_host)?;
            require_sums(when, host, row, expected)?;
        }
        println!(
            "{when}: {} rows, and the sums of {} fields by {} parts of the time and by {} hosts agree ({:.1} s)",
            self.rounds * self.rows_of_round,
            FIELDS.len(),
            self.rounds,
            self.by_host.len(),
            asked.elapsed().as_secs_f64()
        );
        Ok(())
    }
}

fn require_sums(when: &str, what: &str, row: &Row, expected: &[u64; FIELDS.len()]) -> Result<(), Failure> {
    for (field, expected) in FIELDS.iter().zip(expected) {
        require_equal(
            when,
            &format!("sum of {field} of {what}"),
            integer(row, field)?,
            *expected,
        )?;
    }
    Ok(())
}

fn integer(row: &Row, name: &str) -> Result<u64, Failure> {
    row.get(name)
        .and_then(serde_json::Value::as_u64)
        .ok_or_else(|| Failure::new(format!("{row:?} has no number {name}")))
}

fn require_equal(when: &str, what: &str, found: u64, expected: u64) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{when}: {what} must be {expected}, the server answers {found}"
    )))
}
