//! `logs trigger`: what a plugin has logged, and what it logs from now on.

use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde::Deserialize;
use tidemill_client::{Client, ClientError};

use super::show::query_with;
use crate::{
    connection::{Connection, Database},
    failure::CommandError,
    format::Format,
    print,
};

const TRIGGER_HELP: &str = "\
Each line is a time in UTC, a level and a text. With --follow the command goes on until Ctrl-C, also while the server is
restarted.

Examples:
  tidemill logs trigger alert --database weather
  tidemill logs trigger alert --database weather --lines 20 --follow";

/// How often new lines are asked for.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(crate) enum LogsCommand {
    /// Show what a trigger's plugin has logged
    #[command(after_help = TRIGGER_HELP)]
    Trigger(TriggerArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TriggerArgs {
    /// Name of the trigger
    trigger_name: String,

    #[command(flatten)]
    database: Database,

    /// Newest lines to show; 0 for all
    #[arg(short = 'n', long, default_value = "100", value_name = "N")]
    lines: usize,

    /// Go on with lines as they come
    #[arg(short, long)]
    follow: bool,

    #[command(flatten)]
    connection: Connection,
}

/// A row of `system.processing_engine_logs`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct LogLine {
    /// Nanoseconds since the epoch.
    at: u64,
    log_level: String,
    log_text: String,
}

impl LogLine {
    fn render(&self) -> String {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(self.at);
        let time = humantime::format_rfc3339_millis(time);
        // Further lines of a traceback stand under the first.
        let text = self.log_text.replace('\n', "\n    ");
        format!("{time} {:5} {text}", self.log_level)
    }
}

impl LogsCommand {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Trigger(args) => args.run().await,
        }
    }
}

impl TriggerArgs {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        self.check_trigger(&client).await?;
        let mut reader = LogReader::default();
        let mut lines = reader.new_lines(self.read(&client, reader.newest).await?);
        if self.lines > 0 {
            lines.drain(..lines.len().saturating_sub(self.lines));
        }
        show(&lines)?;
        if self.follow {
            self.follow(&client, reader).await
        } else {
            Ok(())
        }
    }

    async fn follow(&self, client: &Client, mut reader: LogReader) -> Result<(), CommandError> {
        let mut is_interrupted = false;
        loop {
            tokio::time::sleep(FOLLOW_INTERVAL).await;
            match self.read(client, reader.newest).await {
                Ok(read) => {
                    is_interrupted = false;
                    show(&reader.new_lines(read))?;
                }
                Err(error) if !is_interrupted => {
                    is_interrupted = true;
                    print::error(&format!("{error}; will go on when the server answers"));
                }
                Err(_) => {}
            }
        }
    }

    async fn check_trigger(&self, client: &Client) -> Result<(), CommandError> {
        let sql = "SELECT trigger_name FROM system.processing_engine_triggers WHERE trigger_name = $name";
        let rows = self.query(client, sql).await?;
        if rows.trim() != "[]" {
            return Ok(());
        }
        Err(CommandError::message(format!(
            "the database {} has no trigger {}; `tidemill show triggers` lists them",
            self.database.database, self.trigger_name
        )))
    }

    /// The lines at `since` and after it, oldest first.
    async fn read(&self, client: &Client, since: u64) -> Result<Vec<LogLine>, CommandError> {
        let sql = format!(
            "SELECT CAST(event_time AS BIGINT) AS at, log_level, log_text FROM system.processing_engine_logs \
             WHERE trigger_name = $name AND CAST(event_time AS BIGINT) >= {since} ORDER BY event_time"
        );
        let text = self.query(client, &sql).await?;
        serde_json::from_str(&text)
            .map_err(|error| CommandError::message(format!("unexpected answer: {error}")))
    }

    async fn query(&self, client: &Client, sql: &str) -> Result<String, ClientError> {
        let name = ("name", self.trigger_name.as_str());
        let database = &self.database.database;
        let answer = query_with(client, database, sql.to_owned(), [name], Format::Json).await?;
        answer.text().await
    }
}

fn show(lines: &[LogLine]) -> Result<(), CommandError> {
    for line in lines {
        print::line(&line.render())?;
    }
    Ok(())
}

/// Tells new lines from those that were shown.
#[derive(Debug, Default)]
struct LogReader {
    /// Time of the newest line that was shown.
    newest: u64,
    /// How many lines of that time were shown.
    shown_at_newest: usize,
}

impl LogReader {
    /// What is new of `lines`, which are all lines from `newest` on, in order.
    fn new_lines(&mut self, lines: Vec<LogLine>) -> Vec<LogLine> {
        let at_newest = |lines: &[LogLine], time| lines.iter().filter(|line| line.at == time).count();
        let shown = self.shown_at_newest.min(at_newest(&lines, self.newest));
        if let Some(last) = lines.last() {
            self.shown_at_newest = at_newest(&lines, last.at);
            self.newest = last.at;
        }
        lines.into_iter().skip(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(times: &[u64]) -> Vec<LogLine> {
        let line = |(number, at): (usize, &u64)| LogLine {
            at: *at,
            log_level: "INFO".to_owned(),
            log_text: number.to_string(),
        };
        times.iter().enumerate().map(line).collect()
    }

    #[test]
    fn a_line_is_shown_once_also_where_times_are_equal() {
        let mut reader = LogReader::default();
        assert_eq!(reader.new_lines(lines(&[1, 2, 2])).len(), 3);
        // From 2 on: both of that time are known.
        assert_eq!(reader.new_lines(lines(&[2, 2])).len(), 0);
        assert_eq!(reader.new_lines(lines(&[2, 2, 2, 3])).len(), 2);
        assert_eq!(reader.new_lines(lines(&[3])).len(), 0);
        // The server was restarted and has forgotten what was shown.
        assert_eq!(reader.new_lines(lines(&[4, 4])).len(), 2);
        assert_eq!(reader.new_lines(Vec::new()).len(), 0);
        assert_eq!(reader.new_lines(lines(&[4, 4, 4])).len(), 1);
    }

    #[test]
    fn a_line_reads_as_time_level_text() {
        let line = LogLine {
            at: 1_767_225_605_123_456_789,
            log_level: "WARN".to_owned(),
            log_text: "first\nsecond".to_owned(),
        };
        assert_eq!(line.render(), "2026-01-01T00:00:05.123Z WARN  first\n    second");
    }
}
