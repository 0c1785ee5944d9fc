//! A clock that a test sets.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use crate::clock::Clock;

/// For one scheduled trigger.
pub(super) struct FakeClock {
    /// What it shows, and how often it was set.
    time: watch::Sender<(DateTime<Utc>, u64)>,
    /// How often it was set when it was last waited for.
    awaited: watch::Sender<Option<u64>>,
}

impl FakeClock {
    pub(super) fn at(time: &str) -> Arc<Self> {
        Arc::new(Self {
            time: watch::Sender::new((time.parse().unwrap(), 0)),
            awaited: watch::Sender::new(None),
        })
    }

    /// Sets the clock, forward or back, whoever waits for it.
    pub(super) fn set_by(&self, delta: TimeDelta) {
        self.time.send_modify(|(time, times_set)| {
            *time += delta;
            *times_set += 1;
        });
    }

    /// Waits until the trigger has done what the time demands and waits for another.
    pub(super) async fn awaited(&self) {
        let times_set = self.time.borrow().1;
        let mut awaited = self.awaited.subscribe();
        let until_awaited = awaited.wait_for(|awaited| *awaited == Some(times_set));
        let in_time = tokio::time::timeout(std::time::Duration::from_secs(20), until_awaited).await;
        in_time.expect("somebody waits for the clock").unwrap();
    }

    /// Sets the clock once the trigger waits for it.
    pub(super) async fn move_by(&self, delta: TimeDelta) {
        self.awaited().await;
        self.set_by(delta);
    }
}

#[async_trait]
impl Clock for FakeClock {
    fn now(&self) -> DateTime<Utc> {
        self.time.borrow().0
    }

    async fn sleep_until(&self, at: DateTime<Utc>) {
        let mut time = self.time.subscribe();
        let (now, times_set) = *time.borrow_and_update();
        // One that was set since the caller has asked for the time may show it already.
        if now < at {
            self.awaited.send_replace(Some(times_set));
            let _ = time.changed().await;
        }
    }
}
