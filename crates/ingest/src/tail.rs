//! The tail of the log: recent commits, kept decoded for the triggers that read behind them.
//!
//! The batches are shared with the memory buffer until that merges them, so the tail costs little; it is bounded by bytes
//! all the same. A reader that has fallen behind the tail reads the log itself (`Ingest::read_after`).

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::RwLock;
use tidemill_catalog::TableId;
use tidemill_store::TableBatch;
use tidemill_wal::Lsn;

use crate::record::{Commit, batch_memory_bytes};

/// Which tables a reader wants.
#[derive(Debug, Clone)]
pub enum TableFilter {
    /// One table.
    One(TableId),
    /// Any of these; the tables of a database.
    AnyOf(Arc<HashSet<TableId>>),
}

impl TableFilter {
    /// Whether the reader wants this table.
    pub fn matches(&self, table: TableId) -> bool {
        match self {
            Self::One(wanted) => *wanted == table,
            Self::AnyOf(wanted) => wanted.contains(&table),
        }
    }
}

/// A batch and its place in the log.
#[derive(Debug, Clone)]
pub struct CommittedBatch {
    /// The record that holds it.
    pub lsn: Lsn,
    /// Its rows.
    pub batch: Arc<TableBatch>,
    /// When they arrived: [`Commit::time_ns`].
    pub time_ns: i64,
    /// Through how many triggers they have come: [`Commit::depth`].
    pub depth: u16,
}

/// What a reader has not seen yet.
#[derive(Debug, Clone, Default)]
pub struct TailRead {
    /// Matching batches in log order.
    pub batches: Vec<CommittedBatch>,
    /// Where to read on: everything up to here was looked at.
    pub next: Lsn,
}

impl TailRead {
    /// Looks at one commit and says whether to go on. The limits are never reached by the first matching commit, so a reader
    /// always gets on.
    pub(crate) fn take(
        &mut self,
        lsn: Lsn,
        commit: &Commit,
        filter: &TableFilter,
        limits: &mut ReadLimits,
    ) -> ControlFlow<()> {
        let mut matching = commit
            .tables
            .iter()
            .filter(|batch| filter.matches(batch.table))
            .peekable();
        if matching.peek().is_some()
            && let Some(first) = self.batches.first()
            && !limits.may_join(first.depth, commit.depth)
        {
            return ControlFlow::Break(());
        }
        for batch in matching {
            limits.rows = limits.rows.saturating_sub(batch.row_count);
            limits.bytes = limits.bytes.saturating_sub(batch_memory_bytes(batch));
            self.batches.push(CommittedBatch {
                lsn,
                batch: Arc::clone(batch),
                time_ns: commit.time_ns,
                depth: commit.depth,
            });
        }
        self.next = lsn;
        if limits.rows == 0 || limits.bytes == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// What a reader has yet to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Rows of the tables that it reads; `None` if that cannot even be estimated.
    pub rows: Option<u64>,
    /// Their size in memory, in bytes.
    pub bytes: Option<u64>,
    /// When the oldest of these rows that is known arrived, in nanoseconds since the epoch.
    pub oldest_ns: Option<i64>,
    /// Whether the reader is so far behind that the numbers are concluded from newer rows.
    pub is_estimated: bool,
}

/// How much a reader takes at once.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Rows after which no further commit is taken.
    pub rows: usize,
    /// Bytes after which no further commit is taken.
    pub bytes: usize,
    /// Commits up to this depth are taken together; deeper ones only with their like. What a run writes is as deep as the
    /// deepest that it has read, so without this a trigger that passes over its own rows would go ever deeper on a busy
    /// server, where they come together with new ones.
    pub joined_depth_max: u16,
}

impl ReadLimits {
    fn may_join(&self, first: u16, second: u16) -> bool {
        first == second || first.max(second) <= self.joined_depth_max
    }
}

/// Recent commits in log order, without gaps.
#[derive(Debug)]
pub struct Tail {
    commits: RwLock<Commits>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Commits {
    entries: VecDeque<(Lsn, Arc<Commit>, usize)>,
    bytes: usize,
    /// Newest record that is no longer (or never was) in `entries`.
    before: Lsn,
}

impl Tail {
    pub(crate) fn new(bytes_max: usize, before: Lsn) -> Self {
        Self {
            commits: RwLock::new(Commits {
                before,
                ..Commits::default()
            }),
            bytes_max,
        }
    }

    pub(crate) fn push(&self, lsn: Lsn, commit: Arc<Commit>) {
        let bytes = commit.memory_bytes() + size_of::<Commit>();
        let mut commits = self.commits.write();
        commits.entries.push_back((lsn, commit, bytes));
        commits.bytes += bytes;
        while commits.bytes > self.bytes_max && commits.entries.len() > 1 {
            let (oldest, _, freed) = commits.entries.pop_front().expect("more than one entry");
            commits.bytes -= freed;
            commits.before = oldest;
        }
    }

    /// What a reader at `cursor` has yet to read of a log that ends at `end`.
    pub(crate) fn backlog_after(&self, cursor: Lsn, end: Lsn, filter: &TableFilter) -> Backlog {
        let (mut rows, mut bytes, mut oldest_ns) = (0_u64, 0_u64, None);
        let before = {
            let commits = self.commits.read();
            let start = commits.entries.partition_point(|(lsn, _, _)| *lsn <= cursor);
            for (_, commit, _) in commits.entries.range(start..) {
                for batch in commit.tables.iter().filter(|batch| filter.matches(batch.table)) {
                    rows += batch.row_count as u64;
                    bytes += batch_memory_bytes(batch) as u64;
                    oldest_ns = oldest_ns.or(Some(commit.time_ns));
                }
            }
            commits.before
        };
        let is_estimated = cursor < before;
        // Records that are no longer in the tail are taken to be like those that are.
        let seen = end.0.saturating_sub(before.0);
        let scaled = |of_seen: u64| match (is_estimated, seen) {
            (false, _) => Some(of_seen),
            (true, 0) => None,
            (true, _) => {
                let scaled = u128::from(of_seen) * u128::from(end.0 - cursor.0) / u128::from(seen);
                Some(u64::try_from(scaled).unwrap_or(u64::MAX))
            }
        };
        Backlog {
            rows: scaled(rows),
            bytes: scaled(bytes),
            oldest_ns,
            is_estimated,
        }
    }

    /// Everything after `cursor`, or `None` where the tail does not reach back that far.
    pub(crate) fn read_after(
        &self,
        cursor: Lsn,
        filter: &TableFilter,
        mut limits: ReadLimits,
    ) -> Option<TailRead> {
        let commits = self.commits.read();
        if cursor < commits.before {
            return None;
        }
        let mut read = TailRead {
            batches: Vec::new(),
            next: cursor,
        };
        let start = commits.entries.partition_point(|(lsn, _, _)| *lsn <= cursor);
        for (lsn, commit, _) in commits.entries.range(start..) {
            if read.take(*lsn, commit, filter, &mut limits).is_break() {
                break;
            }
        }
        Some(read)
    }
}
