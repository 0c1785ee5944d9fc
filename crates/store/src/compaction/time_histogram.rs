//! How many rows of a job lie where in time, in bounded memory.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Buckets that are kept; 1 MiB of memory.
const BUCKETS_MAX: usize = 1 << 16;

/// Numbers of rows by time. Exact as long as there are few different times; then buckets become twice as wide, as
/// often as it takes.
#[derive(Debug, Default)]
pub(crate) struct TimeHistogram {
    /// A bucket is `1 << shift` nanoseconds wide.
    shift: u32,
    rows: HashMap<u64, u64, FixedState>,
}

impl TimeHistogram {
    /// Adds the rows with these times, nanoseconds since the epoch.
    pub(crate) fn add(&mut self, times: &[i64]) {
        for time in times {
            *self.rows.entry(ordered(*time) >> self.shift).or_default() += 1;
            if self.rows.len() > BUCKETS_MAX {
                self.widen();
            }
        }
    }

    fn widen(&mut self) {
        while self.rows.len() > BUCKETS_MAX / 2 {
            let narrow = std::mem::take(&mut self.rows);
            self.shift += 1;
            for (bucket, rows) in narrow {
                *self.rows.entry(bucket >> 1).or_default() += rows;
            }
        }
    }

    /// The buckets that have rows, ascending.
    pub(crate) fn buckets(&self) -> Vec<Bucket> {
        let mut buckets: Vec<Bucket> = self
            .rows
            .iter()
            .map(|(bucket, rows)| Bucket {
                start: bucket << self.shift,
                end: (bucket << self.shift) + ((1 << self.shift) - 1),
                rows: *rows,
            })
            .collect();
        buckets.sort_unstable_by_key(|bucket| bucket.start);
        buckets
    }
}

/// Rows of a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// First instant, as [`ordered`] has it.
    pub(crate) start: u64,
    /// Last instant.
    pub(crate) end: u64,
    pub(crate) rows: u64,
}

/// Times as unsigned numbers in the same order, so that bits divide them evenly on both sides of the epoch.
pub(crate) fn ordered(time: i64) -> u64 {
    (time as u64) ^ (1 << 63)
}

/// The time that [`ordered`] made this of.
pub(crate) fn time_of(ordered: u64) -> i64 {
    (ordered ^ (1 << 63)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_count_and_order_in_bounded_memory() {
        let mut histogram = TimeHistogram::default();
        let times: Vec<i64> = (0..300_000).map(|n: i64| (n - 150_000) * 1_000_003).collect();
        histogram.add(&times);
        histogram.add(&[i64::MIN, i64::MAX]);
        let buckets = histogram.buckets();
        assert!(buckets.len() <= BUCKETS_MAX);
        assert_eq!(buckets.iter().map(|bucket| bucket.rows).sum::<u64>(), 300_002);
        assert!(buckets.windows(2).all(|pair| pair[0].end < pair[1].start));
        assert_eq!(time_of(buckets[0].start), i64::MIN);
        assert_eq!(time_of(buckets[buckets.len() - 1].end), i64::MAX);
    }

    #[test]
    fn few_times_are_exact() {
        let mut histogram = TimeHistogram::default();
        histogram.add(&[5, -7, 5]);
        let buckets: Vec<(i64, i64, u64)> = histogram
            .buckets()
            .iter()
            .map(|bucket| (time_of(bucket.start), time_of(bucket.end), bucket.rows))
            .collect();
        assert_eq!(buckets, [(-7, -7, 1), (5, 5, 2)]);
    }
}
