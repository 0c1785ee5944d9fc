//! `kill -9` of workers, of the server, of both, at random moments, also while the server starts; and then every
//! acknowledged row is counted, and what synchronous and asynchronous triggers derived from it.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::checker::{Counts, count, require_derived, require_source};
use super::finding::{Finding, seconds};
use super::limits::{Noticed, WRITE_P50_MS_MAX};
use super::writers::{Account, RowId, Writers};
use crate::api::{Api, NewTrigger, Row};
use crate::failure::{During, Failure};
use crate::http::Endpoint;
use crate::plugin_files::copy_plugins;
use crate::process_info::{descendants, is_alive};
use crate::random::Random;
use crate::server::{Server, ServerSetup};
use crate::statistics::percentile;
use crate::waiting::wait_until;

const DATABASE: &str = "kills";
const SOURCE: &str = "written";
const WRITERS: u32 = 4;
const LOOK_PAUSE: Duration = Duration::from_millis(50);
const START_LIMIT: Duration = Duration::from_mins(2);
/// A server with the rows of this run in its log.
const RESTART_LIMIT: Duration = Duration::from_secs(10);
/// Back-off after the last kills included.
const CATCH_UP_LIMIT: Duration = Duration::from_mins(2);
/// A worker ends with its server by then.
const FOLLOW_LIMIT: Duration = Duration::from_secs(5);

/// The triggers that derive rows, with their tables.
const DERIVED: [(&str, &str); 2] = [
    ("by a synchronous trigger", "derived_sync"),
    ("by an asynchronous trigger", "derived_async"),
];

/// Kills for so long, then checks.
pub(super) async fn run(
    program: &Path,
    plugins: &Path,
    for_seconds: u64,
    seed: u64,
) -> Result<(Finding, Option<Noticed>), Failure> {
    let mut site = Site::make(program, plugins).await?;
    let mut finding = Finding::default();
    let checked = site
        .kill_and_check(&mut finding, for_seconds, &mut Random::from_seed(seed))
        .await;
    if checked.is_err() || !finding.violations().is_empty() {
        eprintln!(
            "the end of the log of the server that was killed:\n{}",
            site.setup.log_tail()
        );
        let Site {
            server, directory, ..
        } = site;
        drop(server);
        eprintln!("its log and data are kept in {}", directory.keep().display());
    }
    checked.map(|()| (finding, None))
}

/// A server that is killed and started again on the same data.
struct Site {
    /// `None` between its end and its next start.
    server: Option<Server>,
    setup: ServerSetup,
    /// Where the writers find it.
    address: watch::Sender<Option<Endpoint>>,
    has_state: bool,
    directory: TempDir,
}

/// What was killed.
#[derive(Default)]
struct Kills {
    workers: u32,
    servers: u32,
    with_workers: u32,
    while_starting: u32,
    slowest_start: Duration,
}

