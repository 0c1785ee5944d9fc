//! `enable trigger`, `disable trigger`

use clap::{Args, Subcommand};

use crate::{
    connection::{Connection, Database},
    failure::CommandError,
    print,
};

const ENABLE_HELP: &str = "\
Example:
  tidemill enable trigger alert --database weather";

const DISABLE_HELP: &str = "\
A run that is going on is ended. What is written while a trigger is disabled is not lost to it: it goes on where it stopped.

Example:
  tidemill disable trigger alert --database weather";

#[derive(Debug, Subcommand)]
pub(crate) enum EnableCommand {
    /// Let a trigger run
    #[command(after_help = ENABLE_HELP)]
    Trigger(TriggerArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum DisableCommand {
    /// Stop a trigger from running
    #[command(after_help = DISABLE_HELP)]
    Trigger(TriggerArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TriggerArgs {
    /// Name of the trigger
    trigger_name: String,

    #[command(flatten)]
    database: Database,

    #[command(flatten)]
    connection: Connection,
}

impl EnableCommand {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        let Self::Trigger(args) = self;
        let client = args.connection.client()?;
        client
            .enable_trigger(&args.database.database, &args.trigger_name)
            .await?;
        print::line(&format!("Trigger {} enabled successfully", args.trigger_name))
    }
}

impl DisableCommand {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        let Self::Trigger(args) = self;
        let client = args.connection.client()?;
        client
            .disable_trigger(&args.database.database, &args.trigger_name)
            .await?;
        print::line(&format!("Trigger {} disabled successfully", args.trigger_name))
    }
}
