//! The task that makes snapshots when they are due.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::ingest::Ingest;
use crate::snapshots::SnapshotStep;

/// Without being asked, it looks at least this often whether a snapshot is due: by age, or after a failure.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// And not more often than this, however young rows are to be.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(100);
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
        let look_interval = look_interval(ingest.snapshots.config.age_max);
        let task = tokio::spawn(async move {
            while !stopped.is_cancelled() {
                let interval = match ingest.snapshot_once(now_ns()).await {
                    // Once more, without a pause: more may have come meanwhile.
                    SnapshotStep::Done(_) => continue,
                    SnapshotStep::Failed(_) | SnapshotStep::Paused => RETRY_INTERVAL,
                    SnapshotStep::Idle => look_interval,
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

/// How often is looked for rows that become files at an age of `age_max`.
fn look_interval(age_max: Duration) -> Duration {
    age_max.clamp(LOOK_INTERVAL_MIN, LOOK_INTERVAL)
}

/// Now, in nanoseconds since the epoch.
fn now_ns() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_as_often_as_rows_age() {
        let looks = |age_max| look_interval(Duration::from_millis(age_max)).as_millis();
        assert_eq!(looks(600_000), 10_000);
        assert_eq!(looks(2_000), 2_000);
        assert_eq!(looks(0), 100);
    }
}
