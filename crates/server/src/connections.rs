//! Connections: how they are accepted, what a client may do to one, and how they end.
//!
//! No client can keep others out by doing nothing: silence before and within a request head, a peer who does not take its
//! answer, and dead HTTP/2 peers end a connection (bodies have limits of their own, see [`crate::body`]). Connections
//! never take all files that the process may open, since the log needs some too.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::stall_guard::StallGuard;

/// Connections at once, where the process may open enough files.
const CONNECTIONS_MAX: usize = 10_000;
/// The share of the files that connections may take.
const FILES_PER_CONNECTION: usize = 2;
/// Where the limit on files cannot be told.
const FILES_GUESS: usize = 1024;

/// What a client may do to a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// Connections at once; more wait to be accepted.
    pub(crate) connections_max: usize,
    /// From the end of one answer to the end of the next request's head: so long an idle connection is kept.
    pub(crate) head_max: Duration,
    /// How long a peer may take nothing of its answer.
    pub(crate) write_stall_max: Duration,
    /// How often an HTTP/2 peer is asked whether it is still there, and how long it may think about it.
    pub(crate) ping_interval: Duration,
}

impl ConnectionLimits {
    /// The limits of this process.
    pub(crate) fn of_this_process() -> Self {
        Self {
            connections_max: (open_files_max() / FILES_PER_CONNECTION).clamp(1, CONNECTIONS_MAX),
            head_max: Duration::from_mins(2),
            write_stall_max: Duration::from_mins(1),
            ping_interval: Duration::from_secs(30),
        }
    }
}

/// How many files this process may open.
fn open_files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    match limit {
        Some("unlimited") => usize::MAX,
        Some(limit) => limit.parse().unwrap_or(FILES_GUESS),
        None => FILES_GUESS,
    }
}

/// Answers requests until `stop` is true, then lets what was begun finish for a while and closes what is left.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    mut stop: watch::Receiver<bool>,
    drain_timeout: Duration,
) {
    let builder = builder(&limits);
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let draining = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let (stream, slot) = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let guarded = StallGuard::new(stream, limits.head_max, limits.write_stall_max);
        let service = TowerToHyperService::new(router.clone());
        let connection = builder.serve_connection(TokioIo::new(guarded), service);
        let connection = draining.watch(connection.into_owned());
        connections.spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection ended early");
            }
            drop(slot);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    if tokio::time::timeout(drain_timeout, draining.shutdown())
        .await
        .is_err()
    {
        warn!(
            connections = connections.len(),
            timeout = ?drain_timeout,
            "closing connections that are still open"
        );
    }
}

fn builder(limits: &ConnectionLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_interval);
    builder
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    if slots.available_permits() == 0 {
        warn!("all connections are in use, new ones have to wait");
    }
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and whole; waiting to fill a packet only delays them.
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(%error, "cannot set TCP_NODELAY");
                }
                return (stream, slot);
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                warn!(%error, "cannot accept connections, trying again in a second");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
