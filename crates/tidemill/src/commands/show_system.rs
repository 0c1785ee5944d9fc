//! `show system`: the system tables of a database.

use clap::{Args, Subcommand};
use serde::Deserialize;
use tidemill_client::Client;

use super::show::query;
use crate::{
    connection::{Connection, Database},
    failure::CommandError,
    format::{Format, TextFormat},
    print,
};

const SYSTEM_HELP: &str = "\
Examples:
  tidemill show system --database weather table-list
  tidemill show system --database weather table processing_engine_logs --order-by 'event_time DESC'
  tidemill show system --database weather summary";

const TABLE_LIST: &str = "SELECT table_name, string_agg(column_name, ', ' ORDER BY ordinal_position) AS column_names \
     FROM information_schema.columns WHERE table_schema = 'system' GROUP BY table_name ORDER BY table_name";

const TABLE_NAMES: &str =
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'system' ORDER BY table_name";

#[derive(Debug, Args)]
#[command(after_help = SYSTEM_HELP)]
pub(crate) struct SystemArgs {
    #[command(flatten)]
    database: Database,

    #[command(flatten)]
    connection: Connection,

    #[command(subcommand)]
    command: SystemCommand,
}

#[derive(Debug, Subcommand)]
enum SystemCommand {
    /// List system tables and their columns
    #[command(after_help = "Example:\n  tidemill show system --database weather table-list")]
    TableList(TableListArgs),
    /// Show rows of one system table
    #[command(
        after_help = "Example:\n  tidemill show system --database weather table queries --select query_text,success"
    )]
    Table(TableArgs),
    /// Show the first rows of every system table
    #[command(after_help = "Example:\n  tidemill show system --database weather summary --limit 3")]
    Summary(SummaryArgs),
}

#[derive(Debug, Args)]
struct TableListArgs {
    /// Format of the list
    #[arg(long, value_enum, default_value = "pretty")]
    format: TextFormat,
}

#[derive(Debug, Args)]
struct TableArgs {
    /// Name of the system table
    system_table: String,

    /// Rows to show; 0 for all
    #[arg(short, long, default_value = "100", value_name = "N")]
    limit: u64,

    /// Columns to order by, as in SQL
    #[arg(short, long, value_name = "COLUMNS")]
    order_by: Option<String>,

    /// Columns to show, as in SQL
    #[arg(short, long, value_name = "COLUMNS")]
    select: Option<String>,

    /// Format of the rows
    #[arg(long, value_enum, default_value = "pretty")]
    format: Format,
}

#[derive(Debug, Args)]
struct SummaryArgs {
    /// Rows to show of each table; 0 for all
    #[arg(short, long, default_value = "10", value_name = "N")]
    limit: u64,

    /// Format of the rows
    #[arg(long, value_enum, default_value = "pretty")]
    format: TextFormat,
}

impl SystemArgs {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let database = &self.database.database;
        match self.command {
            SystemCommand::TableList(args) => {
                let format = args.format.into();
                let answer = query(&client, database, TABLE_LIST.to_owned(), format).await?;
                print::answer(answer, format).await
            }
            SystemCommand::Table(args) => args.run(&client, database).await,
            SystemCommand::Summary(args) => args.run(&client, database).await,
        }
    }
}

impl TableArgs {
    async fn run(self, client: &Client, database: &str) -> Result<(), CommandError> {
        print::check_format(self.format, false)?;
        let names = table_names(client, database).await?;
        if !names.contains(&self.system_table) {
            return Err(CommandError::message(format!(
                "system table '{}' not found: please use a valid system table name: {names:?}",
                self.system_table
            )));
        }
        let sql = select(
            &self.system_table,
            self.select.as_deref(),
            self.order_by.as_deref(),
            self.limit,
        );
        let answer = query(client, database, sql, self.format).await?;
        print::answer(answer, self.format).await
    }
}

impl SummaryArgs {
    async fn run(self, client: &Client, database: &str) -> Result<(), CommandError> {
        for name in table_names(client, database).await? {
            print::line(&format!("{name} summary:"))?;
            let sql = select(&name, None, None, self.limit);
            let rows = query(client, database, sql, self.format.into())
                .await?
                .text()
                .await?;
            print::line(rows.trim_end())?;
        }
        Ok(())
    }
}

/// The newest queries come first; the other tables have their own order.
fn default_order(table: &str) -> Option<&'static str> {
    (table == "queries").then_some("issue_time DESC")
}

fn select(table: &str, columns: Option<&str>, order_by: Option<&str>, limit: u64) -> String {
    let columns = columns.unwrap_or("*");
    let table_name = table.replace('"', "\"\"");
    let mut sql = format!("SELECT {columns} FROM system.\"{table_name}\"");
    if let Some(order) = order_by.or_else(|| default_order(table)) {
        sql.push_str(" ORDER BY ");
        sql.push_str(order);
    }
    if limit > 0 {
        sql.push_str(" LIMIT ");
        sql.push_str(&limit.to_string());
    }
    sql
}

async fn table_names(client: &Client, database: &str) -> Result<Vec<String>, CommandError> {
    #[derive(Deserialize)]
    struct Row {
        table_name: String,
    }
    let text = query(client, database, TABLE_NAMES.to_owned(), Format::Json)
        .await?
        .text()
        .await?;
    let rows: Vec<Row> = serde_json::from_str(&text)
        .map_err(|error| CommandError::message(format!("unexpected answer: {error}")))?;
    Ok(rows.into_iter().map(|row| row.table_name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_sql() {
        assert_eq!(
            select("plugin_files", None, None, 0),
            "SELECT * FROM system.\"plugin_files\""
        );
        assert_eq!(
            select("queries", Some("id"), None, 100),
            "SELECT id FROM system.\"queries\" ORDER BY issue_time DESC LIMIT 100"
        );
        assert_eq!(
            select("queries", None, Some("id, phase"), 5),
            "SELECT * FROM system.\"queries\" ORDER BY id, phase LIMIT 5"
        );
    }
}
