//! Runs a tool (the venv module, pip, uv) to its end and hands on what it prints.

use std::{
    io,
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use rustix::process::Pid;
use tokio::{
    process::{Child, Command},
    sync::mpsc,
};

use crate::{
    PluginUser,
    descendants::{Family, Mark},
    output::{Tail, read_lines},
};

/// How a tool ended.
#[derive(Debug)]
pub(crate) struct ToolRun {
    pub(crate) status: ExitStatus,
    /// The last lines of both its streams, in the order in which they came.
    pub(crate) output: String,
}

/// Runs a command as `user`, the server's own if there is none. It is killed, with all that it has started, when the future
/// is dropped. Lines are given to `on_line` as they come.
pub(crate) async fn run_tool(
    mut command: Command,
    user: Option<Arc<PluginUser>>,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> io::Result<ToolRun> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A terminal's signals are for the server, which then ends the tool.
        .process_group(0)
        .kill_on_drop(true);
    let start = |mark: Mark| {
        // SAFETY: between fork and exec only system calls are made, on values that were prepared before.
        unsafe {
            command.pre_exec(move || {
                mark.put();
                Ok(user.as_ref().map_or(Ok(()), |user| user.become_it())?)
            });
        }
        command.spawn()
    };
    let pid = |child: &Child| Pid::from_raw(child.id()?.cast_signed());
    // Ends when it is dropped, behind the child.
    let (_family, mut child) = Family::found(start, pid)?;
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
