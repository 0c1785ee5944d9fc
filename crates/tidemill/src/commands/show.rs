//! `show databases`, `show packages`, `show plugins`, `show triggers`, `show summary`, `show retention`, `show storage`,
//! `show dead-letters`, `show system`

use clap::{Args, Subcommand, ValueEnum};
use tidemill_client::{Client, ClientError, QueryAnswer, QueryRequest};

use super::{
    dead_letters::ShowArgs as DeadLettersArgs, show_retention::RetentionArgs, show_storage::StorageArgs,
    show_system::SystemArgs,
};
use crate::{
    connection::{Connection, Database},
    failure::CommandError,
    format::{Format, TextFormat},
    print,
};

/// Database with the tables that are about the whole server.
pub(super) const INTERNAL_DATABASE: &str = "_internal";

#[derive(Debug, Subcommand)]
pub(crate) enum ShowCommand {
    /// List databases
    Databases(DatabasesArgs),
    /// List the Python packages that plugins can import
    Packages(PackagesArgs),
    /// List the files of all plugins that triggers use
    Plugins(PluginsArgs),
    /// List the triggers of a database: their states, last runs, lags and errors
    Triggers(TriggersArgs),
    /// List the tables and triggers of a database
    Summary(SummaryArgs),
    /// Show how long databases and tables keep their rows
    Retention(RetentionArgs),
    /// Show how much databases and tables store, in memory and in files
    Storage(StorageArgs),
    /// List runs that failed too often
    DeadLetters(DeadLettersArgs),
    /// Show system tables of a database
    System(SystemArgs),
}

impl ShowCommand {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Databases(args) => args.run().await,
            Self::Packages(args) => args.run().await,
            Self::Plugins(args) => args.run().await,
            Self::Triggers(args) => args.run().await,
            Self::Summary(args) => args.run().await,
            Self::Retention(args) => args.run().await,
            Self::Storage(args) => args.run().await,
            Self::DeadLetters(args) => args.run().await,
            Self::System(args) => args.run().await,
        }
    }
}

/// Runs a query of our own.
pub(super) async fn query(
    client: &Client,
    database: &str,
    sql: String,
    format: Format,
) -> Result<QueryAnswer, ClientError> {
    query_with(client, database, sql, [], format).await
}

/// Runs a query of our own that has `$name` parameters.
pub(super) async fn query_with(
    client: &Client,
    database: &str,
    sql: String,
    parameters: impl IntoIterator<Item = (&str, &str)>,
    format: Format,
) -> Result<QueryAnswer, ClientError> {
    let params = parameters
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()));
    let request = QueryRequest {
        database: database.to_owned(),
        query: sql,
        format: format.name().to_owned(),
        params: params.collect(),
    };
    client.query_sql(&request).await
}

const DATABASES_HELP: &str = "\
Examples:
  tidemill show databases
  tidemill show databases --show-deleted --format json";

#[derive(Debug, Args)]
#[command(after_help = DATABASES_HELP)]
pub(crate) struct DatabasesArgs {
    /// List deleted ones too
    #[arg(long)]
    show_deleted: bool,

    /// Format of the list
    #[arg(long, value_enum, default_value = "pretty")]
    format: TextFormat,

    #[command(flatten)]
    connection: Connection,
}

impl DatabasesArgs {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let format = Format::from(self.format);
        let answer = client.list_databases(format.name(), self.show_deleted).await?;
        print::answer(answer, format).await
    }
}

const PACKAGES_HELP: &str = "\
Examples:
  tidemill show packages
  tidemill show packages --format csv";

#[derive(Debug, Args)]
#[command(after_help = PACKAGES_HELP)]
pub(crate) struct PackagesArgs {
    /// Format of the list
    #[arg(long, value_enum, default_value = "pretty")]
    format: Format,

    #[command(flatten)]
    connection: Connection,
}

impl PackagesArgs {
    async fn run(self) -> Result<(), CommandError> {
        print::check_format(self.format, false)?;
        let client = self.connection.client()?;
        let answer = client.list_packages(self.format.name()).await?;
        print::answer(answer, self.format).await
    }
}

