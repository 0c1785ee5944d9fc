//! `update database`, `update trigger`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{
    connection::{Connection, Database},
    failure::CommandError,
    plugin_source::PluginSource,
    print,
};

#[derive(Debug, Subcommand)]
pub(crate) enum UpdateCommand {
    /// Change how long a database keeps its rows
    Database(DatabaseArgs),
    /// Replace the plugin of a trigger
    Trigger(TriggerArgs),
}

impl UpdateCommand {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Database(args) => args.run().await,
            Self::Trigger(args) => args.run().await,
        }
    }
}

const DATABASE_HELP: &str = "\
Examples:
  tidemill update database --database weather --retention-period 90d
  tidemill update database --database weather --retention-period none";

#[derive(Debug, Args)]
#[command(after_help = DATABASE_HELP)]
pub(crate) struct DatabaseArgs {
    #[command(flatten)]
    database: Database,

    /// How long rows are kept, for example 30d; none: for ever
    #[arg(short, long, value_name = "DURATION")]
    retention_period: String,

    #[command(flatten)]
    connection: Connection,
}

impl DatabaseArgs {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let period = Some(self.retention_period.as_str()).filter(|&period| period != "none");
        client.update_database(&self.database.database, period).await?;
        print::line(&format!(
            "Database \"{}\" updated successfully",
            self.database.database
        ))
    }
}

const TRIGGER_HELP: &str = "\
The new code is used from the next run on.

Example:
  tidemill update trigger --database weather --trigger-name alert --path ./alert.py";

#[derive(Debug, Args)]
#[command(after_help = TRIGGER_HELP)]
pub(crate) struct TriggerArgs {
    #[command(flatten)]
    database: Database,

    /// Name of the trigger
    #[arg(short, long, value_name = "NAME")]
    trigger_name: String,

    /// The new plugin on this machine: a file, or a folder
    #[arg(short, long, value_name = "PATH")]
    path: PathBuf,

    #[command(flatten)]
    connection: Connection,
}

impl TriggerArgs {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let database = &self.database.database;
        let name = &self.trigger_name;
        match PluginSource::read_update(&self.path)? {
            PluginSource::File { content, .. } => {
                client.update_plugin_file(database, name, &content).await?;
                print::line(&format!("Trigger '{name}' updated successfully"))
            }
            PluginSource::Package { files, .. } => {
                client.replace_plugin_directory(database, name, &files).await?;
                print::line(&format!(
                    "Trigger '{name}' updated successfully (atomic directory replacement)"
                ))
            }
        }
    }
}
