//! The lease of the node while the server runs: kept in the background, and given back at the end.

use std::sync::Arc;
use std::time::Duration;

use tidemill_object_stores::{LeaseError, LeaseLost, NodeLease, OpenedStore, ProcessIdentity, SystemClock};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, warn};

/// A store that is gone must not keep the server from ending.
const RELEASE_MAX: Duration = Duration::from_secs(5);

/// A lease that is renewed as long as this lives.
pub(crate) struct HeldLease {
    is_lost: watch::Receiver<bool>,
    give_back: oneshot::Sender<()>,
    keeper: JoinHandle<Result<(), LeaseLost>>,
}

impl HeldLease {
    /// Takes the lease of the node, which may have to wait for another process to show that it does not live.
    pub(crate) async fn take(store: &OpenedStore, node_id: &str) -> Result<Self, LeaseError> {
        // Not behind other requests: under load it must be renewed too.
        let objects = Arc::clone(&store.unlimited);
        let clock = Arc::new(SystemClock::default());
        let lease = NodeLease::acquire(objects, node_id, ProcessIdentity::current(), clock).await?;
        let (lost, is_lost) = watch::channel(false);
        let (give_back, asked_back) = oneshot::channel();
        Ok(Self {
            is_lost,
            give_back,
            keeper: tokio::spawn(keep(lease, lost, asked_back)),
        })
    }

    /// Becomes true when another process has taken the lease.
    pub(crate) fn is_lost(&self) -> watch::Receiver<bool> {
        self.is_lost.clone()
    }

    /// Ends the renewal and gives the lease back.
    ///
    /// # Errors
    /// When another process has it.
    pub(crate) async fn give_back(self) -> Result<(), LeaseLost> {
        // Nobody listens any more when it was lost.
        let _ = self.give_back.send(());
        match self.keeper.await {
            Ok(kept) => kept,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

async fn keep(
    mut lease: NodeLease,
    is_lost: watch::Sender<bool>,
    asked_back: oneshot::Receiver<()>,
) -> Result<(), LeaseLost> {
    let lost = tokio::select! {
        lost = lease.keep() => lost,
        _ = asked_back => {
            match tokio::time::timeout(RELEASE_MAX, lease.release()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!(%error, "cannot give back the lease of this node id"),
                Err(_) => warn!("cannot give back the lease of this node id: the object store does not answer"),
            }
            return Ok(());
        }
    };
    error!(error = %lost, "stopping");
    is_lost.send_replace(true);
    Err(lost)
}
