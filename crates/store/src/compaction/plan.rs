//! Which files of a table to rewrite next.
//!
//! A job takes a *closed* set of files: whatever overlaps the set's span of time and has places in the log between those
//! of the set is in it. Its outputs have the places of the whole set, share no instant, and so the rule that files which
//! overlap in time are apart in the log holds after it as before.

use std::sync::Arc;

use crate::compaction::policy::TARGET;
use crate::compaction::{CompactionPolicy, overlap};
use crate::{DataFile, Effort, FileId, RowDelete};

/// Why files are rewritten or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CompactionReason {
    /// A file that snapshots wrote in haste has stayed alone.
    Effort,
    /// Late rows are merged with what they belong to.
    Overlap,
    /// Many small files become one.
    SmallFiles,
    /// Too many files have rows of one instant.
    Depth,
    /// Rows are older than the retention allows.
    Retention,
    /// Rows were deleted.
    Deletes,
}

impl CompactionReason {
    /// Its name in tables and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Effort => "effort",
            Self::Overlap => "overlap",
            Self::SmallFiles => "small_files",
            Self::Depth => "depth",
            Self::Retention => "retention",
            Self::Deletes => "deletes",
        }
    }
}

/// What is known of one table.
pub(crate) struct PlanInput<'a> {
    /// All its live files.
    pub(crate) files: &'a [Arc<DataFile>],
    /// The deletes that they await, those that are due.
    pub(crate) due_deletes: &'a [Arc<RowDelete>],
    /// Rows before this instant have expired; `i64::MIN`: none.
    pub(crate) keep_from: i64,
    /// For how long a file has been there, nanoseconds.
    pub(crate) age_ns: &'a dyn Fn(FileId) -> i64,
    /// Whether a file cannot be read: it stays as it is until none of its rows are wanted.
    pub(crate) is_damaged: &'a dyn Fn(FileId) -> bool,
}

/// The next job of a table.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) reason: CompactionReason,
    /// What is read and replaced, in log order.
    pub(crate) inputs: Vec<Arc<DataFile>>,
    /// Nothing of the inputs is left, as the metadata shows: they are removed without being read.
    pub(crate) is_removal: bool,
    /// So many outputs may be made to set dense spans of time apart from sparse ones.
    pub(crate) outputs_max: usize,
    /// How much the job is worth beside those of other tables with the same reason.
    pub(crate) value: f64,
}

/// The next job of a table; `None` when it is as it should be.
pub(crate) fn plan(input: &PlanInput<'_>, policy: &CompactionPolicy) -> Option<Plan> {
    let table = Planner::new(input, policy);
    table
        .without_rows()
        .or_else(|| table.with_deleted_rows())
        .or_else(|| table.half_expired())
        .or_else(|| table.small_files())
        .or_else(|| table.deep())
        .or_else(|| table.late_and_cold())
        .or_else(|| table.hasty_and_cold())
}

/// A merged file has at least so many times the weight of the heaviest that went into it, unless it is full. So a row
/// is rewritten log3 of the ratio between target and snapshot times at most.
const GROWTH: u64 = 3;
/// Fewer small files are not worth a job.
const SMALL_FILES_MIN: usize = 4;
/// Files of this weight are not rewritten for their number.
const FULL: u64 = TARGET / 2;
/// Small files are merged up to this weight, so that a job for them makes one file.
const MERGED_MAX: u64 = TARGET + TARGET / 4;
/// Late rows are merged with older ones after [`CompactionPolicy::cold_after_ns`] if they are this part of all that is
/// rewritten; at ten times the age a tenth of that suffices.
const COLD_SHARE: f64 = 1.0 / 8.0;

struct Planner<'a> {
    policy: &'a CompactionPolicy,
    input: &'a PlanInput<'a>,
    /// In log order, then by time.
    files: Vec<&'a Arc<DataFile>>,
    weights: Vec<u64>,
}

impl<'a> Planner<'a> {
    fn new(input: &'a PlanInput<'a>, policy: &'a CompactionPolicy) -> Self {
        let mut files: Vec<&Arc<DataFile>> = input.files.iter().collect();
        files.sort_unstable_by_key(|file| (file.lsn_first, file.time_min, file.id));
        let weights = files.iter().map(|file| policy.weight(file)).collect();
        Self {
            policy,
            input,
            files,
            weights,
        }
    }

    /// Files of which the metadata says that all rows have expired or were deleted.
    fn without_rows(&self) -> Option<Plan> {
        let deleted = self.positions(|file| {
            self.input.due_deletes.iter().any(|delete| {
                delete.concerns(file)
                    && delete.conditions.is_empty()
                    && delete.time_first <= file.time_min
                    && file.time_max <= delete.time_last
                    && file.lsn_last < delete.lsn
            })
        });
        let expired = self.positions(|file| file.time_max < self.input.keep_from);
        [
            (CompactionReason::Deletes, deleted),
            (CompactionReason::Retention, expired),
        ]
        .into_iter()
        .find(|(_, files)| !files.is_empty())
        .map(|(reason, files)| Plan {
            is_removal: true,
            ..self.rewrite(reason, &files, 0, f64::MAX)
        })
    }

