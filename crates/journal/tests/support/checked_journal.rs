//! A journal beside a list that says what must be in it.

use std::time::Duration;

use tidemill_journal::{Journal, JournalConfig};

use super::{PREFIX, TestClock, ids, ids_that, rows, schema};
use tidemill_testkit::{Fault, FaultyStore};

pub(crate) const AGE_MAX: Duration = Duration::from_secs(1000);

/// Something that is done to a journal.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Append {
        rows: i64,
        text_bytes: usize,
    },
    AppendDurably {
        text_bytes: usize,
    },
    Flush,
    Upkeep,
    /// Removes every so many-th row.
    Remove {
        every: i64,
    },
    Advance {
        nanoseconds: i64,
    },
    /// After so many operations of the store, one fails.
    Fail {
        after: usize,
        fault: Fault,
    },
    Crash,
}

/// What is known of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is there, and will be after a crash.
    Durable,
    /// It is there, and may be after a crash.
    Unflushed,
    /// It is there, and may not be after a crash: its removal failed, as far as is known.
    Doubtful,
    /// It is not there, and may be after a crash: its appending failed, as far as is known.
    Unanswered,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    id: i64,
    time: i64,
    fate: Fate,
}

pub(crate) struct CheckedJournal {
    pub(crate) store: FaultyStore,
    pub(crate) clock: TestClock,
    journal: Journal,
    /// In the order in which they were appended.
    rows: Vec<Row>,
    next_id: i64,
}

fn config() -> JournalConfig {
    JournalConfig {
        age_max: Some(AGE_MAX),
        bytes_max: 1024 * 1024,
        ..JournalConfig::default()
    }
}

impl CheckedJournal {
    pub(crate) async fn new() -> Self {
        let (store, clock) = (FaultyStore::new(), TestClock::default());
        Self {
            journal: open(&store, &clock).await,
            store,
            clock,
            rows: Vec::new(),
            next_id: 0,
        }
    }

    /// Does it.
    pub(crate) async fn step(&mut self, step: &Step) {
        match *step {
            Step::Append {
                rows: count,
                text_bytes,
            } => {
                let first = self.next_id;
                let time = self.new_rows(count, Fate::Unflushed);
                self.journal.append(&rows(first..first + count, time, text_bytes));
            }
            Step::AppendDurably { text_bytes } => {
                let first = self.next_id;
                let time = self.new_rows(1, Fate::Unanswered);
                if self
                    .journal
                    .append_durably(&rows([first], time, text_bytes))
                    .await
                    .is_ok()
                {
                    self.rows.last_mut().unwrap().fate = Fate::Unflushed;
                    self.all_are_durable();
                }
            }
            Step::Flush => {
                if self.journal.flush().await.is_ok() {
                    self.all_are_durable();
                }
            }
            Step::Upkeep => {
                if self.journal.upkeep().await.is_ok() {
                    self.all_are_durable();
                    self.nothing_is_doubtful();
                }
            }
            Step::Remove { every } => self.remove(every).await,
            Step::Advance { nanoseconds } => self.clock.advance(nanoseconds),
            Step::Fail { after, fault } => self.store.fail_after(after, fault),
            Step::Crash => self.crash().await,
        }
    }

    fn new_rows(&mut self, count: i64, fate: Fate) -> i64 {
        let time = self.clock.now();
        let new = self.next_id..self.next_id + count;
        self.next_id = new.end;
        self.rows.extend(new.map(|id| Row { id, time, fate }));
        time
    }

    fn all_are_durable(&mut self) {
        for row in &mut self.rows {
            if row.fate == Fate::Unflushed {
                row.fate = Fate::Durable;
            }
        }
    }

    /// What failed writes may have left over is gone.
    fn nothing_is_doubtful(&mut self) {
        self.rows.retain(|row| row.fate != Fate::Unanswered);
        for row in &mut self.rows {
            row.fate = Fate::Durable;
        }
    }

