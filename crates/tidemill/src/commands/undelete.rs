//! `undelete database`, `undelete table`

use clap::{Args, Subcommand};

use crate::{
    connection::{Connection, Database},
    failure::CommandError,
    print,
};

#[derive(Debug, Subcommand)]
pub(crate) enum UndeleteCommand {
    /// Take back the deletion of a database
    Database(DatabaseArgs),
    /// Take back the deletion of a table
    Table(TableArgs),
}

impl UndeleteCommand {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Database(args) => args.run().await,
            Self::Table(args) => args.run().await,
        }
    }
}

const DATABASE_HELP: &str = "\
Possible until its data goes for good. Its tables come back with it; its triggers stay disabled.

Examples:
  tidemill undelete database weather
  tidemill undelete database weather-20261121T060537 --new-name weather_before";

#[derive(Debug, Args)]
#[command(after_help = DATABASE_HELP)]
pub(crate) struct DatabaseArgs {
    /// Name that the database has now, or had if no other deleted one had it
    name: String,

    /// Name for it, if not the one it had
    #[arg(long, value_name = "NAME")]
    new_name: Option<String>,

    #[command(flatten)]
    connection: Connection,
}

impl DatabaseArgs {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let name = client
            .undelete_database(&self.name, self.new_name.as_deref())
            .await?;
        print::line(&format!("Database \"{name}\" undeleted successfully"))
    }
}

const TABLE_HELP: &str = "\
Possible until its data goes for good.

Examples:
  tidemill undelete table air --database weather
  tidemill undelete table air-20261121T060537 --database weather --new-name air_before";

#[derive(Debug, Args)]
#[command(after_help = TABLE_HELP)]
pub(crate) struct TableArgs {
    /// Name that the table has now, or had if no other deleted one had it
    name: String,

    #[command(flatten)]
    database: Database,

    /// Name for it, if not the one it had
    #[arg(long, value_name = "NAME")]
    new_name: Option<String>,

    #[command(flatten)]
    connection: Connection,
}

impl TableArgs {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let database = &self.database.database;
        let name = client
            .undelete_table(database, &self.name, self.new_name.as_deref())
            .await?;
        print::line(&format!("Table \"{database}\".\"{name}\" undeleted successfully"))
    }
}
