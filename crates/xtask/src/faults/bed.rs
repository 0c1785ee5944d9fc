//! The server that faults are tried on: with a healthy data-write trigger and a healthy request trigger, whose worker
//! processes are known, so that every other process below the server is the faulty trigger's.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::sleep;

use super::abilities::Abilities;
use super::finding::Finding;
use super::neighbours::{DERIVED, Neighbours, SOURCE, now_ns};
use crate::api::{Api, NewTrigger};
use crate::failure::{During, Failure};
use crate::plugin_files::copy_plugins;
use crate::process_info::{descendants, resident_bytes};
use crate::server::{Server, ServerSetup, without_our_settings};
use crate::waiting::wait_until;

pub(super) const DATABASE: &str = "faults";
const HEALTHY_TARGET: &str = "/api/v3/engine/healthy";
/// Long enough for a virtual environment to be made and a first worker to start.
const START_LIMIT: Duration = Duration::from_mins(2);
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// What `disable` and `delete --force` may take, whatever the plugin does.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A server that faults are tried on.
pub(super) struct Bed {
    pub(super) api: Api,
    pub(super) abilities: Abilities,
    // Before the directory, so that the server ends before its files go.
    server: Server,
    setup: ServerSetup,
    pid: u32,
    healthy_workers: BTreeSet<u32>,
    program: PathBuf,
    directory: TempDir,
}

