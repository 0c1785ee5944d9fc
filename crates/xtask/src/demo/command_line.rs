//! The product's own command line, under the name `influxdb3` that its documentation uses.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Map, Value};
use tokio::process::Command;

use super::{as_typed, presentation};
use crate::failure::{During, Failure};
use crate::http::Endpoint;
use crate::server::without_our_settings;
use crate::workspace::Workspace;

/// Where the demo writes.
pub(crate) const DATABASE: &str = "demo";

/// Runs commands against one server.
pub(crate) struct CommandLine {
    program: PathBuf,
    host_url: String,
    /// Commands read a `.env` file where they run; this is a place without one.
    directory: PathBuf,
}

impl CommandLine {
    pub(crate) fn new(workspace: &Workspace, endpoint: &Endpoint, directory: &Path) -> Self {
        CommandLine {
            program: workspace.program_as_influxdb3(),
            host_url: endpoint.url(),
            directory: directory.to_owned(),
        }
    }

    /// How the user calls the program from where they are.
    pub(crate) fn typed_name(&self) -> String {
        as_typed(&self.program)
    }

    /// Shows a command, runs it, and gives what it printed.
    pub(crate) async fn run_shown(&self, arguments: &[&str]) -> Result<String, Failure> {
        presentation::command(arguments);
        self.run(arguments).await
    }

    /// Runs a command and gives what it printed; where it fails, its complaint is the failure.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new(&self.program);
        without_our_settings(&mut command);
        let output = command
            .args(arguments)
            .env("INFLUXDB3_HOST_URL", &self.host_url)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .during(format!("cannot start {}", self.program.display()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Failure::new(format!(
            "`influxdb3 {}` ended with {}: {}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )))
    }

    /// A query's answer as the command line formats it for reading.
    pub(crate) async fn query_pretty(&self, sql: &str) -> Result<String, Failure> {
        self.run(&["query", "--database", DATABASE, sql]).await
    }

    /// A query's rows.
    pub(crate) async fn query_rows(&self, sql: &str) -> Result<Vec<Map<String, Value>>, Failure> {
        let text = self
            .run(&["query", "--database", DATABASE, "--format", "json", sql])
            .await?;
        serde_json::from_str(&text).during(format!("cannot read the answer to {sql}"))
    }

    /// Prints the newest log entries of the plugins, for a run in which something did not come.
    pub(crate) async fn show_plugin_logs(&self) {
        let sql = "SELECT event_time, trigger_name, log_level, log_text FROM system.processing_engine_logs \
                   ORDER BY event_time DESC LIMIT 20";
        match self.query_pretty(sql).await {
            Ok(table) => println!("what the plugins logged last:\n{table}"),
            Err(failure) => println!("the plugins' log cannot be read: {failure}"),
        }
    }
}
