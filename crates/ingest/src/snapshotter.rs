//! The task that makes snapshots when they are due.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::ingest::Ingest;
use crate::snapshots::SnapshotStep;

/// Without being asked, it looks this often whether a snapshot is due: by age, or after a failure.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// After a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Makes snapshots of a write path in the background until it is shut down.
pub struct Snapshotter {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Snapshotter {
    /// Starts the task. Must be called inside a tokio runtime.
    pub fn start(ingest: Arc<Ingest>) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            while !stopped.is_cancelled() {
                let interval = match ingest.snapshot_once(now_ns()).await {
                    // Once more, without a pause: more may have come meanwhile.
                    SnapshotStep::Done(_) => continue,
                    SnapshotStep::Failed(_) | SnapshotStep::Paused => RETRY_INTERVAL,
                    SnapshotStep::Idle => LOOK_INTERVAL,
                };
                let asked = async {
                    // While it fails, being asked again and again changes nothing.
                    if interval == RETRY_INTERVAL {
                        std::future::pending::<()>().await;
                    }
                    ingest.until_asked_for_snapshot().await;
                };
                tokio::select! {
                    () = stopped.cancelled() => {}
                    () = asked => {}
                    () = tokio::time::sleep(interval) => {}
                }
            }
        });
        Self { stop, task }
    }

    /// Ends the task, after the snapshot in hand.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task that makes snapshots has failed");
        }
    }
}

/// Now, in nanoseconds since the epoch.
fn now_ns() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}
