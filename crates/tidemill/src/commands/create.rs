//! `create database`, `create table`, `create plugin`, `create trigger`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidemill_client::{Client, ClientError, CreateTable, CreateTrigger, Field};
use tidemill_triggers::{ErrorBehavior, StartAt, TriggerSettings, TriggerSpec, parse_trigger_arguments};

use super::{
    create_plugin::PluginArgs,
    trigger_settings::{self, SettingArgs},
};
use crate::{
    connection::{Connection, Database},
    failure::CommandError,
    plugin_source::PluginSource,
    print,
};

#[derive(Debug, Subcommand)]
pub(crate) enum CreateCommand {
    /// Create a database
    Database(DatabaseArgs),
    /// Create a table
    Table(TableArgs),
    /// Create a plugin to start from, on this machine
    Plugin(PluginArgs),
    /// Create a trigger: when to run which plugin
    Trigger(Box<TriggerArgs>),
}

impl CreateCommand {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Database(args) => args.run().await,
            Self::Table(args) => args.run().await,
            Self::Plugin(args) => args.run(),
            Self::Trigger(args) => args.run().await,
        }
    }
}

const DATABASE_HELP: &str = "\
Examples:
  tidemill create database weather
  tidemill create database logs --retention-period 30d";

#[derive(Debug, Args)]
#[command(after_help = DATABASE_HELP)]
pub(crate) struct DatabaseArgs {
    /// Name of the database
    #[arg(env = crate::environment::DATABASE_NAME)]
    name: String,

    /// How long rows are kept, for example 30d; for ever if not given
    #[arg(long, value_name = "DURATION")]
    retention_period: Option<String>,

    #[command(flatten)]
    connection: Connection,
}

impl DatabaseArgs {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        client
            .create_database(&self.name, self.retention_period.as_deref())
            .await?;
        print::line(&format!("Database \"{}\" created successfully", self.name))
    }
}

const TABLE_HELP: &str = "\
Tables are made by writing to them; create one to fix its columns beforehand.

Example:
  tidemill create table air --database weather --tags site,sensor --fields temperature:float64,valid:bool";

#[derive(Debug, Args)]
#[command(after_help = TABLE_HELP)]
pub(crate) struct TableArgs {
    /// Name of the table
    name: String,

    #[command(flatten)]
    database: Database,

    /// Names of its tags
    #[arg(long, value_delimiter = ',', value_name = "TAG,…")]
    tags: Vec<String>,

    /// Its fields; types are utf8, int64, uint64, float64, bool
    #[arg(long, value_delimiter = ',', value_parser = parse_field, value_name = "NAME:TYPE,…")]
    fields: Vec<Field>,

    /// How long rows are kept, for example 30d, or infinite; as long as the database says if not given
    #[arg(long, value_name = "DURATION")]
    retention_period: Option<String>,

    #[command(flatten)]
    connection: Connection,
}

fn parse_field(text: &str) -> Result<Field, String> {
    const TYPES: [&str; 5] = ["utf8", "int64", "uint64", "float64", "bool"];
    let (name, field_type) = text
        .rsplit_once(':')
        .ok_or("expected a name and a type, for example temperature:float64")?;
    if !TYPES.contains(&field_type) {
        return Err(format!(
            "unknown type '{field_type}', expected one of {}",
            TYPES.join(", ")
        ));
    }
    Ok(Field {
        name: name.to_owned(),
        field_type: field_type.to_owned(),
    })
}

impl TableArgs {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let table = CreateTable {
            db: self.database.database,
            table: self.name,
            tags: self.tags,
            fields: self.fields,
            retention_period: self.retention_period,
        };
        client.create_table(&table).await?;
        print::line(&format!(
            "Table \"{}\".\"{}\" created successfully",
            table.db, table.table
        ))
    }
}

const TRIGGER_HELP: &str = "\
When a trigger runs:
  table:NAME       rows were written to a table
  all_tables       rows were written to any table of the database
  every:DURATION   at a fixed interval, for example every:10s
  cron:EXPRESSION  on a schedule in UTC, for example 'cron:0 0 6 * * mon-fri';
                   in another time zone with TZ=Europe/Berlin before the expression
  request:PATH     a request to /api/v3/engine/PATH

Examples:
  tidemill create trigger alert --database weather --path alert.py --trigger-spec table:air \\
    --trigger-arguments threshold=30
  tidemill create trigger report --database weather --path ./report --upload \\
    --trigger-spec 'cron:0 0 6 * * *'
  tidemill create trigger latest --database weather --path latest.py --trigger-spec request:latest \\
    --workers 4 --methods GET,PUT
  tidemill create trigger totals --database weather --path totals.py --trigger-spec all_tables \\
    --start-at beginning --error-behavior retry --max-attempts 5 --memory-limit 256MB";

#[derive(Debug, Args)]
#[command(after_help = TRIGGER_HELP)]
pub(crate) struct TriggerArgs {
    /// Name of the trigger
    trigger_name: String,