impl Site {
    async fn make(program: &Path, plugins: &Path) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("tidemill-kills-")
            .tempdir()
            .during("cannot make a temporary directory")?;
        let setup = ServerSetup::new(program.to_owned(), "kills", directory.path())?;
        copy_plugins(plugins, &setup.plugin_dir())?;
        let server = setup.start().await?;
        let endpoint = server.endpoint().clone();
        let mut site = Site {
            server: Some(server),
            setup,
            address: watch::Sender::new(Some(endpoint)),
            has_state: false,
            directory,
        };
        site.create_triggers().await?;
        Ok(site)
    }

    fn api(&self) -> Result<Api, Failure> {
        let server = self.server.as_ref();
        let server = server.ok_or_else(|| Failure::new("the server is not running"))?;
        Ok(Api::new(server.endpoint().clone()))
    }

    async fn create_triggers(&mut self) -> Result<(), Failure> {
        let mut api = self.api()?;
        api.create_database(DATABASE).await?;
        create(
            &mut api,
            "has_state",
            "has_state.py",
            "request:has_state",
            json!({}),
            &Value::Null,
        )
        .await?;
        let request = api.endpoint().get("/api/v3/engine/has_state");
        let mut answer = String::new();
        let answered = wait_until(START_LIMIT, LOOK_PAUSE, async || {
            answer = api.exchange(&request).await?.text();
            Ok(answer == "yes" || answer == "no")
        });
        if !answered.await? {
            return Err(Failure::new("the first trigger does not answer"));
        }
        self.has_state = answer == "yes";
        api.delete_trigger(DATABASE, "has_state").await?;
        let specification = format!("table:{SOURCE}");
        for (name, run_async) in [("derived_sync", false), ("derived_async", true)] {
            let settings = json!({ "error_behavior": "retry", "run_async": run_async });
            let dawdling = if run_async { "0.03" } else { "0" };
            let arguments = json!({ "into": name, "run_dawdles": dawdling });
            create(&mut api, name, "derive.py", &specification, settings, &arguments).await?;
        }
        if self.has_state {
            let settings = json!({ "error_behavior": "retry" });
            create(
                &mut api,
                "tally",
                "tally.py",
                &specification,
                settings,
                &Value::Null,
            )
            .await?;
        }
        Ok(())
    }

    async fn kill_and_check(
        &mut self,
        finding: &mut Finding,
        for_seconds: u64,
        random: &mut Random,
    ) -> Result<(), Failure> {
        let writers = Writers::start(WRITERS, DATABASE, SOURCE, &self.address.subscribe());
        let kills = self
            .kill_for(Duration::from_secs(for_seconds), random, finding)
            .await;
        let account = writers.finish().await?;
        let kills = kills?;
        finding.tell(format!(
            "{} workers, {} servers, {} servers with all their workers and {} servers that were just starting killed in {for_seconds} s",
            kills.workers, kills.servers, kills.with_workers, kills.while_starting
        ));
        finding.within(
            "healthy again, at the slowest,",
            kills.slowest_start,
            RESTART_LIMIT,
        );
        judge_writes(finding, &account);
        self.check(finding, &account).await
    }

    async fn kill_for(
        &mut self,
        duration: Duration,
        random: &mut Random,
        finding: &mut Finding,
    ) -> Result<Kills, Failure> {
        let started = Instant::now();
        let mut kills = Kills::default();
        while started.elapsed() < duration {
            sleep(Duration::from_millis(200 + u64::from(random.below(2_000)))).await;
            let server = self.server.take().expect("every kill is followed by a start");
            let workers = descendants(server.pid()?);
            let kind = random.below(8);
            if kind < 4 {
                if !workers.is_empty() {
                    kill(workers[random.below(workers.len() as u32) as usize]);
                    kills.workers += 1;
                }
                self.server = Some(server);
                continue;
            }
            self.address.send_replace(None);
            if kind < 6 {
                kills.servers += 1;
            } else {
                kills.with_workers += 1;
                workers.iter().copied().for_each(kill);
            }
            server.kill().await?;
            require_gone(finding, &workers).await?;
            while random.below(3) == 0 {
                self.start_and_kill(Duration::from_millis(u64::from(10 + random.below(120))))
                    .await?;
                kills.while_starting += 1;
            }
            let starting = Instant::now();
            let server = self.setup.start().await?;
            kills.slowest_start = kills.slowest_start.max(starting.elapsed());
            self.address.send_replace(Some(server.endpoint().clone()));
            self.server = Some(server);
        }
        Ok(kills)
    }

    /// Starts a server and kills it after a while, healthy or not.
    async fn start_and_kill(&self, after: Duration) -> Result<(), Failure> {
        if let Ok(started) = timeout(after, self.setup.start()).await {
            return started?.kill().await;
        }
        // The start that was dropped has killed its process; only the kernel's part is still to come.
        sleep(Duration::from_millis(100)).await;
        Ok(())
    }

    async fn check(&mut self, finding: &mut Finding, account: &Account) -> Result<(), Failure> {
        let source = self.counts(SOURCE).await?;
        require_source(finding, account, &source);
        let rows = source.len() as u64;
        let ended = Instant::now();
        let mut api = self.api()?;
        let caught_up = wait_until(CATCH_UP_LIMIT, LOOK_PAUSE, async || {
            for (_, table) in DERIVED {
                let sql = format!("SELECT count(*) AS n FROM (SELECT DISTINCT writer, number FROM {table})");
                if number(&mut api, &sql).await? < rows {
                    return Ok(false);
                }
            }
            let counted = "SELECT max(total) AS n FROM tally";
            Ok(!self.has_state || number(&mut api, counted).await? >= rows)
        })
        .await?;
        if caught_up {
            finding.tell(format!(
                "all derived {} after the last kill",
                seconds(ended.elapsed())
            ));
        }
        // In order, and once more, so that no run is left that could count something again.
        let server = self.server.take().expect("the server was started again");
        server.stop().await?;
        self.server = Some(self.setup.start().await?);
        let source = self.counts(SOURCE).await?;
        require_source(finding, account, &source);
        for (how, table) in DERIVED {
            let derived = self.counts(table).await?;
            require_derived(finding, how, &source, &derived);
        }
        finding.tell(format!(
            "{} rows acknowledged, {} more there whose answer was cut off",
            account.acknowledged.len(),
            source.len().saturating_sub(account.acknowledged.len())
        ));
        if finding.violations().is_empty() {
            finding.tell(
                "each of them there, and derived exactly once by a synchronous and by an asynchronous trigger",
            );
        }
        if self.has_state {
            self.check_tally(finding, rows).await?;
        } else {
            finding.tell("no durable state in plugins to check");
        }
        Ok(())
    }

    async fn check_tally(&self, finding: &mut Finding, rows: u64) -> Result<(), Failure> {
        let mut api = self.api()?;
        let total = number(&mut api, "SELECT max(total) AS n FROM tally").await?;
        let sum = number(&mut api, "SELECT sum(rows) AS n FROM tally").await?;
        finding.require(
            total == rows && sum == rows,
            format!("of {rows} rows the trigger's state has counted {total}, its runs {sum}"),
        );
        finding.tell(format!("a trigger's durable state has counted {total}"));
        Ok(())
    }

    /// How often each row is in a table.
    async fn counts(&self, table: &str) -> Result<Counts, Failure> {
        let sql = format!("SELECT writer, number FROM {table}");
        let rows = self.api()?.query_or_nothing(DATABASE, &sql).await?;
        let rows: Option<Vec<RowId>> = rows.iter().map(row_id).collect();
        let rows =
            rows.ok_or_else(|| Failure::new(format!("{table} has a row without a writer or a number")))?;
        Ok(count(rows))
    }
}

