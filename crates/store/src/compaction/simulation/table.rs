//! A table whose files are lists of points in memory.

use std::collections::HashMap;
use std::sync::Arc;

use tidemill_catalog::{DatabaseId, TableId};

use crate::compaction::cuts::cut_times;
use crate::compaction::overlap;
use crate::compaction::plan::{Plan, PlanInput, plan};
use crate::compaction::time_histogram::TimeHistogram;
use crate::compaction::{CompactionPolicy, CompactionReason};
use crate::{DataFile, Effort, FileId};

pub(super) const SECOND: i64 = 1_000_000_000;
pub(super) const HOUR: i64 = 3600 * SECOND;
pub(super) const DAY: i64 = 24 * HOUR;
pub(super) const YEAR: i64 = 365 * DAY;

/// Time and series.
pub(super) type Point = (i64, u32);

pub(super) struct SimTable {
    pub(super) policy: CompactionPolicy,
    files: HashMap<FileId, (Arc<DataFile>, Arc<Vec<Point>>)>,
    created: HashMap<FileId, i64>,
    next_id: u64,
    next_lsn: u64,
    pub(super) now: i64,
    pub(super) keep_from: i64,
    pub(super) damaged: Option<FileId>,
    pub(super) ingested: u64,
    pub(super) rewritten: u64,
    pub(super) jobs: u64,
    pub(super) largest_job: u64,
    pub(super) by_reason: HashMap<CompactionReason, (u64, u64)>,
    /// How often files of at least half the target were rewritten.
    pub(super) full_rewritten: u64,
}

impl SimTable {
    /// Files of about `target_rows`.
    pub(super) fn new(target_rows: u64) -> Self {
        Self {
            policy: CompactionPolicy {
                target_rows,
                ..CompactionPolicy::default()
            },
            files: HashMap::new(),
            created: HashMap::new(),
            next_id: 0,
            next_lsn: 1,
            now: 0,
            keep_from: i64::MIN,
            damaged: None,
            ingested: 0,
            rewritten: 0,
            jobs: 0,
            largest_job: 0,
            by_reason: HashMap::new(),
            full_rewritten: 0,
        }
    }

    /// A snapshot with these points becomes a file.
    pub(super) fn snapshot(&mut self, mut points: Vec<Point>) {
        self.ingested += points.len() as u64;
        points.sort_unstable();
        points.dedup();
        let lsn = self.next_lsn;
        self.next_lsn += 10;
        self.add(points, lsn, lsn + 9);
    }

    /// A file of a snapshot that holds these points.
    pub(super) fn add(&mut self, points: Vec<Point>, lsn_first: u64, lsn_last: u64) {
        self.add_file(points, lsn_first, lsn_last, Effort::Low);
    }

