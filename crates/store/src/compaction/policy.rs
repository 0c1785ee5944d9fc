//! What compaction aims at.

use crate::DataFile;

const HOUR_NS: i64 = 3_600_000_000_000;

/// What compaction aims at, and what it may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// About so many rows a file.
    pub target_rows: u64,
    /// About so many bytes a file, if that is reached before.
    pub target_bytes: u64,
    /// So many files that are small for their number are read by one job at most.
    pub inputs_max: usize,
    /// More files than this are not left at one instant.
    pub depth_max: usize,
    /// Files that overlap are not joined for that alone while one is younger than this.
    pub cold_after_ns: i64,
    /// A file that was written in haste and that nothing has been merged with for so long is written anew by itself.
    pub rewrite_after_ns: i64,
    /// Unless it has fewer bytes than this: it is not worth the work.
    pub rewrite_bytes_min: u64,
    /// A delete waits so long for a job that reads the files anyway.
    pub delete_delay_ns: i64,
}

impl Default for CompactionPolicy {
    /// 4 Mi rows or 128 MiB a file; 32 inputs; 5 files at an instant; an hour; a day, 1 MiB; five minutes.
    fn default() -> Self {
        Self {
            target_rows: 4 * 1024 * 1024,
            target_bytes: 128 * 1024 * 1024,
            inputs_max: 32,
            depth_max: 5,
            cold_after_ns: HOUR_NS,
            rewrite_after_ns: 24 * HOUR_NS,
            rewrite_bytes_min: 1024 * 1024,
            delete_delay_ns: HOUR_NS / 12,
        }
    }
}

/// The weight of a file of the target size.
pub(crate) const TARGET: u64 = 1 << 20;

impl CompactionPolicy {
    /// How much of the target size a file is, in parts of [`TARGET`]; never 0.
    pub(crate) fn weight(&self, file: &DataFile) -> u64 {
        let share = |amount: u64, target: u64| {
            u64::try_from(u128::from(amount) * u128::from(TARGET) / u128::from(target.max(1)))
                .unwrap_or(u64::MAX >> 16)
        };
        let rows = share(file.row_count, self.target_rows);
        let bytes = share(file.byte_size, self.target_bytes);
        rows.max(bytes).clamp(1, u64::MAX >> 16)
    }

    /// How many rows of files like these make one of the target size.
    pub(crate) fn rows_per_file<'a>(&self, files: impl IntoIterator<Item = &'a DataFile>) -> u64 {
        let (mut rows, mut weight) = (0u128, 0u128);
        for file in files {
            rows += u128::from(file.row_count);
            weight += u128::from(self.weight(file));
        }
        u64::try_from(rows * u128::from(TARGET) / weight.max(1))
            .unwrap_or(u64::MAX)
            .max(1)
    }
}
