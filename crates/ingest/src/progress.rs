//! How far triggers have read: kept in the log, in the same record as what their runs wrote.

use std::collections::HashMap;

use parking_lot::RwLock;
use tidemill_catalog::DatabaseId;
use tidemill_triggers::Position;
use tidemill_wal::Lsn;

/// Names a trigger for ever: ids are not reused when a trigger is deleted and created again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TriggerKey {
    /// Its database.
    pub database: DatabaseId,
    /// Its id within the database.
    pub trigger_id: u32,
}

/// A trigger has run everything that is in `cursor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerProgress {
    /// The trigger.
    pub trigger: TriggerKey,
    /// Its position in the log, with the finished runs beyond it.
    pub cursor: Position,
}

impl TriggerProgress {
    /// A trigger has run everything up to and including a record.
    pub fn through(trigger: TriggerKey, lsn: Lsn) -> Self {
        Self {
            trigger,
            cursor: Position::at(lsn.0),
        }
    }
}

/// The newest committed progress of every trigger.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    by_trigger: RwLock<HashMap<TriggerKey, Position>>,
}

impl Cursors {
    /// Records progress: what any record says to be finished stays so. Of runs that go on at once, each record knows what
    /// was finished when it was made, and not the others that reach the log with it.
    pub(crate) fn advance(&self, progress: &TriggerProgress) {
        let mut by_trigger = self.by_trigger.write();
        by_trigger
            .entry(progress.trigger)
            .or_default()
            .merge(&progress.cursor);
    }

    pub(crate) fn get(&self, trigger: TriggerKey) -> Option<Position> {
        self.by_trigger.read().get(&trigger).cloned()
    }

    pub(crate) fn forget(&self, trigger: TriggerKey) {
        self.by_trigger.write().remove(&trigger);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidemill_triggers::{Cursor, LogRange};

    use super::*;

    const TRIGGER: TriggerKey = TriggerKey {
        database: DatabaseId(1),
        trigger_id: 2,
    };

    #[test]
    fn a_cursor_never_goes_back() {
        let cursors = Cursors::default();
        for (recorded, expected) in [(5, 5), (3, 5), (9, 9)] {
            cursors.advance(&TriggerProgress::through(TRIGGER, Lsn(recorded)));
            assert_eq!(cursors.get(TRIGGER), Some(Position::at(expected)));
        }
        cursors.forget(TRIGGER);
        assert_eq!(cursors.get(TRIGGER), None);
    }

    proptest! {
        /// Runs that overlap make their records at some moment, and the records reach the log in any order, or not at
        /// all: the cursor has the runs whose records did, and no other.
        #[test]
        fn the_cursor_is_the_union_of_the_records(
            order in Just((0..12_u64).collect::<Vec<_>>()).prop_shuffle(),
            batch in 1_usize..5,
            durable in 0_usize..12,
        ) {
            let mut cursor = Cursor::new(Position::at(0));
            let range = |run: u64| LogRange { after: run * 2, through: run * 2 + 2 };
            let tickets: Vec<_> = (0..12).map(|run| cursor.start_run(range(run)).unwrap()).collect();
            let cursors = Cursors::default();
            let mut expected = Position::at(0);
            let mut recorded = 0;
            // Runs of one batch make their records before any of them counts as finished; they are logged in reverse.
            for together in order.chunks(batch) {
                let records: Vec<Position> = together
                    .iter()
                    .map(|run| cursor.position_after(tickets[*run as usize]))
                    .collect();
                for (run, record) in together.iter().zip(records).rev() {
                    if recorded == durable {
                        break;
                    }
                    recorded += 1;
                    cursors.advance(&TriggerProgress { trigger: TRIGGER, cursor: record });
                    expected.add(range(*run));
                }
                for run in together {
                    cursor.finish_run(tickets[*run as usize]);
                }
            }
            prop_assert_eq!(cursors.get(TRIGGER).unwrap_or_default(), expected);
        }
    }
}
