//! `record trigger`: saves what a trigger is given, for `replay plugin` and for tests.

use std::{
    fs::File,
    io::Write,
    num::NonZeroU64,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use tidemill_client::{Client, RecordedLine};
use tidemill_triggers::StartAt;

use crate::{
    connection::{Connection, Database},
    failure::CommandError,
    print,
};

/// How long one request waits for something to be written.
const WAIT: Duration = Duration::from_secs(10);

const TRIGGER_HELP: &str = "\
What is written is read as the trigger reads it, and the trigger itself goes on undisturbed; it may also be disabled. The file
has one JSON object a line: what was recorded, then one batch a line. It can be read as it grows. Ctrl-C ends the recording.

Examples:
  tidemill record trigger alert --database weather --output alert.jsonl --batches 3
  tidemill record trigger alert --database weather --output alert.jsonl --start-at beginning --timeout 5s
  tidemill replay plugin alert.jsonl --path ./alert.py";

#[derive(Debug, Subcommand)]
pub(crate) enum RecordCommand {
    /// Save batches of rows as a trigger is given them
    Trigger(TriggerArgs),
}

#[derive(Debug, Args)]
#[command(after_help = TRIGGER_HELP)]
pub(crate) struct TriggerArgs {
    /// Name of the trigger; it must be one that runs on writes
    trigger_name: String,

    #[command(flatten)]
    database: Database,

    /// File to write; must not exist yet
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// End after so many batches
    #[arg(long, default_value = "10", value_name = "N")]
    batches: NonZeroU64,

    /// End after this time, for example 30s or 5m
    #[arg(long, default_value = "1m", value_parser = humantime::parse_duration, value_name = "DURATION")]
    timeout: Duration,

    /// Where in the log to begin: now (what is written from now on), beginning, or a time such as 2026-01-31T06:00:00Z
    #[arg(long, default_value = "now", value_name = "WHERE")]
    start_at: StartAt,

    /// Replace the file if it exists
    #[arg(long)]
    overwrite: bool,

    #[command(flatten)]
    connection: Connection,
}

impl RecordCommand {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Trigger(args) => args.run().await,
        }
    }
}

impl TriggerArgs {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let head = client
            .start_recording(&self.database.database, &self.trigger_name, self.start_at)
            .await?;
        // Only now: what cannot be recorded leaves no file behind.
        let mut file = self.create_file()?;
        self.append(&mut file, &head)?;
        print::error(&format!(
            "Recording trigger {} into {}, until {} or for {}",
            self.trigger_name,
            self.output.display(),
            counted(self.batches.get()),
            humantime::format_duration(self.timeout)
        ));
        let mut recorded = 0;
        let batches = self.record(&client, head.position, &mut file, &mut recorded);
        tokio::select! {
            done = batches => done?,
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(CommandError::stream("signals"))?,
        }
        if recorded == 0 {
            return Err(CommandError::message(format!(
                "nothing was written that trigger {} reads; `--start-at beginning` records what was written before",
                self.trigger_name
            )));
        }
        print::line(&format!(
            "{} recorded into {}",
            counted(recorded),
            self.output.display()
        ))
    }

    async fn record(
        &self,
        client: &Client,
        mut position: u64,
        file: &mut File,
        recorded: &mut u64,
    ) -> Result<(), CommandError> {
        let deadline = Instant::now() + self.timeout;
        while *recorded < self.batches.get() {
            let left = deadline.saturating_duration_since(Instant::now());
            let next = client.record_next(
                &self.database.database,
                &self.trigger_name,
                position,
                left.min(WAIT),
            );
            let line = next.await?;
            position = line.position;
            if line.table_count > 0 {
                self.append(file, &line)?;
                *recorded += 1;
            } else if left.is_zero() {
                break;
            }
        }
        Ok(())
    }

    fn create_file(&self) -> Result<File, CommandError> {
        let created = if self.overwrite {
            File::create(&self.output)
        } else {
            File::create_new(&self.output)
        };
        created.map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => CommandError::message(format!(
                "{} exists; another --output, or --overwrite",
                self.output.display()
            )),
            _ => CommandError::file(&self.output)(source),
        })
    }

    /// A line at once: whoever reads the file meanwhile finds whole lines.
    fn append(&self, file: &mut File, line: &RecordedLine) -> Result<(), CommandError> {
        file.write_all(format!("{}\n", line.text).as_bytes())
            .map_err(CommandError::file(&self.output))
    }
}

fn counted(batches: u64) -> String {
    match batches {
        1 => "1 batch".to_owned(),
        count => format!("{count} batches"),
    }
}
