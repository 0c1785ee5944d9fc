//! Ctrl-C and SIGTERM: the end of a task that has processes to stop first.

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{During, Failure};

/// Returns when the user has had enough, by Ctrl-C or by ending the task.
pub(crate) async fn interrupted() -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).during("cannot listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).during("cannot listen for SIGTERM")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    println!();
    Ok(())
}
