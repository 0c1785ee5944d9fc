//! `cargo xtask`: the project's automation, so that there are no shell scripts to keep.
//!
//! It is: the tasks that build, test, check, demonstrate and measure the product, using it only as a user does, through
//! the program and its HTTP interface. It is not: part of the product; no crate depends on it and nothing of it ships.
//!
//! Invariants: a task that fails ends with a non-zero exit code and says what to do; whatever a task starts it also
//! stops; nothing is written outside the target directory and temporary directories.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks to its user"
)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod api;
mod bench;
mod bystanders;
mod checks;
mod compile;
mod demo;
mod disk;
mod failure;
mod faults;
mod http;
mod interruption;
mod machine;
mod plugin_files;
mod prerequisites;
mod process_info;
mod proof;
mod python;
mod random;
mod s3;
mod server;
mod statistics;
mod storage;
mod waiting;
mod workspace;

use failure::Failure;
use workspace::Workspace;

/// Build, test, check, demonstrate and measure Tidemill.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the release program and give it its second name, influxdb3.
    Build,
    /// Build what whole-program tests need, then run every test.
    Test(checks::TestOptions),
    /// Check the format and the lints of the whole workspace.
    Lint,
    /// Start a server and run the example plugins on this machine's own figures.
    Demo(demo::DemoOptions),
    /// Generate load and measure a server.
    #[command(after_long_help = bench::budgets())]
    Bench(bench::BenchOptions),
    /// Let plugins do their worst to a server and measure what its other users notice.
    Faults(faults::FaultOptions),
    /// Ingest many rows, kill the server with -9 while it compacts them, and compare every count and checksum.
    KillCompaction(proof::ProofOptions),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.task).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(task: Task) -> Result<(), Failure> {
    let workspace = Workspace::locate()?;
    match task {
        Task::Build => {
            prerequisites::ensure()?;
            compile::release(&workspace)
        }
        Task::Test(options) => checks::test(&workspace, &options),
        Task::Lint => checks::lint(&workspace),
        Task::Demo(options) => demo::run(&workspace, &options).await,
        Task::Bench(options) => bench::run(&workspace, &options).await,
        Task::Faults(options) => faults::run(&workspace, &options).await,
        Task::KillCompaction(options) => proof::run(&workspace, &options).await,
    }
}
