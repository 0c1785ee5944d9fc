//! Runs a tool (the venv module, pip, uv) to its end and hands on what it prints.

use std::{
    io,
    process::{ExitStatus, Stdio},
};

use tokio::{process::Command, sync::mpsc};

use crate::output::{Tail, read_lines};

/// How a tool ended.
#[derive(Debug)]
pub(crate) struct ToolRun {
    pub(crate) status: ExitStatus,
    /// The last lines of both its streams, in the order in which they came.
    pub(crate) output: String,
}

/// Runs a command; it is killed when the future is dropped. Lines are given to `on_line` as they come.
pub(crate) async fn run_tool(
    mut command: Command,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> io::Result<ToolRun> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let (lines, mut printed) = mpsc::unbounded_channel();
    if let Some(stdout) = child.stdout.take() {
        let lines = lines.clone();
        tokio::spawn(read_lines(stdout, move |line| drop(lines.send(line.to_owned()))));
    }
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(read_lines(stderr, move |line| drop(lines.send(line.to_owned()))));
    }
    let mut tail = Tail::default();
    while let Some(line) = printed.recv().await {
        tail.push(&line);
        on_line(&line);
    }
    Ok(ToolRun {
        status: child.wait().await?,
        output: tail.text(),
    })
}
