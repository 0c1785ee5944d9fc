//! Reading a journal in the order of time, from either end, without holding more of it than overlaps.
//!
//! Rows are appended almost in the order of their times. An object is read when all that is left to give begins with its
//! times: its rows then come out as soon as no other object can have rows before them.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::error::ArrowError;
use futures::Stream;
use futures::stream;

use crate::layout::{self, Layout};
use crate::object::Object;
use crate::{Journal, JournalError};

/// Which rows are wanted, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderedScan {
    /// The columns to give, by their place in the schema, in this order. Others are not read.
    pub columns: Vec<usize>,
    /// The times of the rows, in nanoseconds.
    pub times: RangeInclusive<i64>,
    /// Whether the newest row comes first, or else the oldest.
    pub newest_first: bool,
}

/// What a journal holds at one moment.
pub struct Snapshot {
    journal: Arc<Journal>,
    objects: Vec<Arc<Object>>,
    in_memory: Vec<RecordBatch>,
}

impl Journal {
    /// What the journal holds now: every row that was appended before, and none that is appended later.
    pub fn snapshot(self: &Arc<Self>) -> Snapshot {
        let (objects, in_memory) = self.state.lock().snapshot();
        Snapshot {
            journal: Arc::clone(self),
            objects,
            in_memory,
        }
    }
}

impl Snapshot {
    /// The rows that are wanted, ordered by time; those that are too old are left out. `more` are rows of the journal's
    /// schema that are not in it and shall be among them. Objects are read as the stream is polled: those who want few rows
    /// stop early.
    ///
    /// # Errors
    /// When the store fails; it ends the stream. Damaged objects are skipped, and named in the log.
    pub fn in_order(
        self,
        scan: OrderedScan,
        more: Vec<RecordBatch>,
    ) -> impl Stream<Item = Result<RecordBatch, JournalError>> + Send {
        let rows = OrderedRows::new(self, scan, more);
        stream::unfold(Some(rows), async |rows| {
            let mut rows = rows?;
            match rows.next().await {
                Ok(Some(batch)) => Some((Ok(batch), Some(rows))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

/// Rows that are yet to be read, of some range of times.
struct Source {
    times: RangeInclusive<i64>,
    rows: Unread,
}

enum Unread {
    InMemory(RecordBatch),
    Stored(Arc<Object>),
}

struct OrderedRows {
    journal: Arc<Journal>,
    /// The time, then the columns that are wanted.
    layout: Layout,
    times: RangeInclusive<i64>,
    newest_first: bool,
    /// In the order in which their rows can be needed.
    sources: VecDeque<Source>,
    /// Read, but not given yet: others may have to come before.
    read: Vec<RecordBatch>,
}

impl OrderedRows {
    fn new(snapshot: Snapshot, scan: OrderedScan, more: Vec<RecordBatch>) -> Self {
        let Snapshot {
            journal,
            objects,
            in_memory,
        } = snapshot;
        let oldest_kept = journal.config.oldest_kept((journal.clock)());
        let times = oldest_kept.max(*scan.times.start())..=*scan.times.end();
        let stored = objects.into_iter().map(|object| Source {
            times: object.name.times.clone(),
            rows: Unread::Stored(object),
        });
        let in_memory = in_memory.into_iter().chain(more).filter_map(|batch| {
            Some(Source {
                times: layout::time_range(std::slice::from_ref(&batch))?,
                rows: Unread::InMemory(batch),
            })
        });
        let overlaps =
            |source: &Source| source.times.start() <= times.end() && times.start() <= source.times.end();
        let mut sources: Vec<Source> = stored.chain(in_memory).filter(overlaps).collect();
        if scan.newest_first {
            sources.sort_by_key(|source| std::cmp::Reverse(*source.times.end()));
        } else {
            sources.sort_by_key(|source| *source.times.start());
        }
        Self {
            layout: journal.layout.select(&scan.columns),
            journal,
            times,
            newest_first: scan.newest_first,
            sources: sources.into(),
            read: Vec::new(),
        }
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>, JournalError> {
        loop {
            if let Some(rows) = self.take_settled().map_err(|error| JournalError::Schema {
                reason: error.to_string(),
            })? {
                return Ok(Some(rows));
            }
            let Some(source) = self.sources.pop_front() else {
                return Ok(None);
            };
            let batches = match source.rows {
                Unread::InMemory(batch) => match self.layout.fit(&batch) {
                    Ok(fitted) => vec![fitted],
                    Err(error) => {
                        let reason = error.to_string();
                        return Err(JournalError::Schema { reason });
                    }
                },
                Unread::Stored(object) => self
                    .journal
                    .read_as(&object, &self.layout)
                    .await?
                    .unwrap_or_default(),
            };
            let wanted = batches
                .into_iter()
                .map(|batch| layout::within(batch, &self.times));
            self.read.extend(wanted.filter(|batch| batch.num_rows() > 0));
        }
    }

    /// The rows that were read and that no unread one can come before, in order; None: there are none.
    fn take_settled(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let next = self.sources.front().map(|source| &source.times);
        let is_settled = |time: i64| match next {
            None => true,
            Some(times) if self.newest_first => time > *times.end(),
            Some(times) => time < *times.start(),
        };
        if !layout::time_range(&self.read).is_some_and(|times| {
            is_settled(if self.newest_first {
                *times.end()
            } else {
                *times.start()
            })
        }) {
            return Ok(None);
        }
        let read = concat_batches(self.layout.schema(), &self.read)?;
        let times = layout::times(&read).values();
        let mut places: Vec<u64> = (0..times.len() as u64).collect();
        let time_of = |place: u64| times[usize::try_from(place).unwrap_or(usize::MAX)];
        places.sort_by_key(|place| time_of(*place));
        if self.newest_first {
            places.reverse();
        }
        let settled = places.partition_point(|place| is_settled(time_of(*place)));
        let taken = take_record_batch(&read, &UInt64Array::from(places[..settled].to_vec()))?;
        let left = take_record_batch(&read, &UInt64Array::from(places[settled..].to_vec()))?;
        self.read.clear();
        if left.num_rows() > 0 {
            self.read.push(left);
        }
        // Without the time in front, which was read whether it is wanted or not.
        let wanted: Vec<usize> = (1..taken.num_columns()).collect();
        taken.project(&wanted).map(Some)
    }
}
