//! The newest time of each series, which tells late rows from others.

use hashbrown::HashMap;

use crate::TableBatch;
use crate::buffer::late_windows::LateWindows;
use crate::buffer::series::PassThrough;

/// The newest time of each series, by canonical hash, and the windows of what came later than that.
pub(crate) struct SeriesTimes {
    newest: HashMap<u64, i64, PassThrough>,
    late: LateWindows,
}

impl SeriesTimes {
    /// Knows no series yet.
    pub(crate) fn new(late_windows_max: usize) -> Self {
        Self {
            newest: HashMap::with_hasher(PassThrough),
            late: LateWindows::new(late_windows_max),
        }
    }

    /// Notes the rows' times. Returns true when the windows have changed.
    pub(crate) fn add(&mut self, batch: &TableBatch) -> bool {
        let hashes = batch.series.hashes();
        // A first row at the very least time counts as late, which does no harm.
        let mut newest: Vec<i64> = hashes
            .iter()
            .map(|hash| self.newest.get(hash).copied().unwrap_or(i64::MIN))
            .collect();
        let mut late_times: Vec<i64> = Vec::new();
        for (time, tag_set) in batch.times().iter().zip(batch.series.tag_set_of_row()) {
            let newest = &mut newest[*tag_set as usize];
            if *time > *newest {
                *newest = *time;
            } else if !self.late.contains(*time) {
                late_times.push(*time);
            }
        }
        self.newest.extend(hashes.iter().copied().zip(newest));
        if !late_times.is_empty() {
            self.late.add(&mut late_times);
        }
        !late_times.is_empty()
    }

    /// Windows of time in which a point may occur twice, ascending and disjoint, both ends inclusive.
    pub(crate) fn late(&self) -> &[(i64, i64)] {
        self.late.as_slice()
    }

    /// How many series were seen.
    pub(crate) fn series_count(&self) -> usize {
        self.newest.len()
    }

    /// Memory in bytes.
    pub(crate) fn byte_size(&self) -> usize {
        self.newest.allocation_size()
    }
}
