//! Durations, counted in fixed buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in nanoseconds: from what a request to a small plugin takes to the longest run that is
/// allowed by default.
pub const BUCKET_BOUNDS_NS: [u64; 21] = [
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
    300_000_000_000,
    600_000_000_000,
];

/// Counts durations; any number of threads may do so at once.
#[derive(Debug, Default)]
pub struct DurationHistogram {
    /// One a bucket, not cumulative; the last one has no bound.
    counts: [AtomicU64; BUCKET_BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

/// What was counted until some moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many were no longer than the bound at the same place of [`BUCKET_BOUNDS_NS`].
    pub at_most: [u64; BUCKET_BOUNDS_NS.len()],
    /// How many there were.
    pub count: u64,
    /// How long all of them took together, in nanoseconds.
    pub sum_ns: u64,
}

impl DurationHistogram {
    /// Counts one. Takes some nanoseconds.
    pub fn observe(&self, duration: Duration) {
        let duration_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKET_BOUNDS_NS.partition_point(|bound_ns| *bound_ns < duration_ns);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(duration_ns, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn durations(&self) -> Durations {
        let mut durations = Durations {
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
            ..Durations::default()
        };
        for (bucket, count) in self.counts.iter().enumerate() {
            durations.count += count.load(Ordering::Relaxed);
            if let Some(at_most) = durations.at_most.get_mut(bucket) {
                *at_most = durations.count;
            }
        }
        durations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_its_bucket_and_all_above() {
        let histogram = DurationHistogram::default();
        for duration_ns in [0, 100_000, 100_001, 1_000_000_000, u64::MAX / 4] {
            histogram.observe(Duration::from_nanos(duration_ns));
        }
        let durations = histogram.durations();
        assert_eq!(
            (durations.count, durations.sum_ns),
            (5, 1_000_200_001 + u64::MAX / 4)
        );
        assert_eq!(durations.at_most[..4], [1, 1, 2, 3]);
        assert_eq!(durations.at_most[13..15], [3, 4]);
        assert_eq!(durations.at_most[20], 4);
        assert!(BUCKET_BOUNDS_NS.is_sorted());
    }
}
