//! What an owner decides about a journal.

use std::sync::Arc;
use std::time::Duration;

/// Tells the time, in nanoseconds since the epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Merged objects hold at most this part of the journal, in bytes and in time, because rows are let go by whole objects.
const PARTS: u32 = 16;

/// Bounds of a journal. Sizes are those of the rows in memory as Arrow arrays: what a scan of everything takes. In the
/// store they are several times smaller.
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// Older rows are not shown any more, and are removed when their whole object is older. None: kept for ever.
    pub age_max: Option<Duration>,
    /// The oldest objects are removed until the rest is no larger than this.
    pub bytes_max: usize,
    /// Rows that wait for the store beyond this are dropped, oldest first.
    pub unflushed_bytes_max: usize,
    /// How long rows wait for others, to be written with them.
    pub flush_interval: Duration,
}

impl Default for JournalConfig {
    /// Seven days, 64 MiB, of which 8 MiB may be waiting, and one second.
    fn default() -> Self {
        Self {
            age_max: Some(Duration::from_hours(7 * 24)),
            bytes_max: 64 * 1024 * 1024,
            unflushed_bytes_max: 8 * 1024 * 1024,
            flush_interval: Duration::from_secs(1),
        }
    }
}

impl JournalConfig {
    /// The size of what is written at once, and at which writing does not wait for the interval.
    pub(crate) fn flush_bytes(&self) -> usize {
        (self.unflushed_bytes_max / 4).min(self.object_bytes_max())
    }

    /// The size of a merged object.
    pub(crate) fn object_bytes_max(&self) -> usize {
        self.bytes_max / PARTS as usize
    }

    /// The time that a merged object may span, in nanoseconds.
    pub(crate) fn object_span_ns_max(&self) -> u64 {
        self.age_max.map_or(u64::MAX, |age| nanoseconds(age / PARTS))
    }

    /// The time before which rows are too old.
    pub(crate) fn oldest_kept(&self, now_ns: i64) -> i64 {
        self.age_max
            .map_or(i64::MIN, |age| now_ns.saturating_sub_unsigned(nanoseconds(age)))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
