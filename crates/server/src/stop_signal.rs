//! When a server is to stop.

use std::io;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

/// Becomes true at the first SIGTERM or SIGINT, or when one of `fences` becomes true, each of which says in its own way
/// that another process has taken this node over. Another signal ends the process at once.
pub(crate) fn stop_signal(
    fences: Vec<(&'static str, watch::Receiver<bool>)>,
) -> io::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let mut fences: FuturesUnordered<_> = fences.into_iter().map(until_true).collect();
        let first = tokio::select! {
            signal = next() => signal,
            Some(fence) = fences.next() => fence,
        };
        info!(signal = first, "stopping: draining connections");
        sender.send_replace(true);
        let second = next().await;
        warn!(signal = second, "second signal: ending at once");
        std::process::exit(130);
    });
    Ok(receiver)
}

/// Returns the name of a fence when it is true; never, where nobody is there to say so.
async fn until_true((name, mut fence): (&'static str, watch::Receiver<bool>)) -> &'static str {
    if fence.wait_for(|is_true| *is_true).await.is_err() {
        std::future::pending::<()>().await;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn any_fence_stops_the_server_and_one_that_is_gone_does_not() {
        let (gone, (quiet, lost)) = (
            watch::Sender::new(false),
            (watch::Sender::new(false), watch::Sender::new(false)),
        );
        let fences = vec![
            ("gone", gone.subscribe()),
            ("quiet", quiet.subscribe()),
            ("lost", lost.subscribe()),
        ];
        drop(gone);
        let mut stops = stop_signal(fences).unwrap();
        tokio::task::yield_now().await;
        assert!(!*stops.borrow());
        lost.send_replace(true);
        stops.wait_for(|stops| *stops).await.unwrap();
        drop(quiet);
    }
}