    /// A file that awaits a delete. Alone it is a closed set.
    fn with_deleted_rows(&self) -> Option<Plan> {
        let concerned = |file: &DataFile| self.input.due_deletes.iter().any(|delete| delete.concerns(file));
        let first = (0..self.files.len())
            .find(|position| concerned(self.files[*position]) && !self.is_damaged(*position))?;
        Some(self.rewrite(CompactionReason::Deletes, &[first], 1, 1.0))
    }

    /// A file of whose span of time half has expired.
    fn half_expired(&self) -> Option<Plan> {
        let half = (0..self.files.len()).find(|position| {
            let file = self.files[*position];
            let middle = file.time_min.midpoint(file.time_max);
            // A small one goes as a whole, or with others, before it is worth the work.
            self.weights[*position] >= TARGET / 16
                && middle < self.input.keep_from
                && !self.is_damaged(*position)
        })?;
        Some(self.rewrite(CompactionReason::Retention, &[half], 1, 1.0))
    }

    /// Neighbours in the log or in time that are small and of similar weight.
    fn small_files(&self) -> Option<Plan> {
        // Those that cannot be read are among them as the ends of windows.
        let in_log_order: Vec<usize> = (0..self.files.len())
            .filter(|position| self.weights[*position] < FULL || self.is_damaged(*position))
            .collect();
        if in_log_order.len() < SMALL_FILES_MIN {
            return None;
        }
        let mut in_time_order = in_log_order.clone();
        in_time_order.sort_by_key(|position| (self.files[*position].time_min, *position));
        let mut windows = self.small_windows(&in_log_order);
        windows.extend(self.small_windows(&in_time_order));
        windows.sort_by(|a, b| b.1.total_cmp(&a.1));
        windows.into_iter().find_map(|(window, value)| {
            let set = self.closure(&window, self.policy.inputs_max)?;
            let weight = self.weight_of(&set);
            let heaviest = set.iter().map(|position| self.weights[*position]).max()?;
            let is_worth_it = weight >= GROWTH * heaviest && weight <= MERGED_MAX;
            is_worth_it.then(|| self.rewrite(CompactionReason::SmallFiles, &set, set.len() / 2, value))
        })
    }

    /// For every file of a list the best window that begins with it, and its value.
    fn small_windows(&self, list: &[usize]) -> Vec<(Vec<usize>, f64)> {
        let best_from = |start: usize| {
            let (mut sum, mut heaviest) = (0, 0);
            let mut best: Option<(usize, f64)> = None;
            let readable = list[start..]
                .iter()
                .take_while(|position| !self.is_damaged(**position));
            for (index, position) in readable.take(self.policy.inputs_max).enumerate() {
                sum += self.weights[*position];
                heaviest = heaviest.max(self.weights[*position]);
                let count = index + 1;
                if sum > MERGED_MAX {
                    break;
                }
                let value = index as f64 / sum as f64;
                if count >= SMALL_FILES_MIN
                    && sum >= GROWTH * heaviest
                    && best.is_none_or(|(_, most)| value >= most)
                {
                    best = Some((count, value));
                }
            }
            best.map(|(count, value)| (list[start..start + count].to_vec(), value))
        };
        (0..list.len()).filter_map(best_from).collect()
    }

    /// Some of the files at the instant that has most, if that is too many.
    fn deep(&self) -> Option<Plan> {
        let (instant, depth) =
            overlap::deepest(self.files.iter().map(|file| (file.time_min, file.time_max)))?;
        if depth <= self.policy.depth_max {
            return None;
        }
        let at_instant = self.positions(|file| file.time_min <= instant && instant <= file.time_max);
        let mut best: Option<(Vec<usize>, f64)> = None;
        for start in 0..at_instant.len() - 1 {
            for end in start + 2..=at_instant.len().min(start + self.policy.inputs_max) {
                // Any set may be necessary, however large.
                let Some(set) = self.closure(&at_instant[start..end], usize::MAX) else {
                    continue;
                };
                let merged = set
                    .iter()
                    .filter(|position| at_instant.contains(position))
                    .count();
                let fewer = (merged - 1) as f64;
                // Squared: few large steps cost less in the end than many small ones. By simulation this comes near the
                // least that any policy can reach with as many files at an instant.
                let value = fewer * fewer / self.weight_of(&set) as f64;
                if best.as_ref().is_none_or(|(_, most)| value > *most) {
                    best = Some((set, value));
                }
            }
        }
        let (set, value) = best?;
        Some(self.rewrite(CompactionReason::Depth, &set, set.len() - 1, value))
    }