impl Bed {
    /// Starts a server of `program` with the plugins of `plugins` and its two healthy triggers.
    pub(super) async fn make(program: &Path, plugins: &Path) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("tidemill-faults-")
            .tempdir()
            .during("cannot make a temporary directory")?;
        let setup = ServerSetup::new(program.to_owned(), "faults", directory.path())?;
        copy_plugins(plugins, &setup.plugin_dir())?;
        let server = setup.start().await?;
        let mut bed = Bed {
            api: Api::new(server.endpoint().clone()),
            abilities: Abilities::of(program).await?,
            pid: server.pid()?,
            server,
            setup,
            healthy_workers: BTreeSet::new(),
            program: program.to_owned(),
            directory,
        };
        bed.create_healthy_triggers().await?;
        Ok(bed)
    }

    async fn create_healthy_triggers(&mut self) -> Result<(), Failure> {
        self.api.create_database(DATABASE).await?;
        let settings = json!({ "error_behavior": "retry" });
        let into = json!({ "into": DERIVED });
        self.create("derive", "derive.py", &format!("table:{SOURCE}"), settings, into)
            .await?;
        self.create("healthy", "answer.py", "request:healthy", json!({}), Value::Null)
            .await?;
        self.until_answers(HEALTHY_TARGET, START_LIMIT).await?;
        // So that the neighbours find their tables, and the first derived row is not one of theirs.
        let first = format!("{SOURCE},writer=first number=0i {}", now_ns());
        self.api.write(DATABASE, &first).await?;
        self.until_number(&format!("SELECT count(*) AS n FROM {DERIVED}"), 1, START_LIMIT)
            .await?;
        let both_run = wait_until(START_LIMIT, LOOK_PAUSE, async || {
            Ok(descendants(self.pid).len() == 2)
        })
        .await?;
        if !both_run {
            return Err(Failure::new("the healthy triggers have not got two processes"));
        }
        self.note_healthy_processes().await
    }

    /// Learns which processes are those of the healthy triggers: they get new ones when packages are installed.
    pub(super) async fn note_healthy_processes(&mut self) -> Result<(), Failure> {
        const PROCESSES: &str = "SELECT process_id FROM system.processing_engine_trigger_status \
                                 WHERE trigger_name IN ('derive', 'healthy')";
        let rows = self.api.query_or_nothing(DATABASE, PROCESSES).await?;
        let ids = rows.iter().filter_map(|row| row.get("process_id")?.as_u64());
        self.healthy_workers = ids.filter_map(|id| u32::try_from(id).ok()).collect();
        Ok(())
    }

    /// Sets the neighbours to work; the rows they write are marked with the fault's name.
    pub(super) fn neighbours(&self, fault: &str) -> Result<Neighbours, Failure> {
        Neighbours::start(
            self.api.endpoint(),
            self.directory.path().to_owned(),
            self.pid,
            DATABASE,
            fault.to_owned(),
            HEALTHY_TARGET.to_owned(),
        )
    }

    /// How the server ended, where it did by itself.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.server.ended()
    }

    pub(super) async fn create(
        &mut self,
        name: &str,
        plugin: &str,
        specification: &str,
        settings: Value,
        arguments: Value,
    ) -> Result<(), Failure> {
        let trigger = NewTrigger {
            database: DATABASE,
            name,
            plugin,
            specification,
            settings,
            arguments: &arguments,
        };
        self.api.create_trigger(&trigger).await
    }

    /// Calls a request trigger until it answers 200; how long that took.
    pub(super) async fn until_answers(&mut self, target: &str, limit: Duration) -> Result<Duration, Failure> {
        let started = Instant::now();
        let request = self.api.endpoint().get(target);
        let answers = async || Ok(self.api.exchange(&request).await?.is_success());
        if wait_until(limit, LOOK_PAUSE, answers).await? {
            return Ok(started.elapsed());
        }
        let seconds = limit.as_secs();
        Err(Failure::new(format!(
            "{target} did not answer 200 within {seconds} s"
        )))
    }

    /// Waits until a trigger's log has a line with `text`; how long that took, or `None` where it never came.
    pub(super) async fn until_logged(
        &mut self,
        trigger: &str,
        text: &str,
        limit: Duration,
    ) -> Result<Option<Duration>, Failure> {
        let started = Instant::now();
        let is_logged = async || Ok(self.log_has(trigger, text).await?);
        let is_there = wait_until(limit, LOOK_PAUSE, is_logged).await?;
        Ok(is_there.then(|| started.elapsed()))
    }

    pub(super) async fn log_has(&mut self, trigger: &str, text: &str) -> Result<bool, Failure> {
        let text = text.replace('\'', "''");
        let sql = format!(
            "SELECT count(*) AS n FROM system.processing_engine_logs \
             WHERE trigger_name = '{trigger}' AND strpos(log_text, '{text}') > 0"
        );
        Ok(self.number(&sql).await? > 0)
    }

    /// Waits until a trigger has begun a run.
    pub(super) async fn until_started(&mut self, trigger: &str) -> Result<(), Failure> {
        let limit = Duration::from_secs(10);
        match self.until_logged(trigger, "starting execution", limit).await? {
            Some(_) => Ok(()),
            None => Err(Failure::new(format!("{trigger} did not begin a run"))),
        }
    }

    /// Lets a fault go on for a while.
    pub(super) async fn go_on(&self, duration: Duration) {
        sleep(duration).await;
    }

    /// Disables a trigger and requires that it is done, and its processes are gone, within the limit.
    pub(super) async fn disable(&mut self, finding: &mut Finding, trigger: &str) -> Result<(), Failure> {
        let asked = Instant::now();
        self.api.disable_trigger(DATABASE, trigger).await?;
        finding.within("disabled", asked.elapsed(), STOP_LIMIT);
        self.require_no_processes(finding, "disable").await
    }

    /// Deletes a running trigger by force, and requires the same.
    pub(super) async fn delete(&mut self, finding: &mut Finding, trigger: &str) -> Result<(), Failure> {
        let asked = Instant::now();
        self.api.delete_trigger(DATABASE, trigger).await?;
        finding.within("deleted", asked.elapsed(), STOP_LIMIT);
        self.require_no_processes(finding, "delete").await
    }

    async fn require_no_processes(&self, finding: &mut Finding, after: &str) -> Result<(), Failure> {
        let gone = wait_until(STOP_LIMIT, LOOK_PAUSE, async || Ok(self.faulty().is_empty())).await?;
        finding.require(gone, format!("processes of the trigger are left after {after}"));
        Ok(())
    }

    /// The processes below the server that are no healthy trigger's.
    pub(super) fn faulty(&self) -> Vec<u32> {
        let mut processes = descendants(self.pid);
        processes.retain(|pid| !self.healthy_workers.contains(pid));
        processes
    }

    /// Resident bytes of the largest of them.
    pub(super) fn faulty_bytes(&self) -> u64 {
        self.faulty().into_iter().map(resident_bytes).max().unwrap_or(0)
    }

    /// The only number in the first row of a query, by the name `n`; zero where its table is not there yet.
    pub(super) async fn number(&mut self, sql: &str) -> Result<u64, Failure> {
        let rows = self.api.query_or_nothing(DATABASE, sql).await?;
        Ok(rows.first().and_then(|row| row.get("n")?.as_u64()).unwrap_or(0))
    }

    /// Waits until [`Bed::number`] has reached a value; how long that took, or `None` where it never did.
    pub(super) async fn until_number(
        &mut self,
        sql: &str,
        wanted: u64,
        limit: Duration,
    ) -> Result<Option<Duration>, Failure> {
        let started = Instant::now();
        let is_reached = async || Ok(self.number(sql).await? >= wanted);
        let is_there = wait_until(limit, LOOK_PAUSE, is_reached).await?;
        Ok(is_there.then(|| started.elapsed()))
    }

    /// Puts text in the place of a plugin.
    pub(super) fn put_plugin(&self, file: &str, content: &str) -> Result<(), Failure> {
        let path = self.setup.plugin_dir().join(file);
        fs::write(&path, content).during(format!("cannot write {}", path.display()))
    }

    pub(super) fn plugin(&self, file: &str) -> Result<String, Failure> {
        let path = self.setup.plugin_dir().join(file);
        fs::read_to_string(&path).during(format!("cannot read {}", path.display()))
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.setup.data_dir()
    }

    /// A directory for what a fault needs beside the server.
    pub(super) fn side_directory(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.directory.path().join(name);
        fs::create_dir_all(&path).during(format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Runs the program as a client of this server; its output, or where it fails, its complaint.
    pub(super) async fn command(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new(&self.program);
        without_our_settings(&mut command);
        let output = command
            .args(arguments)
            .env("INFLUXDB3_HOST_URL", self.api.endpoint().url())
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .during(format!("cannot start {}", self.program.display()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(Failure::new(format!(
            "`{}` ended with {}: {}{}",
            arguments.join(" "),
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        )))
    }

    /// Takes away what a fault that ended early has left.
    pub(super) async fn clear(&mut self) -> Result<(), Failure> {
        let sql = "SELECT trigger_name FROM system.processing_engine_triggers \
                   WHERE trigger_name NOT IN ('derive', 'healthy')";
        for row in self.api.query(DATABASE, sql).await? {
            let name = row["trigger_name"].as_str().unwrap_or_default();
            self.api.delete_trigger(DATABASE, name).await?;
        }
        Ok(())
    }

    /// Stops the server in order.
    pub(super) async fn close(self) -> Result<Duration, Failure> {
        self.server.stop().await
    }

    /// Kills the server and keeps its files, for somebody to look at; where they are.
    pub(super) async fn keep(self) -> Result<PathBuf, Failure> {
        self.server.kill().await?;
        Ok(self.directory.keep())
    }
}
