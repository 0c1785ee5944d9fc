//! How files lie to each other in time and in the log.

use std::sync::Arc;

use crate::DataFile;

/// The least closed set with these files (positions in the list), ascending; `None` if it has more than `files_max`.
///
/// Closed: every file that has an instant of the set's span of time, and a place in the log between the first and the last of
/// the set, is in it.
pub(crate) fn closure(files: &[&Arc<DataFile>], seed: &[usize], files_max: usize) -> Option<Vec<usize>> {
    let mut hull = Hull::default();
    let mut set = seed.to_vec();
    for position in seed {
        hull.add(files[*position]);
    }
    loop {
        set.sort_unstable();
        set.dedup();
        if set.len() > files_max {
            return None;
        }
        let missing: Vec<usize> = (0..files.len())
            .filter(|position| hull.crosses(files[*position]) && set.binary_search(position).is_err())
            .collect();
        if missing.is_empty() {
            return Some(set);
        }
        for position in &missing {
            hull.add(files[*position]);
        }
        set.extend(missing);
    }
}

/// The span of time and the places in the log from the first to the last of some files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hull {
    pub(crate) time_min: i64,
    pub(crate) time_max: i64,
    pub(crate) lsn_first: u64,
    pub(crate) lsn_last: u64,
}

impl Default for Hull {
    /// That of no file.
    fn default() -> Self {
        Self {
            time_min: i64::MAX,
            time_max: i64::MIN,
            lsn_first: u64::MAX,
            lsn_last: 0,
        }
    }
}

impl Hull {
    pub(crate) fn add(&mut self, file: &DataFile) {
        self.time_min = self.time_min.min(file.time_min);
        self.time_max = self.time_max.max(file.time_max);
        self.lsn_first = self.lsn_first.min(file.lsn_first);
        self.lsn_last = self.lsn_last.max(file.lsn_last);
    }

    pub(crate) fn of<'a>(files: impl IntoIterator<Item = &'a Arc<DataFile>>) -> Self {
        let mut hull = Self::default();
        for file in files {
            hull.add(file);
        }
        hull
    }

    /// Whether the file overlaps both in time and in the log.
    pub(crate) fn crosses(&self, file: &DataFile) -> bool {
        self.time_min <= file.time_max
            && file.time_min <= self.time_max
            && self.lsn_first <= file.lsn_last
            && file.lsn_first <= self.lsn_last
    }
}

/// An instant that lies in as many of the spans (both ends included) as any, and in how many; `None` without spans.
pub(crate) fn deepest(spans: impl Iterator<Item = (i64, i64)>) -> Option<(i64, usize)> {
    let (mut starts, mut ends): (Vec<i64>, Vec<i64>) = spans.unzip();
    starts.sort_unstable();
    ends.sort_unstable();
    let mut best: Option<(i64, usize)> = None;
    let mut ended = 0;
    for (started, start) in starts.iter().enumerate() {
        while ends[ended] < *start {
            ended += 1;
        }
        let depth = started + 1 - ended;
        if best.is_none_or(|(_, most)| depth > most) {
            best = Some((*start, depth));
        }
    }
    best
}
