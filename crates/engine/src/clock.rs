//! The wall clock, as a trait: schedules are tested against one that is set.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

/// The wall clock is looked at this often, since it may be set while a timer runs.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// What time it is, and waiting for a time.
#[async_trait]
pub(crate) trait Clock: Send + Sync + 'static {
    /// The time.
    fn now(&self) -> DateTime<Utc>;

    /// Waits until the clock shows `at`, or has been set in between: so the time must be asked again.
    async fn sleep_until(&self, at: DateTime<Utc>);
}

/// The clock of this machine.
pub(crate) struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    async fn sleep_until(&self, at: DateTime<Utc>) {
        // A timer knows nothing of a clock that is set: whoever waits long looks now and then.
        let remaining = (at - self.now()).to_std().unwrap_or_default();
        tokio::time::sleep(remaining.min(CHECK_INTERVAL)).await;
    }
}