    /// A late file and what it overlaps, when nothing has changed there for long enough.
    fn late_and_cold(&self) -> Option<Plan> {
        let mut best: Option<(Vec<usize>, f64)> = None;
        for late in (0..self.files.len()).filter(|position| self.weights[*position] < FULL) {
            if self.age(late) < self.policy.cold_after_ns {
                continue;
            }
            let file = self.files[late];
            let overlapping = self.positions(|other| other.id != file.id && other.overlaps_in_time(file));
            // The newest rows of a table often reach back a little. They are not late, and will be merged with newer ones.
            let is_late = overlapping
                .iter()
                .any(|other| *other < late && self.files[*other].time_max >= file.time_max);
            if !is_late {
                continue;
            }
            let older = overlapping.iter().rev().find(|position| **position < late);
            let newer = overlapping.iter().find(|position| **position > late);
            // The many rows of one day must not be strewn among the few of a year: that would be a file in everybody's way.
            let pairs = older
                .into_iter()
                .chain(newer)
                .filter(|other| self.stays_narrow(late, **other));
            let mut seeds: Vec<Vec<usize>> = pairs.map(|other| vec![late, *other]).collect();
            seeds.push(overlapping.iter().copied().chain([late]).collect());
            for seed in seeds {
                let Some(set) = self.closure(&seed, 2 * self.policy.inputs_max) else {
                    continue;
                };
                let value = self.late_share(&set) * self.coldness(&set) / COLD_SHARE;
                if value >= 1.0 && best.as_ref().is_none_or(|(_, most)| value > *most) {
                    best = Some((set, value));
                }
            }
        }
        let (set, value) = best?;
        Some(self.rewrite(CompactionReason::Overlap, &set, set.len() - 1, value))
    }

    /// The largest file that was written in haste and has been there for long: nothing will be merged with it. Alone it is
    /// a closed set, and its output was written with care: so it is done once.
    fn hasty_and_cold(&self) -> Option<Plan> {
        let hasty = self.positions(|file| {
            file.effort == Effort::Low
                && file.byte_size >= self.policy.rewrite_bytes_min
                && (self.input.age_ns)(file.id) >= self.policy.rewrite_after_ns
        });
        let largest = hasty
            .into_iter()
            .filter(|position| !self.is_damaged(*position))
            .max_by_key(|position| self.files[*position].byte_size)?;
        let value = self.files[largest].byte_size as f64;
        Some(self.rewrite(CompactionReason::Effort, &[largest], 1, value))
    }

    /// Whether two files span little more time than the heavier of them.
    fn stays_narrow(&self, a: usize, b: usize) -> bool {
        let heavier = if self.weights[a] > self.weights[b] { a } else { b };
        let span = |from: i64, to: i64| to.abs_diff(from);
        let (a, b) = (self.files[a], self.files[b]);
        let together = span(a.time_min.min(b.time_min), a.time_max.max(b.time_max));
        let alone = span(self.files[heavier].time_min, self.files[heavier].time_max);
        together - alone <= alone / 4
    }

    /// Which part of a set's weight is in small files, without the heaviest if all are small.
    fn late_share(&self, set: &[usize]) -> f64 {
        let small: u64 = set
            .iter()
            .map(|position| self.weights[*position])
            .filter(|weight| *weight < FULL)
            .sum();
        let heaviest = set
            .iter()
            .map(|position| self.weights[*position])
            .max()
            .unwrap_or(0);
        let all = self.weight_of(set);
        let late = if heaviest < FULL { small - heaviest } else { small };
        late as f64 / all as f64
    }

    /// The age of the youngest file of a set in units of [`CompactionPolicy::cold_after_ns`]; 0 below one.
    fn coldness(&self, set: &[usize]) -> f64 {
        let youngest = set.iter().map(|position| self.age(*position)).min().unwrap_or(0);
        let ratio = youngest as f64 / self.policy.cold_after_ns.max(1) as f64;
        if ratio < 1.0 { 0.0 } else { ratio }
    }

    /// The least closed set with these files; `None` if it is too large, or has a file that cannot be read.
    fn closure(&self, seed: &[usize], files_max: usize) -> Option<Vec<usize>> {
        let set = overlap::closure(&self.files, seed, files_max)?;
        let has_damaged = set.iter().any(|position| self.is_damaged(*position));
        (!has_damaged).then_some(set)
    }

    fn is_damaged(&self, position: usize) -> bool {
        (self.input.is_damaged)(self.files[position].id)
    }

    fn age(&self, position: usize) -> i64 {
        (self.input.age_ns)(self.files[position].id)
    }

    fn positions(&self, wanted: impl Fn(&DataFile) -> bool) -> Vec<usize> {
        (0..self.files.len())
            .filter(|position| wanted(self.files[*position]))
            .collect()
    }

    fn weight_of(&self, set: &[usize]) -> u64 {
        set.iter().map(|position| self.weights[*position]).sum()
    }

    fn rewrite(&self, reason: CompactionReason, set: &[usize], outputs_max: usize, value: f64) -> Plan {
        Plan {
            reason,
            inputs: set
                .iter()
                .map(|position| Arc::clone(self.files[*position]))
                .collect(),
            is_removal: false,
            outputs_max,
            value,
        }
    }
}
