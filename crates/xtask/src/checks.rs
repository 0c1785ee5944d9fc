//! `test` and `lint`.

use clap::Args;

use crate::compile::{self, run_visibly};
use crate::failure::Failure;
use crate::prerequisites;
use crate::workspace::{Workspace, cargo};

/// Options of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct TestOptions {
    /// Passed to `cargo test`, for example `--package tidemill-wal` or `-- name_of_a_test`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo_arguments: Vec<String>,
}

/// Runs the tests, after building the program that whole-program tests start.
pub(crate) fn test(workspace: &Workspace, options: &TestOptions) -> Result<(), Failure> {
    prerequisites::ensure()?;
    compile::release(workspace)?;
    let mut command = cargo();
    command.args(["test", "--release"]).current_dir(workspace.root());
    if options.cargo_arguments.is_empty() {
        command.arg("--workspace");
    }
    run_visibly(command.args(&options.cargo_arguments))
}

/// Fails where a file is not formatted or a lint fires.
pub(crate) fn lint(workspace: &Workspace) -> Result<(), Failure> {
    run_visibly(
        cargo()
            .args(["fmt", "--all", "--check"])
            .current_dir(workspace.root()),
    )?;
    run_visibly(
        cargo()
            .args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
            .current_dir(workspace.root()),
    )
}
