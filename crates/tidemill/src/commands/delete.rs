//! `delete database`, `delete table`, `delete rows`, `delete trigger`

use clap::{Args, Subcommand};

use super::delete_rows::RowsArgs;
use crate::{
    confirm,
    connection::{Connection, Database},
    failure::CommandError,
    print,
};

#[derive(Debug, Subcommand)]
pub(crate) enum DeleteCommand {
    /// Delete a database
    Database(DatabaseArgs),
    /// Delete a table
    Table(TableArgs),
    /// Delete rows of a table by tags and time
    Rows(RowsArgs),
    /// Delete a trigger
    Trigger(TriggerArgs),
}

impl DeleteCommand {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Database(args) => args.run().await,
            Self::Table(args) => args.run().await,
            Self::Rows(args) => args.run().await,
            Self::Trigger(args) => args.run().await,
        }
    }
}

const DATABASE_HELP: &str = "\
Example:
  tidemill delete database weather --yes";

#[derive(Debug, Args)]
#[command(after_help = DATABASE_HELP)]
pub(crate) struct DatabaseArgs {
    /// Name of the database
    #[arg(env = crate::environment::DATABASE_NAME)]
    name: String,

    #[command(flatten)]
    deletion: Deletion,

    #[command(flatten)]
    connection: Connection,
}

/// How to delete something with data.
#[derive(Debug, Args)]
struct Deletion {
    /// When the data goes for good: never, now, default, or an RFC 3339 time
    #[arg(long, value_name = "WHEN")]
    hard_delete: Option<String>,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Deletion {
    fn confirm(&self, name: &str) -> Result<(), CommandError> {
        if self.yes {
            return Ok(());
        }
        confirm::deletion(name)
    }
}

impl DatabaseArgs {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        self.deletion.confirm(&self.name)?;
        client
            .delete_database(&self.name, self.deletion.hard_delete.as_deref())
            .await?;
        print::line(&format!("Database \"{}\" deleted successfully", self.name))
    }
}

const TABLE_HELP: &str = "\
Example:
  tidemill delete table air --database weather --yes";

#[derive(Debug, Args)]
#[command(after_help = TABLE_HELP)]
pub(crate) struct TableArgs {
    /// Name of the table
    name: String,

    #[command(flatten)]
    database: Database,

    #[command(flatten)]
    deletion: Deletion,

    #[command(flatten)]
    connection: Connection,
}

impl TableArgs {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let database = &self.database.database;
        self.deletion.confirm(&self.name)?;
        client
            .delete_table(database, &self.name, self.deletion.hard_delete.as_deref())
            .await?;
        print::line(&format!(
            "Table \"{database}\".\"{}\" deleted successfully",
            self.name
        ))
    }
}

const TRIGGER_HELP: &str = "\
Example:
  tidemill delete trigger alert --database weather --force";

#[derive(Debug, Args)]
#[command(after_help = TRIGGER_HELP)]
pub(crate) struct TriggerArgs {
    /// Name of the trigger
    trigger_name: String,

    #[command(flatten)]
    database: Database,

    /// Delete it also when it is enabled
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    connection: Connection,
}

impl TriggerArgs {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        client
            .delete_trigger(&self.database.database, &self.trigger_name, self.force)
            .await?;
        print::line(&format!("Trigger {} deleted successfully", self.trigger_name))
    }
}
