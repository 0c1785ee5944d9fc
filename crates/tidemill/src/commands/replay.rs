//! `replay trigger`: failed runs again; `replay plugin`: a plugin on a recording, without a server.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::{Args, Subcommand};
use tidemill_triggers::parse_trigger_arguments;

use super::dead_letters;
use crate::{author_package, failure::CommandError};

const PLUGIN_HELP: &str = "\
The plugin runs here, in a Python of this machine, on every batch in order, with one cache and state for all. Nothing is written
and no server is asked. The report is that of `tidemill test wal_plugin`; the exit code is 1 if a run failed. Queries are
answered from a file: a JSON object with the rows by the text of the query.

Python is --python, or that of the active virtual environment, or python3. Packages that the plugin imports must be there.

Examples:
  tidemill replay plugin alert.jsonl --path ./alert.py
  tidemill replay plugin alert.jsonl --path ./alert.py --arguments threshold=35 --queries answers.json";

#[derive(Debug, Subcommand)]
pub(crate) enum ReplayCommand {
    /// Run dead letters of a trigger again: runs that failed too often
    Trigger(dead_letters::ReplayArgs),
    /// Run a plugin on a recording of `record trigger`, without a server
    Plugin(PluginArgs),
}

#[derive(Debug, Args)]
#[command(after_help = PLUGIN_HELP)]
pub(crate) struct PluginArgs {
    /// The recording
    #[arg(value_name = "FILE")]
    recording: PathBuf,

    /// The plugin on this machine: a file, or a folder with __init__.py
    #[arg(long, value_name = "PATH")]
    path: PathBuf,

    /// Arguments of the plugin, instead of those that the trigger had; an empty text for none
    #[arg(long, value_name = "KEY=VALUE,…")]
    arguments: Option<Vec<String>>,

    /// Answers to the queries of the plugin
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,

    /// The Python to run it with; 3.10 or newer
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
}

impl ReplayCommand {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Trigger(args) => args.run().await,
            Self::Plugin(args) => args.run(),
        }
    }
}

impl PluginArgs {
    fn run(self) -> Result<(), CommandError> {
        for path in [Some(&self.recording), Some(&self.path), self.queries.as_ref()] {
            check_exists(path)?;
        }
        let package = author_package::unpack()?;
        let python = self.python();
        let mut command = Command::new(&python);
        // `-B`: no bytecode beside the plugin.
        command
            .arg("-B")
            .arg(package.path())
            .arg("replay")
            .arg(&self.recording)
            .arg("--path")
            .arg(&self.path)
            .stdin(Stdio::null());
        if let Some(arguments) = self.arguments()? {
            if arguments.is_empty() {
                command.arg("--no-arguments");
            }
            let arguments = arguments.iter();
            command.args(arguments.map(|(key, value)| format!("--argument={key}={value}")));
        }
        if let Some(queries) = &self.queries {
            command.arg("--queries").arg(queries);
        }
        let status = command.status().map_err(|error| {
            CommandError::message(format!(
                "cannot run {}: {error}; name a Python, 3.10 or newer, with --python",
                python.display()
            ))
        })?;
        match status.code() {
            Some(0) => Ok(()),
            Some(1) => Err(CommandError::message("the plugin reported an error")),
            // It has said why.
            Some(2) => Err(CommandError::message("there was nothing to run")),
            _ => Err(CommandError::message(format!(
                "{} ended with {status}",
                python.display()
            ))),
        }
    }

    /// `None` for those of the recording.
    fn arguments(&self) -> Result<Option<BTreeMap<String, String>>, CommandError> {
        let Some(given) = &self.arguments else {
            return Ok(None);
        };
        let given: Vec<String> = given.iter().filter(|text| !text.is_empty()).cloned().collect();
        parse_trigger_arguments(&given)
            .map(Some)
            .map_err(|error| CommandError::Usage(error.to_string()))
    }

    fn python(&self) -> PathBuf {
        let of_environment = || {
            let environment = std::env::var_os("VIRTUAL_ENV").filter(|path| !path.is_empty())?;
            Some(Path::new(&environment).join("bin/python"))
        };
        self.python
            .clone()
            .or_else(of_environment)
            .unwrap_or_else(|| PathBuf::from("python3"))
    }
}

fn check_exists(path: Option<&PathBuf>) -> Result<(), CommandError> {
    match path.map(|path| (path, path.metadata())) {
        Some((path, Err(error))) => Err(CommandError::file(path)(error)),
        _ => Ok(()),
    }
}
