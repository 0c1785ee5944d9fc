//! `show storage`: how much is stored, and where.

use clap::Args;

use super::show::{INTERNAL_DATABASE, query_with};
use crate::{
    connection::Connection,
    failure::CommandError,
    format::{Format, TextFormat},
    print,
};

const HELP: &str = "\
Rows in files are counted once a point; rows in memory as often as they were written.

Examples:
  tidemill show storage
  tidemill show storage --database weather --format json
  tidemill show storage --log";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct StorageArgs {
    /// Show the tables of this database, not the sums of all databases
    #[arg(short, long, value_name = "DATABASE")]
    database: Option<String>,

    /// Show the log: its length, and the position up to which everything is in files
    #[arg(long, conflicts_with = "database")]
    log: bool,

    /// Format of the list
    #[arg(long, value_enum, default_value = "pretty")]
    format: TextFormat,

    #[command(flatten)]
    connection: Connection,
}

const OF_DATABASES: &str = "SELECT database_name, count(*) AS tables, sum(buffer_rows) AS buffer_rows, \
     sum(buffer_bytes) AS buffer_bytes, sum(file_count) AS files, sum(file_rows) AS file_rows, \
     sum(file_bytes) AS file_bytes, sum(pending_deletes) AS pending_deletes, min(min_time) AS min_time, \
     max(max_time) AS max_time FROM system.storage GROUP BY database_name ORDER BY database_name";

const OF_TABLES: &str = "SELECT table_name, buffer_rows, buffer_bytes, file_count AS files, file_rows, file_bytes, \
     pending_deletes, min_time, max_time FROM system.storage WHERE database_name = $database ORDER BY table_name";

impl StorageArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let format = Format::from(self.format);
        let sql = match &self.database {
            Some(_) => OF_TABLES,
            None if self.log => "SELECT * FROM system.log",
            None => OF_DATABASES,
        };
        let parameters = self
            .database
            .iter()
            .map(|database| ("database", database.as_str()));
        let answer = query_with(&client, INTERNAL_DATABASE, sql.to_owned(), parameters, format).await?;
        print::answer(answer, format).await
    }
}