    fn add_file(&mut self, points: Vec<Point>, lsn_first: u64, lsn_last: u64, effort: Effort) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return;
        };
        let id = FileId(self.next_id);
        self.next_id += 1;
        let file = DataFile {
            id,
            database: DatabaseId(1),
            table: TableId(1),
            path: "".into(),
            byte_size: points.len() as u64,
            checksum: 0,
            row_count: points.len() as u64,
            time_min: first.0,
            time_max: last.0,
            lsn_first,
            lsn_last,
            deletes_through: 0,
            effort,
            tail: None,
        };
        self.created.insert(id, self.now);
        self.files.insert(id, (Arc::new(file), Arc::new(points)));
    }

    pub(super) fn files(&self) -> Vec<Arc<DataFile>> {
        self.files.values().map(|(file, _)| Arc::clone(file)).collect()
    }

    pub(super) fn plan(&self) -> Option<Plan> {
        let age = |id: FileId| self.now - self.created[&id];
        let files = self.files();
        let input = PlanInput {
            files: &files,
            due_deletes: &[],
            keep_from: self.keep_from,
            age_ns: &age,
            is_damaged: &|id| self.damaged == Some(id),
        };
        plan(&input, &self.policy)
    }

    /// Jobs until there is none. Panics when there is no end to them.
    pub(super) fn compact(&mut self) {
        let limit = 100 + 4 * self.files.len() as u64;
        for _ in 0..limit {
            let Some(plan) = self.plan() else { return };
            self.run(&plan);
        }
        panic!("still not settled after {limit} jobs: {:#?}", self.plan());
    }

    pub(super) fn run(&mut self, plan: &Plan) {
        if plan.reason == CompactionReason::Effort {
            let [file] = &plan.inputs[..] else {
                panic!("one file at a time: {plan:#?}");
            };
            assert_eq!(file.effort, Effort::Low, "once");
        }
        let rows_per_file = self.policy.rows_per_file(plan.inputs.iter().map(|file| &**file));
        let mut points: Vec<Point> = Vec::new();
        for file in &plan.inputs {
            let (file, rows) = self.files.remove(&file.id).expect("a job's inputs are live");
            self.full_rewritten +=
                u64::from(self.policy.weight(&file) * 2 >= crate::compaction::policy::TARGET);
            points.extend(rows.iter().filter(|point| point.0 >= self.keep_from));
        }
        points.sort_unstable();
        points.dedup();
        self.jobs += 1;
        let reason = self.by_reason.entry(plan.reason).or_default();
        reason.0 += 1;
        if plan.is_removal {
            assert!(points.is_empty());
            return;
        }
        reason.1 += points.len() as u64;
        self.rewritten += points.len() as u64;
        self.largest_job = self.largest_job.max(points.len() as u64);
        let mut histogram = TimeHistogram::default();
        let times: Vec<i64> = points.iter().map(|point| point.0).collect();
        histogram.add(&times);
        let cuts = cut_times(&histogram.buckets(), rows_per_file, plan.outputs_max);
        let starts = std::iter::once(i64::MIN).chain(cuts.iter().copied());
        let ends = cuts.iter().map(|cut| cut - 1).chain([i64::MAX]);
        for (first, last) in starts.zip(ends) {
            let inputs = plan
                .inputs
                .iter()
                .filter(|file| file.time_min <= last && first <= file.time_max);
            let hull = overlap::Hull::of(inputs);
            let inside = points.iter().filter(|point| first <= point.0 && point.0 <= last);
            let inside = inside.copied().collect();
            self.add_file(inside, hull.lsn_first, hull.lsn_last, Effort::High);
        }
        self.check_order();
    }

    /// Files that overlap in time must be apart in the log.
    pub(super) fn check_order(&self) {
        let mut files = self.files();
        files.sort_by_key(|file| file.time_min);
        for (place, a) in files.iter().enumerate() {
            for b in files[place + 1..].iter().take_while(|b| b.time_min <= a.time_max) {
                assert!(!a.overlaps_in_log(b), "{a:?} and {b:?}");
            }
        }
    }

    pub(super) fn depth(&self) -> usize {
        overlap::deepest(
            self.files
                .values()
                .map(|(file, _)| (file.time_min, file.time_max)),
        )
        .map_or(0, |(_, d)| d)
    }

    pub(super) fn amplification(&self) -> f64 {
        self.rewritten as f64 / self.ingested as f64
    }

    pub(super) fn report(&self, name: &str) {
        let mut sizes: Vec<u64> = self.files.values().map(|(file, _)| file.row_count).collect();
        sizes.sort_unstable();
        println!(
            "{name}: {} points, {} files (median {}, least {}), depth {}, amplification {:.2}, jobs {}, largest {}, full files rewritten {}, {:?}",
            self.ingested,
            sizes.len(),
            sizes.get(sizes.len() / 2).copied().unwrap_or(0),
            sizes.first().copied().unwrap_or(0),
            self.depth(),
            self.amplification(),
            self.jobs,
            self.largest_job,
            self.full_rewritten,
            self.by_reason,
        );
    }
}
