//! `delete rows`

use clap::Args;
use tidemill_client::DeleteRows;

use crate::{
    confirm,
    connection::{Connection, Database},
    failure::CommandError,
    print,
};

const HELP: &str = "\
Rows are deleted that are there when the command runs; what is written later stays. Conditions are on tags and time and
are joined by AND: =, !=, IN and NOT IN for tags, =, <, <=, > and >= for time.

Examples:
  tidemill delete rows --database weather --table air --where \"site = 'pier' AND sensor IN ('a', 'b')\"
  tidemill delete rows --database weather --table air --start 2024-05-01 --stop 2024-05-01T23:59:59.999999999Z --yes
  tidemill delete rows --database weather --table air --where \"time < '2020-01-01'\"";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct RowsArgs {
    #[command(flatten)]
    database: Database,

    /// Name of the table
    #[arg(short, long, value_name = "TABLE")]
    table: String,

    /// First instant: a time such as 2024-05-01T12:00:00Z, a date, or nanoseconds since 1970 [default: the beginning]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    start: Option<String>,

    /// Last instant, included [default: the end]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    stop: Option<String>,

    /// Conditions that the rows satisfy; without any, all rows of the time are deleted
    #[arg(long = "where", value_name = "PREDICATE")]
    predicate: Option<String>,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    connection: Connection,
}

impl RowsArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        if !self.yes {
            confirm::deletion_of(&self.description())?;
        }
        let rows = DeleteRows {
            db: self.database.database,
            table: self.table,
            start: self.start,
            stop: self.stop,
            predicate: self.predicate,
        };
        client.delete_rows(&rows).await?;
        print::line(&format!(
            "Rows of \"{}\".\"{}\" deleted successfully",
            rows.db, rows.table
        ))
    }

    /// What is deleted, for the question.
    fn description(&self) -> String {
        let limits = [
            self.start.as_ref().map(|start| format!("from {start}")),
            self.stop.as_ref().map(|stop| format!("to {stop}")),
            self.predicate
                .as_ref()
                .map(|predicate| format!("where {predicate}")),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        let table = format!("\"{}\".\"{}\"", self.database.database, self.table);
        if limits.is_empty() {
            format!("all rows of {table}")
        } else {
            format!("the rows of {table} {}", limits.join(" "))
        }
    }
}
