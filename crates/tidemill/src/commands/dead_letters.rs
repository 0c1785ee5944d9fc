//! Dead letters, runs that failed too often: `show dead-letters`, `replay trigger`, `drop dead-letters`.

use clap::{Args, Subcommand};

use super::show::query_with;
use crate::{
    connection::{Connection, Database},
    failure::CommandError,
    format::{Format, TextFormat},
    print,
};

const SHOW_HELP: &str = "\
A run of a trigger with the error behavior retry becomes a dead letter when it has failed as often as --max-attempts allows.
The trigger goes on; the dead letter keeps what the run was given.

Examples:
  tidemill show dead-letters --database weather
  tidemill show dead-letters --database weather --trigger alert --format json";

const REPLAY_HELP: &str = "\
Dead letters are runs that failed too often. Those that succeed now are gone; those that fail again stay. The exit code is 1 if
one of them failed.

Examples:
  tidemill replay trigger alert --database weather
  tidemill replay trigger alert --database weather --run-id w-1-2-40-41 --run-id w-1-2-50-52";

const DROP_HELP: &str = "\
The rows that the runs were given stay in their tables; only the runs are forgotten.

Examples:
  tidemill drop dead-letters --database weather --trigger alert
  tidemill drop dead-letters --database weather --trigger alert --run-id w-1-2-40-41";

const COLUMNS: &str = "event_time, trigger_name, run_id, kind, attempts, rows, error";

#[derive(Debug, Args)]
#[command(after_help = SHOW_HELP)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    database: Database,

    /// Only those of one trigger
    #[arg(long, value_name = "NAME")]
    trigger: Option<String>,

    /// Format of the list
    #[arg(long, value_enum, default_value = "pretty")]
    format: TextFormat,

    #[command(flatten)]
    connection: Connection,
}

impl ShowArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let format = Format::from(self.format);
        let condition = self
            .trigger
            .as_ref()
            .map_or("", |_| "WHERE trigger_name = $name ");
        let sql = format!(
            "SELECT {COLUMNS} FROM system.processing_engine_dead_letters {condition}ORDER BY event_time, run_id"
        );
        let parameters = self.trigger.iter().map(|name| ("name", name.as_str()));
        let answer = query_with(&client, &self.database.database, sql, parameters, format).await?;
        print::answer(answer, format).await
    }
}

/// Which dead letters.
#[derive(Debug, Args)]
struct Letters {
    /// Only the run with this id, as `show dead-letters` has it; may be given several times
    #[arg(long = "run-id", value_name = "ID")]
    run_ids: Vec<String>,

    #[command(flatten)]
    database: Database,

    #[command(flatten)]
    connection: Connection,
}

impl Letters {
    /// `None` for all.
    fn run_ids(&self) -> Option<&[String]> {
        Some(self.run_ids.as_slice()).filter(|ids| !ids.is_empty())
    }

    /// An error where runs were named that are none, so that a misspelt id does not pass for a success.
    fn check_found(&self, count: u64, trigger_name: &str) -> Result<(), CommandError> {
        let asked = self.run_ids.len() as u64;
        if count >= asked {
            return Ok(());
        }
        Err(CommandError::message(format!(
            "{} of the {asked} runs are no dead letters of trigger {trigger_name}; `tidemill show dead-letters` lists them",
            asked - count
        )))
    }
}

#[derive(Debug, Args)]
#[command(after_help = REPLAY_HELP)]
pub(crate) struct ReplayArgs {
    /// Name of the trigger
    trigger_name: String,

    #[command(flatten)]
    letters: Letters,
}

impl ReplayArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let (letters, name) = (&self.letters, &self.trigger_name);
        let client = letters.connection.client()?;
        let done = client
            .replay_dead_letters(&letters.database.database, name, letters.run_ids())
            .await?;
        print::line(&match done.replayed {
            0 => format!("No dead letter of trigger {name} replayed"),
            1 => format!("1 dead letter of trigger {name} replayed"),
            count => format!("{count} dead letters of trigger {name} replayed"),
        })?;
        if done.failed > 0 {
            let database = &letters.database.database;
            return Err(CommandError::message(format!(
                "{} failed again and stay; `tidemill logs trigger {name} --database {database}` says why",
                done.failed
            )));
        }
        letters.check_found(done.replayed, name)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum DropCommand {
    /// Forget runs that failed too often
    #[command(alias = "dead-letter")]
    DeadLetters(DropArgs),
}

#[derive(Debug, Args)]
#[command(after_help = DROP_HELP)]
pub(crate) struct DropArgs {
    /// Name of the trigger
    #[arg(short, long, value_name = "NAME")]
    trigger: String,

    #[command(flatten)]
    letters: Letters,
}

impl DropCommand {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        let Self::DeadLetters(DropArgs { trigger, letters }) = self;
        let client = letters.connection.client()?;
        let done = client
            .drop_dead_letters(&letters.database.database, &trigger, letters.run_ids())
            .await?;
        print::line(&match done.dropped {
            0 => format!("No dead letter of trigger {trigger} dropped"),
            1 => format!("1 dead letter of trigger {trigger} dropped"),
            count => format!("{count} dead letters of trigger {trigger} dropped"),
        })?;
        letters.check_found(done.dropped, &trigger)
    }
}