    async fn remove(&mut self, every: i64) {
        let removed = self.journal.remove(ids_that(move |id| id % every == 0)).await;
        if let Ok(count) = removed {
            let oldest = self.oldest_visible();
            self.all_are_durable();
            let is_gone = |row: &Row| row.id % every == 0 && row.fate != Fate::Unanswered;
            let visible = self.rows.iter().filter(|row| row.time >= oldest);
            let expected = visible.filter(|row| is_gone(row)).count();
            assert!(count >= expected, "{count} rows removed of {expected}");
            self.rows.retain(|row| !is_gone(row));
            return;
        }
        // Some are gone for good; the others may be gone after a crash, if an answer of the store was lost.
        let there = self.scan().await;
        self.rows
            .retain(|row| row.id % every != 0 || row.fate == Fate::Unanswered || there.contains(&row.id));
        for row in &mut self.rows {
            if row.id % every == 0 && row.fate != Fate::Unanswered {
                row.fate = Fate::Doubtful;
            }
        }
    }

    pub(crate) async fn crash(&mut self) {
        self.store.repair();
        self.journal = open(&self.store, &self.clock).await;
        let oldest = self.oldest_visible();
        let there = self.scan().await;
        assert!(
            there.is_sorted_by(|a, b| a < b),
            "twice or out of order: {there:?}"
        );
        let mut kept = Vec::new();
        for row in &self.rows {
            let is_there = there.contains(&row.id);
            let must_be_there = row.fate == Fate::Durable && row.time >= oldest;
            assert!(is_there || !must_be_there, "row {} is lost: {there:?}", row.id);
            if is_there {
                kept.push(Row {
                    fate: Fate::Durable,
                    ..*row
                });
            }
        }
        assert_eq!(
            there.len(),
            kept.len(),
            "rows were invented or came back: {there:?}"
        );
        self.rows = kept;
    }

    fn oldest_visible(&self) -> i64 {
        self.clock.now() - AGE_MAX.as_nanos() as i64
    }

    async fn scan(&self) -> Vec<i64> {
        self.store.pause_faults(true);
        let scanned = ids(&self.journal.scan(..).await.unwrap());
        self.store.pause_faults(false);
        scanned
    }

    /// Checks that the journal holds what it should.
    pub(crate) async fn check(&self) {
        let oldest = self.oldest_visible();
        let visible = self
            .rows
            .iter()
            .filter(|row| row.time >= oldest && row.fate != Fate::Unanswered);
        let visible: Vec<Row> = visible.copied().collect();
        let expected: Vec<i64> = visible.iter().map(|row| row.id).collect();
        assert_eq!(self.scan().await, expected);

        self.store.pause_faults(true);
        let wanted = expected.len() / 2;
        let newest = ids(&self.journal.scan_newest(wanted).await.unwrap());
        assert_eq!(newest, expected[expected.len() - wanted..]);
        if let Some(middle) = visible.get(wanted) {
            let since = ids(&self.journal.scan(middle.time..).await.unwrap());
            let since_expected = visible.iter().filter(|row| row.time >= middle.time);
            assert_eq!(since, since_expected.map(|row| row.id).collect::<Vec<_>>());
        }
        self.store.pause_faults(false);
        assert_eq!(self.journal.dropped(), 0);
    }

    /// After upkeep in peace, there is nothing in the store but the journal's few objects.
    pub(crate) async fn finish(mut self) {
        self.crash().await;
        self.step(&Step::Upkeep).await;
        self.check().await;
        let stored = self.journal.stored();
        assert_eq!(
            self.store.names(PREFIX).await.len(),
            stored.objects,
            "something is left over"
        );
        assert!(stored.objects <= 40, "{stored:?}");
    }
}

async fn open(store: &FaultyStore, clock: &TestClock) -> Journal {
    Journal::open(store.object_store(), PREFIX, schema(), config(), clock.clock())
        .await
        .unwrap()
}
