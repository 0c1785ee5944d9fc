//! Builds the program, the extension that its workers load, and the program's second name.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{During, Failure};
use crate::workspace::{Workspace, cargo};

/// What must exist before a server can run plugins.
const PACKAGES: [&str; 2] = ["tidemill", "tidemill-worker-py"];

/// Builds in the release profile and makes the link `influxdb3` beside the program.
pub(crate) fn release(workspace: &Workspace) -> Result<(), Failure> {
    let mut command = cargo();
    command.args(["build", "--release"]).current_dir(workspace.root());
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    run_visibly(&mut command)?;
    link(&workspace.program_as_influxdb3(), "tidemill")
}

/// The program that a task was told to use, or the one of this checkout, which is built then.
pub(crate) fn named_or_release(workspace: &Workspace, named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return path
            .canonicalize()
            .during(format!("cannot find {}", path.display()));
    }
    release(workspace)?;
    Ok(workspace.program())
}

/// Runs a command whose output the user sees; an unsuccessful end is a [`Failure`] that names the command.
pub(crate) fn run_visibly(command: &mut Command) -> Result<(), Failure> {
    let line = command_line(command);
    eprintln!("$ {line}");
    let status = command.status().during(format!("cannot start `{line}`"))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("`{line}` ended with {status}")))
    }
}

fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Makes `link` point to `name` in the same directory, whatever stood there before.
fn link(link: &Path, name: &str) -> Result<(), Failure> {
    if fs::read_link(link).is_ok_and(|now| now == Path::new(name)) {
        return Ok(());
    }
    match fs::remove_file(link) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(Failure::new(format!(
                "cannot replace {}: {error}",
                link.display()
            )));
        }
        _ => {}
    }
    symlink(name, link).during(format!("cannot make the link {}", link.display()))
}