fn judge_writes(finding: &mut Finding, account: &Account) {
    finding.require(
        account.refused.is_empty(),
        format!(
            "{} writes were refused, the first: {}",
            account.refused.len(),
            account.refused.first().map_or("", String::as_str)
        ),
    );
    if account.answered_ms.is_empty() {
        finding.require(false, "no write was answered");
        return;
    }
    let mut answered_ms = account.answered_ms.clone();
    let [p50, p99] = [0.5, 0.99].map(|share| percentile(&mut answered_ms, share));
    finding.tell(format!(
        "writes answered in {p50:.1} ms (p50), {p99:.1} ms (p99) while a server was there"
    ));
    finding.at_most("p50 of writes", p50, WRITE_P50_MS_MAX, "ms");
}

/// Requires that the workers of a killed server end by themselves.
async fn require_gone(finding: &mut Finding, workers: &[u32]) -> Result<(), Failure> {
    let gone = wait_until(FOLLOW_LIMIT, Duration::from_millis(5), async || {
        Ok(!workers.iter().any(|pid| is_alive(*pid)))
    })
    .await?;
    finding.require(gone, "a worker outlives its server");
    Ok(())
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid as i32).expect("a process id is not zero");
    // It fails only for a process that has just ended, which is as good.
    let _ = kill_process(pid, Signal::KILL);
}

fn row_id(row: &Row) -> Option<RowId> {
    Some((row["writer"].as_str()?.parse().ok()?, row["number"].as_u64()?))
}

async fn number(api: &mut Api, sql: &str) -> Result<u64, Failure> {
    let rows = api.query_or_nothing(DATABASE, sql).await?;
    Ok(rows.first().and_then(|row| row["n"].as_u64()).unwrap_or(0))
}

async fn create(
    api: &mut Api,
    name: &str,
    plugin: &str,
    specification: &str,
    settings: Value,
    arguments: &Value,
) -> Result<(), Failure> {
    let trigger = NewTrigger {
        database: DATABASE,
        name,
        plugin,
        specification,
        settings,
        arguments,
    };
    api.create_trigger(&trigger).await
}
