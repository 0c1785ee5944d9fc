//! `test wal_plugin`, `test schedule_plugin`, `test request_plugin`

use std::{collections::BTreeMap, fs, path::PathBuf};

use clap::{Args, Subcommand};
use tidemill_client::{TestReport, TestRequest, TestSchedule, TestWal};
use tidemill_triggers::parse_trigger_arguments;

use crate::{
    connection::{Connection, Database},
    failure::CommandError,
    print,
};

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "the names of the commands")]
pub(crate) enum TestCommand {
    /// Try a plugin for written rows
    WalPlugin(WalArgs),
    /// Try a plugin for a schedule
    SchedulePlugin(ScheduleArgs),
    /// Try a plugin for HTTP requests
    RequestPlugin(RequestArgs),
}

impl TestCommand {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        let report = match self {
            Self::WalPlugin(args) => args.run().await?,
            Self::SchedulePlugin(args) => args.run().await?,
            Self::RequestPlugin(args) => args.run().await?,
        };
        print_report(&report)
    }
}

fn print_report(report: &TestReport) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(report)
        .map_err(|error| CommandError::message(format!("cannot render the report: {error}")))?;
    print::line(&text)?;
    match report.errors.len() {
        0 => Ok(()),
        1 => Err(CommandError::message("the plugin reported an error")),
        count => Err(CommandError::message(format!(
            "the plugin reported {count} errors"
        ))),
    }
}

/// What all three have in common.
#[derive(Debug, Args)]
struct Plugin {
    /// The plugin, relative to the plugin directory of the server
    filename: String,

    #[command(flatten)]
    database: Database,

    /// Arguments of the plugin; a piece without = continues the value before it
    #[arg(long, value_name = "KEY=VALUE,…")]
    input_arguments: Vec<String>,

    /// Cache to use; tests with the same name share it
    #[arg(long, value_name = "NAME")]
    cache_name: Option<String>,

    #[command(flatten)]
    connection: Connection,
}

impl Plugin {
    fn arguments(&self) -> Result<Option<BTreeMap<String, String>>, CommandError> {
        let arguments = pairs(&self.input_arguments)?;
        Ok((!arguments.is_empty()).then_some(arguments))
    }
}

fn pairs(given: &[String]) -> Result<BTreeMap<String, String>, CommandError> {
    parse_trigger_arguments(given).map_err(|error| CommandError::message(error.to_string()))
}

fn read(path: &PathBuf) -> Result<String, CommandError> {
    fs::read_to_string(path).map_err(CommandError::file(path))
}

const WAL_HELP: &str = "\
Example:
  tidemill test wal_plugin alert.py --database weather --lp 'air,site=pier temperature=31' \\
    --input-arguments threshold=30";

#[derive(Debug, Args)]
#[command(after_help = WAL_HELP)]
pub(crate) struct WalArgs {
    /// Line protocol to run it with
    #[arg(long, value_name = "LINES", conflicts_with = "file")]
    lp: Option<String>,

    /// File on this machine with line protocol to run it with
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    plugin: Plugin,
}

impl WalArgs {
    async fn run(self) -> Result<TestReport, CommandError> {
        let client = self.plugin.connection.client()?;
        let input_lp = match (self.lp, &self.file) {
            (Some(lines), _) => lines,
            (None, Some(path)) => read(path)?,
            (None, None) => return Err(CommandError::message("either --lp or --file must be provided")),
        };
        let test = TestWal {
            input_arguments: self.plugin.arguments()?,
            filename: self.plugin.filename,
            database: self.plugin.database.database,
            input_lp,
            cache_name: self.plugin.cache_name,
        };
        Ok(client.test_wal(&test).await?)
    }
}

const SCHEDULE_HELP: &str = "\
Example:
  tidemill test schedule_plugin report.py --database weather --schedule '0 0 6 * * *'";

#[derive(Debug, Args)]
#[command(after_help = SCHEDULE_HELP)]
pub(crate) struct ScheduleArgs {
    /// Cron expression; the plugin is called with its next instant. Every second if not given
    #[arg(long, value_name = "CRON")]
    schedule: Option<String>,

    #[command(flatten)]
    plugin: Plugin,
}

impl ScheduleArgs {
    async fn run(self) -> Result<TestReport, CommandError> {
        let client = self.plugin.connection.client()?;
        let test = TestSchedule {
            input_arguments: self.plugin.arguments()?,
            filename: self.plugin.filename,
            database: self.plugin.database.database,
            schedule: self.schedule,
            cache_name: self.plugin.cache_name,
        };
        Ok(client.test_schedule(&test).await?)
    }
}

const REQUEST_HELP: &str = "\
Example:
  tidemill test request_plugin latest.py --database weather --query site=pier \\
    --header accept=application/json";

#[derive(Debug, Args)]
#[command(after_help = REQUEST_HELP)]
pub(crate) struct RequestArgs {
    /// Method of the request; POST with a body, else GET if not given
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,

    /// Query parameters of the request
    #[arg(long, value_name = "KEY=VALUE,…")]
    query: Vec<String>,

    /// Headers of the request
    #[arg(long, value_name = "NAME=VALUE,…")]
    header: Vec<String>,

    /// Body of the request
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    body: Option<String>,

    /// File on this machine with the body of the request
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    plugin: Plugin,
}

impl RequestArgs {
    async fn run(self) -> Result<TestReport, CommandError> {
        let client = self.plugin.connection.client()?;
        let body = match (self.body, &self.file) {
            (Some(text), _) => text,
            (None, Some(path)) => read(path)?,
            (None, None) => String::new(),
        };
        let test = TestRequest {
            input_arguments: self.plugin.arguments()?,
            filename: self.plugin.filename,
            database: self.plugin.database.database,
            method: self.method,
            query_parameters: pairs(&self.query)?,
            headers: pairs(&self.header)?,
            body,
            cache_name: self.plugin.cache_name,
        };
        Ok(client.test_request(&test).await?)
    }
}
