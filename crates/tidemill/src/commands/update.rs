//! `update database`, `update table`, `update trigger`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidemill_client::{Client, UpdateTrigger};
use tidemill_triggers::{ErrorBehavior, SettingsPatch, parse_trigger_arguments};

use super::{
    create::{upload, upload_failed},
    trigger_settings::{self, SettingArgs},
};
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
    /// Change how long a table keeps its rows
    Table(TableArgs),
    /// Change a trigger: its plugin, its arguments, how it runs
    Trigger(Box<TriggerArgs>),
}

impl UpdateCommand {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Database(args) => args.run().await,
            Self::Table(args) => args.run().await,
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

const TABLE_HELP: &str = "\
Examples:
  tidemill update table air --database weather --retention-period 10y
  tidemill update table air --database weather --retention-period none";

#[derive(Debug, Args)]
#[command(after_help = TABLE_HELP)]
pub(crate) struct TableArgs {
    /// Name of the table
    name: String,

    #[command(flatten)]
    database: Database,

    /// How long rows are kept, for example 30d; infinite: for ever; none: as long as the database says
    #[arg(short, long, value_name = "DURATION")]
    retention_period: String,

    #[command(flatten)]
    connection: Connection,
}

impl TableArgs {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let database = &self.database.database;
        let period = Some(self.retention_period.as_str()).filter(|&period| period != "none");
        client.update_table(database, &self.name, period).await?;
        print::line(&format!(
            "Table \"{database}\".\"{}\" updated successfully",
            self.name
        ))
    }
}

const TRIGGER_HELP: &str = "\
New code is used from the next run on. What else is changed stops the trigger and starts it anew; it goes on where it was.

Examples:
  tidemill update trigger --database weather --trigger-name alert --path ./alert.py
  tidemill update trigger --database weather --trigger-name alert --trigger-arguments threshold=35
  tidemill update trigger --database weather --trigger-name alert --path ./alert2.py --upload --enabled
  tidemill update trigger --database weather --trigger-name alert --run-timeout 30s --memory-limit default";

#[derive(Debug, Args)]
#[command(after_help = TRIGGER_HELP)]
pub(crate) struct TriggerArgs {
    #[command(flatten)]
    database: Database,

    /// Name of the trigger
    #[arg(short, long, value_name = "NAME")]
    trigger_name: String,

    /// Plugin on this machine, a file or a folder, whose content replaces that of the trigger's plugin
    #[arg(short, long, value_name = "PATH")]
    path: Option<PathBuf>,

    /// Send the plugin to the server under its own name, and let the trigger use that one
    #[arg(long, requires = "path")]
    upload: bool,

    /// All arguments of the plugin; an empty text takes them away
    #[arg(long, value_name = "KEY=VALUE,…")]
    trigger_arguments: Vec<String>,

    /// What happens when a run fails: log, retry, disable
    #[arg(long, value_name = "BEHAVIOR")]
    error_behavior: Option<ErrorBehavior>,

    /// Let runs overlap
    #[arg(long, conflicts_with = "run_synchronously")]
    run_asynchronous: bool,

    /// Let a run begin when the one before it has ended
    #[arg(long)]
    run_synchronously: bool,

    /// Let it run
    #[arg(long, conflicts_with = "disabled")]
    enabled: bool,

    /// Stop it from running
    #[arg(long)]
    disabled: bool,

    #[command(flatten)]
    settings: SettingArgs,

    #[command(flatten)]
    connection: Connection,
}

impl TriggerArgs {
    async fn run(self) -> Result<(), CommandError> {
        let settings = self.settings()?;
        if !self.has_change() && settings.is_empty() {
            return Err(CommandError::Usage(
                "nothing to change: give a plugin, arguments, --enabled, --disabled, or an option for how it runs"
                    .to_owned(),
            ));
        }
        let client = self.connection.client()?;
        let change = self.change(&client, settings).await?;
        let database = &self.database.database;
        let name = &self.trigger_name;
        let mut note = "";
        match self.path.as_deref().filter(|_| !self.upload) {
            None => {}
            Some(path) => match PluginSource::read_update(path)? {
                PluginSource::File { content, .. } => {
                    let updated = client.update_plugin_file(database, name, &content).await;
                    updated.map_err(upload_failed)?;
                }
                PluginSource::Package { files, .. } => {
                    let updated = client.replace_plugin_directory(database, name, &files).await;
                    updated.map_err(upload_failed)?;
                    note = " (atomic directory replacement)";
                }
            },
        }
        if let Some(change) = change {
            client.update_trigger(&change).await?;
        }
        print::line(&format!("Trigger '{name}' updated successfully{note}"))
    }

    /// Whether something other than the settings is to be changed.
    fn has_change(&self) -> bool {
        self.path.is_some() || !self.trigger_arguments.is_empty() || self.enabled || self.disabled
    }

    /// What is to be changed about how it runs.
    fn settings(&self) -> Result<SettingsPatch, CommandError> {
        let mut fields = self.settings.fields();
        if self.run_asynchronous || self.run_synchronously {
            fields.insert("run_async".to_owned(), self.run_asynchronous.into());
        }
        if let Some(behavior) = self.error_behavior {
            fields.insert("error_behavior".to_owned(), behavior.name().into());
        }
        trigger_settings::patch(fields)
    }

    /// What is to be changed beside the content of the plugin.
    async fn change(
        &self,
        client: &Client,
        trigger_settings: SettingsPatch,
    ) -> Result<Option<UpdateTrigger>, CommandError> {
        let given: Vec<String> = self
            .trigger_arguments
            .iter()
            .filter(|text| !text.is_empty())
            .cloned()
            .collect();
        let arguments =
            parse_trigger_arguments(&given).map_err(|error| CommandError::message(error.to_string()))?;
        let plugin_filename = match &self.path {
            Some(path) if self.upload => Some(upload(client, PluginSource::read(path)?).await?),
            _ => None,
        };
        let change = UpdateTrigger {
            db: self.database.database.clone(),
            trigger_name: self.trigger_name.clone(),
            plugin_filename,
            trigger_settings,
            trigger_arguments: (!self.trigger_arguments.is_empty()).then_some(arguments),
            disabled: (self.enabled || self.disabled).then_some(self.disabled),
        };
        let is_needed = change.plugin_filename.is_some()
            || !change.trigger_settings.is_empty()
            || change.trigger_arguments.is_some()
            || change.disabled.is_some();
        Ok(is_needed.then_some(change))
    }
}
