//! All commands, and which of them was asked for.

mod backup;
mod backup_place;
mod compaction_settings;
mod create;
mod create_plugin;
mod dead_letters;
mod delete;
mod delete_rows;
mod install;
mod logs;
mod query;
mod record;
mod replay;
mod restore;
mod serve;
mod serve_deletion;
mod settings;
mod show;
mod show_retention;
mod show_storage;
mod show_system;
mod snapshot_settings;
mod storage_args;
mod switch;
mod test_plugin;
mod trigger_settings;
mod undelete;
mod update;
mod verify;
mod write;

use std::process::ExitCode;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    environment,
    failure::{CommandError, Verb, exit_code},
    print,
};

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (compatible with InfluxDB 3 Core 3.10)"
);

const AFTER_HELP: &str = "\
Without a command, a server is started on a data directory under your home, for this machine only.

Examples:
  tidemill                                                   start a server to try things out
  tidemill create database weather
  tidemill write --database weather 'air,site=pier temperature=11.5'
  tidemill query --database weather 'SELECT * FROM air'

Every INFLUXDB3_* variable may also be given as TIDEMILL_*, which takes precedence.
A .env file in the working directory is read first.";

/// A time series database that runs your Python next to your data.
#[derive(Debug, Parser)]
#[command(
    name = "tidemill",
    version = VERSION,
    after_help = AFTER_HELP,
    disable_help_subcommand = true,
    infer_long_args = false
)]
struct Cli {
    /// Print all help
    #[arg(long, global = true, hide = true, action = ArgAction::HelpLong)]
    help_all: Option<bool>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "made once, when the program starts")]
enum Command {
    /// Run a server
    Serve(Box<serve::ServeArgs>),
    #[command(flatten)]
    Client(ClientCommand),
}

/// Commands that talk to a server, or work on what one has stored.
#[derive(Debug, Subcommand)]
enum ClientCommand {
    /// Query a database
    #[command(visible_alias = "q")]
    Query(query::QueryArgs),
    /// Write line protocol into a database
    #[command(visible_alias = "w")]
    Write(write::WriteArgs),
    /// Create a database, a table, a plugin or a trigger
    #[command(subcommand)]
    Create(create::CreateCommand),
    /// Show databases, packages, plugins, triggers and system tables
    #[command(subcommand)]
    Show(show::ShowCommand),
    /// Show what a plugin logs
    #[command(subcommand)]
    Logs(logs::LogsCommand),
    /// Change a database, a table or a trigger
    #[command(subcommand)]
    Update(update::UpdateCommand),
    /// Delete a database, a table, rows or a trigger
    #[command(subcommand)]
    Delete(delete::DeleteCommand),
    /// Take back the deletion of a database or a table
    #[command(subcommand)]
    Undelete(undelete::UndeleteCommand),
    /// Forget runs that failed too often
    #[command(subcommand)]
    Drop(dead_letters::DropCommand),
    /// Enable a trigger
    #[command(subcommand)]
    Enable(switch::EnableCommand),
    /// Disable a trigger
    #[command(subcommand)]
    Disable(switch::DisableCommand),
    /// Try a plugin without writing anything
    #[command(subcommand)]
    Test(test_plugin::TestCommand),
    /// Save what a trigger is given, to run plugins on it
    #[command(subcommand)]
    Record(record::RecordCommand),
    /// Run failed runs again, or a plugin on a recording
    #[command(subcommand)]
    Replay(replay::ReplayCommand),
    /// Install Python packages for plugins
    #[command(subcommand)]
    Install(install::InstallCommand),
    /// Copy everything that a server stores, while it works on
    Backup(Box<backup::BackupArgs>),
    /// Make a node out of a backup, for a server to start on
    Restore(Box<restore::RestoreArgs>),
    /// Read back everything that a node stores, and say what is damaged
    Verify(Box<verify::VerifyArgs>),
}

/// Runs the command that the arguments ask for.
pub(crate) fn run() -> ExitCode {
    let mut command = environment::with_all_names(Cli::command());
    let matches = command.get_matches_mut();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit());
    match cli.command {
        None => exit_code(Verb::Serve, serve::quick_start()),
        Some(Command::Serve(args)) => exit_code(Verb::Serve, serve::run(*args)),
        Some(Command::Client(command)) => run_client(command),
    }
}

fn run_client(command: ClientCommand) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print::error(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let (verb, result) = runtime.block_on(dispatch(command));
    // A thread that waits for standard input must not keep a failed command from ending.
    runtime.shutdown_background();
    exit_code(verb, result)
}

async fn dispatch(command: ClientCommand) -> (Verb, Result<(), CommandError>) {
    match command {
        ClientCommand::Query(args) => (Verb::Query, args.run().await),
        ClientCommand::Write(args) => (Verb::Write, args.run().await),
        ClientCommand::Create(command) => (Verb::Create, command.run().await),
        ClientCommand::Show(command) => (Verb::Show, command.run().await),
        ClientCommand::Logs(command) => (Verb::Logs, command.run().await),
        ClientCommand::Update(command) => (Verb::Update, command.run().await),
        ClientCommand::Delete(command) => (Verb::Delete, command.run().await),
        ClientCommand::Undelete(command) => (Verb::Undelete, command.run().await),
        ClientCommand::Drop(command) => (Verb::Drop, command.run().await),
        ClientCommand::Enable(command) => (Verb::Enable, command.run().await),
        ClientCommand::Disable(command) => (Verb::Disable, command.run().await),
        ClientCommand::Test(command) => (Verb::Test, command.run().await),
        ClientCommand::Record(command) => (Verb::Record, command.run().await),
        ClientCommand::Replay(command) => (Verb::Replay, command.run().await),
        ClientCommand::Install(command) => (Verb::Install, command.run().await),
        ClientCommand::Backup(args) => (Verb::Backup, args.run().await),
        ClientCommand::Restore(args) => (Verb::Restore, args.run().await),
        ClientCommand::Verify(args) => (Verb::Verify, args.run().await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.get_subcommands().next().is_some() {
                for subcommand in command.get_subcommands() {
                    check(subcommand, &path);
                }
                return;
            }
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Example"), "{path} has no example");
        }
        check(&Cli::command(), "");
    }
}
