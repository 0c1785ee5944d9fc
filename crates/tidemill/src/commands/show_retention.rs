//! `show retention`: how long rows are kept.

use clap::Args;

use super::show::{INTERNAL_DATABASE, query_with};
use crate::{
    connection::Connection,
    failure::CommandError,
    format::{Format, TextFormat},
    print,
};

const HELP: &str = "\
Examples:
  tidemill show retention
  tidemill show retention --database weather --tables --format csv";

/// A duration as text, in days.
const PERIOD: &str = "CASE WHEN retention_period_ns IS NULL THEN 'infinite' \
     ELSE concat(CAST(CAST(retention_period_ns / 86400000000000.0 AS DECIMAL(20, 4)) AS VARCHAR), 'd') END";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct RetentionArgs {
    /// Show this database only
    #[arg(short, long, value_name = "DATABASE")]
    database: Option<String>,

    /// Show tables too, with the retention that is in effect for each
    #[arg(long)]
    tables: bool,

    /// Format of the list
    #[arg(long, value_enum, default_value = "pretty")]
    format: TextFormat,

    #[command(flatten)]
    connection: Connection,
}

impl RetentionArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let format = Format::from(self.format);
        let condition = match &self.database {
            Some(_) => "WHERE database_name = $database",
            None => "",
        };
        let (columns, table) = if self.tables {
            ("database_name, table_name", "system.tables")
        } else {
            ("database_name", "system.databases")
        };
        let sql = format!(
            "SELECT {columns}, {PERIOD} AS retention_period FROM {table} {condition} ORDER BY {columns}"
        );
        let parameters = self
            .database
            .iter()
            .map(|database| ("database", database.as_str()));
        let answer = query_with(&client, INTERNAL_DATABASE, sql, parameters, format).await?;
        print::answer(answer, format).await
    }
}
