//! `demo`: the main job on real input, from one command. A server in a temporary directory samples this machine's CPU,
//! memory, disks and network with the plugins of `plugins/`, through the same commands that a user types.

use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;

use crate::compile;
use crate::failure::{During, Failure};
use crate::interruption::interrupted;
use crate::plugin_files::copy_plugins;
use crate::prerequisites;
use crate::server::{Server, ServerSetup};
use crate::workspace::Workspace;

mod command_line;
mod evidence;
mod presentation;
mod setting_up;

use command_line::CommandLine;
use evidence::Evidence;

/// Past this, something is broken rather than slow: samples come every second.
const EVIDENCE_DEADLINE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Options of `cargo xtask demo`.
#[derive(Args)]
pub(crate) struct DemoOptions {
    /// End after so many seconds, counted from the moment the triggers run; without it the demo runs until Ctrl-C.
    #[arg(long, env = "DEMO_SECONDS", value_name = "N")]
    seconds: Option<u64>,
}

/// Runs the demo. It fails unless derived rows, an alert and the answers of the request trigger were seen.
pub(crate) async fn run(workspace: &Workspace, options: &DemoOptions) -> Result<(), Failure> {
    presentation::step("checking what this machine has");
    prerequisites::ensure()?;
    presentation::step("building the release program (the first time takes several minutes)");
    compile::release(workspace)?;

    let directory = tempfile::Builder::new()
        .prefix("tidemill-demo-")
        .tempdir_in(env::temp_dir())
        .during("cannot make a temporary directory")?;
    let setup = ServerSetup::new(workspace.program(), "demo", directory.path())?;
    copy_plugins(&workspace.plugins(), &setup.plugin_dir())?;

    presentation::step("starting a server");
    let mut server = setup.start().await?;
    presentation::detail(&format!(
        "{} answers after {:.0} ms; its log is {}",
        server.endpoint().url(),
        server.time_to_healthy().as_secs_f64() * 1000.0,
        setup.log_path().display()
    ));
    let command_line = CommandLine::new(workspace, server.endpoint(), directory.path());

    let shown = tokio::select! {
        shown = show(&mut server, &command_line, options) => shown,
        interrupted = interrupted() => interrupted,
    };
    presentation::step("stopping the server");
    let stopped = server.stop().await;
    if shown.is_err() || stopped.is_err() {
        eprintln!("the end of the server's log:\n{}", setup.log_tail());
        eprintln!("everything of this run is kept in {}", directory.keep().display());
    }
    shown?;
    presentation::detail(&format!(
        "stopped after {:.1} s; the temporary directory is removed",
        stopped?.as_secs_f64()
    ));
    Ok(())
}

/// From the running server to the end of the demo.
async fn show(server: &mut Server, command_line: &CommandLine, options: &DemoOptions) -> Result<(), Failure> {
    setting_up::create_everything(command_line).await?;
    let ready = Instant::now();
    let patience = options.seconds.map_or(EVIDENCE_DEADLINE, Duration::from_secs);

    presentation::step("waiting for what the plugins derive");
    let mut evidence = Evidence::default();
    while !evidence.is_complete() {
        if ready.elapsed() > patience {
            command_line.show_plugin_logs().await;
            return Err(evidence.failure(ready.elapsed()));
        }
        look(server, &mut evidence, command_line).await?;
    }
    presentation::detail(&format!(
        "all there {:.1} s after the triggers",
        ready.elapsed().as_secs_f64()
    ));
    presentation::derived(command_line).await?;
    presentation::what_to_try(server.endpoint(), command_line);

    let Some(seconds) = options.seconds else {
        presentation::line("runs until Ctrl-C");
        loop {
            look(server, &mut evidence, command_line).await?;
        }
    };
    presentation::line(&format!("ends by itself {seconds} s after the triggers"));
    while ready.elapsed() < Duration::from_secs(seconds) {
        look(server, &mut evidence, command_line).await?;
    }
    presentation::derived(command_line).await
}

/// One look at the evidence and the server's health, and a pause.
async fn look(
    server: &mut Server,
    evidence: &mut Evidence,
    command_line: &CommandLine,
) -> Result<(), Failure> {
    if let Some(status) = server.ended() {
        return Err(Failure::new(format!("the server ended with {status}")));
    }
    if !evidence.is_complete() {
        evidence.gather(server.endpoint(), command_line).await;
    }
    tokio::time::sleep(LOOK_EVERY).await;
    Ok(())
}

/// A path as the user would type it here.
fn as_typed(path: &Path) -> String {
    let here = env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
