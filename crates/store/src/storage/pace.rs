//! How many files a flush writes at once.

/// Files written at once at most. A small file is waiting for the store most of its time, on a disk for two syncs, and a
/// disk does several of these in hardly more time than one; beyond a dozen there is nothing to win, and the log's syncs would wait.
const FILES_AT_ONCE_MAX: usize = 16;
/// Memory for a file that is being encoded, beside that for its rows.
const ENCODER_BYTES: usize = 4 * 1024 * 1024;

/// How many parts are written at once.
pub(super) struct Pace {
    /// So many, however large they are.
    files_min: usize,
    /// More than these, as long as all of them take no more memory than this.
    bytes_max: usize,
}

impl Pace {
    /// So many parts of `part_bytes_max`; one at least.
    pub(super) fn new(concurrency: usize, part_bytes_max: usize) -> Self {
        let files_min = concurrency.max(1);
        Self {
            files_min,
            bytes_max: files_min.saturating_mul(part_bytes_max),
        }
    }

    /// Whether a part of so many bytes may be begun beside `files` others, which have `bytes_in_hand` together.
    pub(super) fn admits(&self, files: usize, bytes_in_hand: usize, bytes: usize) -> bool {
        let encoders = ENCODER_BYTES.saturating_mul(files + 1);
        let memory = bytes_in_hand.saturating_add(bytes).saturating_add(encoders);
        files < self.files_min || (files < FILES_AT_ONCE_MAX && memory <= self.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: usize = 1024 * 1024;

    /// How many parts of one size are in hand at most.
    fn at_once(pace: &Pace, bytes: usize) -> usize {
        let mut files = 0;
        while pace.admits(files, files * bytes, bytes) {
            files += 1;
        }
        files
    }

    #[test]
    fn small_parts_are_many_and_large_ones_are_as_many_as_was_said() {
        let pace = Pace::new(2, 128 * MEBIBYTE);
        assert_eq!(at_once(&pace, 128 * MEBIBYTE), 2);
        assert_eq!(at_once(&pace, 500 * MEBIBYTE), 2);
        assert_eq!(at_once(&pace, 32 * MEBIBYTE), 7);
        assert_eq!(at_once(&pace, ENCODER_BYTES), FILES_AT_ONCE_MAX);
        assert_eq!(at_once(&pace, usize::MAX / 100), 2);
    }

    #[test]
    fn at_least_one_is_written_and_more_only_where_memory_allows() {
        assert_eq!(at_once(&Pace::new(0, 1), MEBIBYTE), 1);
        assert_eq!(at_once(&Pace::new(3, MEBIBYTE), ENCODER_BYTES), 3);
        assert_eq!(at_once(&Pace::new(100, MEBIBYTE), ENCODER_BYTES), 100);
    }
}