const PLUGINS_HELP: &str = "\
Example:
  tidemill show plugins --format json";

#[derive(Debug, Args)]
#[command(after_help = PLUGINS_HELP)]
pub(crate) struct PluginsArgs {
    /// Format of the list
    #[arg(long, value_enum, default_value = "pretty")]
    format: Format,

    #[command(flatten)]
    connection: Connection,
}

impl PluginsArgs {
    async fn run(self) -> Result<(), CommandError> {
        print::check_format(self.format, false)?;
        let client = self.connection.client()?;
        let sql = "SELECT * FROM system.plugin_files".to_owned();
        let answer = query(&client, INTERNAL_DATABASE, sql, self.format).await?;
        print::answer(answer, self.format).await
    }
}

/// What an operator asks first of triggers. Of the last error only the beginning: the whole of it is in the log.
const TRIGGER_STATES: &str = "SELECT trigger_name, trigger_specification, plugin_filename, state, reason, \
     last_run_time, last_run_status, lag_rows, lag_seconds, failed_runs AS errors, \
     left(split_part(last_error, chr(10), 1), 80) AS last_error \
     FROM system.processing_engine_triggers \
     JOIN system.processing_engine_trigger_status USING (trigger_name) ORDER BY trigger_name";

const TRIGGERS_HELP: &str = "\
Example:
  tidemill show triggers --database weather";

#[derive(Debug, Args)]
#[command(after_help = TRIGGERS_HELP)]
pub(crate) struct TriggersArgs {
    #[command(flatten)]
    database: Database,

    /// Format of the list
    #[arg(long, value_enum, default_value = "pretty")]
    format: TextFormat,

    #[command(flatten)]
    connection: Connection,
}

impl TriggersArgs {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let format = Format::from(self.format);
        let answer = query(
            &client,
            &self.database.database,
            TRIGGER_STATES.to_owned(),
            format,
        )
        .await?;
        print::answer(answer, format).await
    }
}

const SUMMARY_HELP: &str = "\
Examples:
  tidemill show summary --database weather
  tidemill show summary --database weather --format json";

const TABLES: &str =
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'iox' ORDER BY table_name";

const TRIGGERS: &str = "SELECT trigger_name, trigger_specification, plugin_filename, \
     CASE WHEN disabled THEN 'disabled' ELSE 'enabled' END AS state \
     FROM system.processing_engine_triggers ORDER BY trigger_name";

#[derive(Debug, Args)]
#[command(after_help = SUMMARY_HELP)]
pub(crate) struct SummaryArgs {
    #[command(flatten)]
    database: Database,

    /// Format of the summary
    #[arg(long, value_enum, default_value = "pretty")]
    format: SummaryFormat,

    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SummaryFormat {
    /// Two tables to read
    Pretty,
    /// One JSON object
    Json,
}

impl SummaryArgs {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let database = &self.database.database;
        let format = match self.format {
            SummaryFormat::Pretty => Format::Pretty,
            SummaryFormat::Json => Format::Json,
        };
        let tables = query(&client, database, TABLES.to_owned(), format)
            .await?
            .text()
            .await?;
        let triggers = query(&client, database, TRIGGERS.to_owned(), format)
            .await?
            .text()
            .await?;
        print::line(&match self.format {
            SummaryFormat::Pretty => format!(
                "tables of {database}:\n{}\n\ntriggers of {database}:\n{}",
                or_none(&tables),
                or_none(&triggers)
            ),
            SummaryFormat::Json => {
                let name = serde_json::Value::from(database.as_str());
                format!("{{\"database\":{name},\"tables\":{tables},\"triggers\":{triggers}}}")
            }
        })
    }
}

/// A table to read, and a word where the server drew one without columns because there are no rows.
fn or_none(table: &str) -> &str {
    const WITHOUT_ROWS: &str = "++\n++";
    match table.trim_end() {
        WITHOUT_ROWS => "none",
        rows => rows,
    }
}
