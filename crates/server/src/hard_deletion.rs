//! What removes the data of deleted tables when its time has come.

use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tidemill_catalog::Catalog;
use tidemill_store::{Storage, hard_delete_due, next_hard_delete};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// Between two looks at the catalog, however often it changes.
const PAUSE: Duration = Duration::from_secs(1);
/// A write that was under way when its table was given up may leave rows behind.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// Before a step that has failed is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(30);

/// A task that goes on until it is dropped. Whatever it is stopped in, the next start goes on with.
pub(crate) struct HardDeletion {
    task: JoinHandle<()>,
}

impl HardDeletion {
    pub(crate) fn start(catalog: Arc<Catalog>, storage: Arc<Storage>, grace_period: Duration) -> Self {
        let grace = TimeDelta::from_std(grace_period).unwrap_or(TimeDelta::MAX);
        Self {
            task: tokio::spawn(run(catalog, storage, grace)),
        }
    }
}

impl Drop for HardDeletion {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(catalog: Arc<Catalog>, storage: Arc<Storage>, grace: TimeDelta) {
    let mut changes = catalog.changes();
    loop {
        match hard_delete_due(&catalog, &storage, grace, Utc::now()).await {
            Ok(done) => {
                for table in done.data_of {
                    info!(%table, "the data of a deleted table was removed");
                }
                for table in done.tables {
                    info!(%table, "a deleted table was taken out of the catalog");
                }
                for database in done.databases {
                    info!(%database, "a deleted database was taken out of the catalog");
                }
            }
            Err(error) => {
                warn!(%error, "hard deletion was interrupted, it is tried again");
                sleep(RETRY_DELAY).await;
                continue;
            }
        }
        if timeout(LONGEST_WAIT, until_due(&catalog, &mut changes, grace))
            .await
            .is_ok_and(|catalog_is_there| !catalog_is_there)
        {
            return;
        }
    }
}

/// Waits until the catalog says that something is due. False when it never will.
async fn until_due(catalog: &Catalog, changes: &mut watch::Receiver<u64>, grace: TimeDelta) -> bool {
    loop {
        sleep(PAUSE).await;
        changes.mark_unchanged();
        let next = next_hard_delete(&catalog.state(), grace);
        // A time that is over waits no longer.
        let wait = next.map(|next| (next - Utc::now()).to_std().unwrap_or_default());
        if wait.is_some_and(|wait| wait.is_zero()) {
            return true;
        }
        tokio::select! {
            () = sleep(wait.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)) => {}
            changed = changes.changed() => {
                if changed.is_err() {
                    return false;
                }
            }
        }
    }
}