    #[command(flatten)]
    database: Database,

    /// Plugin in the plugin directory of the server: a file, or a folder with __init__.py. With --upload, on this machine
    #[arg(long, value_name = "PATH")]
    path: Option<String>,

    /// The same as --path
    #[arg(long, value_name = "FILE", conflicts_with = "path", hide = true)]
    plugin_filename: Option<String>,

    /// When it runs
    #[arg(long, value_parser = TriggerSpec::parse, value_name = "SPECIFICATION")]
    trigger_spec: TriggerSpec,

    /// Arguments of the plugin; a piece without = continues the value before it
    #[arg(long, value_name = "KEY=VALUE,…")]
    trigger_arguments: Vec<String>,

    /// Create it without starting it
    #[arg(long)]
    disabled: bool,

    /// Let runs overlap
    #[arg(long)]
    run_asynchronous: bool,

    /// What happens when a run fails: log, retry, disable
    #[arg(long, default_value = "log", value_name = "BEHAVIOR")]
    error_behavior: ErrorBehavior,

    /// Send the plugin to the server first. Of a folder all files are sent, also those that are not Python, but nothing that is
    /// hidden, linked, __pycache__ or a virtual environment
    #[arg(long)]
    upload: bool,

    /// What a trigger on writes is shown first: now (what is written from now on), beginning (all that is still in the log),
    /// or what was written since a time such as 2026-01-31T06:00:00Z
    #[arg(long, value_name = "WHERE")]
    start_at: Option<StartAt>,

    #[command(flatten)]
    settings: SettingArgs,

    #[command(flatten)]
    connection: Connection,
}

impl TriggerArgs {
    async fn run(self) -> Result<(), CommandError> {
        let name = self.trigger_name.clone();
        let settings = self.settings()?;
        self.create(settings).await.inspect_err(|error| {
            print::error(&format!("Failed to create trigger: {error}"));
        })?;
        print::line(&format!("Trigger {name} created successfully"))
    }

    /// How it runs, as far as that goes with when it runs.
    fn settings(&self) -> Result<TriggerSettings, CommandError> {
        let settings = trigger_settings::patch(self.settings.fields())?.apply(TriggerSettings {
            run_async: self.run_asynchronous,
            error_behavior: self.error_behavior,
            ..TriggerSettings::default()
        });
        let plugin_type = self.trigger_spec.plugin_type();
        let start_at = self.start_at.unwrap_or_default();
        settings
            .check_for(plugin_type)
            .and_then(|()| start_at.check_for(plugin_type))
            .map_err(trigger_settings::misplaced)?;
        Ok(settings)
    }

    async fn create(self, settings: TriggerSettings) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let path = self
            .path
            .or(self.plugin_filename)
            .ok_or_else(|| CommandError::message("Either --path or --plugin-filename must be provided"))?;
        let arguments = parse_trigger_arguments(&self.trigger_arguments)
            .map_err(|error| CommandError::message(error.to_string()))?;
        let plugin_filename = if self.upload {
            upload(&client, PluginSource::read(&PathBuf::from(path))?).await?
        } else {
            path
        };
        let trigger = CreateTrigger {
            db: self.database.database,
            trigger_name: self.trigger_name,
            plugin_filename,
            trigger_specification: self.trigger_spec.to_string(),
            trigger_settings: settings,
            trigger_arguments: (!arguments.is_empty()).then_some(arguments),
            disabled: self.disabled,
            start_at: self.start_at,
        };
        Ok(client.create_trigger(&trigger).await?)
    }
}

/// Sends a plugin to the server and gives its name there.
pub(super) async fn upload(client: &Client, source: PluginSource) -> Result<String, CommandError> {
    match source {
        PluginSource::File { name, content } => {
            let uploaded = client.upload_plugin_file(&name, &content).await;
            uploaded.map_err(upload_failed)?;
            Ok(name)
        }
        PluginSource::Package { name, files } => {
            let uploaded = client.upload_plugin_directory(&name, &files).await;
            uploaded.map_err(upload_failed)?;
            Ok(name)
        }
    }
}

/// Says what to do about a plugin that is larger than a request may be.
pub(super) fn upload_failed(error: ClientError) -> CommandError {
    match &error {
        ClientError::Http { status, .. } if status.as_u16() == 413 => CommandError::message(format!(
            "{error}; leave out what is no part of the plugin, or raise --max-http-request-size of the server"
        )),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_a_name_and_a_type() {
        let field = parse_field("a:b:int64").unwrap();
        assert_eq!((field.name.as_str(), field.field_type.as_str()), ("a:b", "int64"));
        assert!(
            parse_field("a")
                .unwrap_err()
                .contains("expected a name and a type")
        );
        assert!(
            parse_field("a:int32")
                .unwrap_err()
                .contains("unknown type 'int32'")
        );
    }
}
