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
        let sql = if self.tables {
            let period = period("retention_period_ns");
            format!(
                "SELECT database_name, table_name, {period} AS retention_period FROM system.tables \
                 {condition} ORDER BY database_name, table_name"
            )
        } else {
            let period = period("retention_period_ns");
            format!(
                "SELECT database_name, {period} AS retention_period FROM system.databases \
                 {condition} ORDER BY database_name"
            )
        };
        let parameters = self
            .database
            .iter()
            .map(|database| ("database", database.as_str()));
        let answer = query_with(&client, INTERNAL_DATABASE, sql, parameters, format).await?;
        print::answer(answer, format).await
    }
}

/// A duration as text, in days.
fn period(column: &str) -> String {
    const DAY_NS: &str = "86400000000000.0";
    format!(
        "CASE WHEN {column} IS NULL THEN 'infinite' \
         ELSE concat(CAST(CAST({column} / {DAY_NS} AS DECIMAL(20, 4)) AS VARCHAR), 'd') END"
    )
}
