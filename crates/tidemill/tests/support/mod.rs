//! Runs the program in an empty folder with an empty environment, and renders what it did for a snapshot.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// A place to run commands in.
pub(crate) struct Cli {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

#[allow(dead_code, reason = "every test binary uses another part")]
impl Cli {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            variables: Vec::new(),
        }
    }

    /// Sets a variable for all commands.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Working and home directory of the commands.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command
            .args(arguments)
            .current_dir(self.folder())
            .env_clear()
            .env("HOME", self.folder())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Exit code, standard output and standard error of a command.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the program runs");
        self.render(&output)
    }

    /// The same, of a command that reads `input`.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> String {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut stdin = child.stdin.take().expect("a piped input");
        // A command that fails early does not read all of it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        self.render(&child.wait_with_output().expect("the program ends"))
    }

    fn render(&self, output: &Output) -> String {
        let mut text = format!("exit code {}", output.status.code().unwrap_or(-1));
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            let stream = String::from_utf8_lossy(bytes);
            if !stream.is_empty() {
                text = format!("{text}\n--- {name}\n{}", stream.trim_end());
            }
        }
        let folder = self.folder().display().to_string();
        text.replace(&folder, "[folder]")
    }
}
