//! How far triggers have read: kept in the log, in the same record as what their runs wrote.

use std::collections::HashMap;

use parking_lot::RwLock;
use tidemill_catalog::DatabaseId;
use tidemill_wal::Lsn;

/// Names a trigger for ever: ids are not reused when a trigger is deleted and created again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TriggerKey {
    /// Its database.
    pub database: DatabaseId,
    /// Its id within the database.
    pub trigger_id: u32,
}

/// A trigger has seen everything up to and including `cursor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TriggerProgress {
    /// The trigger.
    pub trigger: TriggerKey,
    /// Its position in the log.
    pub cursor: Lsn,
}

/// The newest committed progress of every trigger.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    by_trigger: RwLock<HashMap<TriggerKey, Lsn>>,
}

impl Cursors {
    /// Records progress. A cursor never goes back: of runs that go on at once, the one that began earlier may be the one
    /// that reaches the log later.
    pub(crate) fn advance(&self, progress: TriggerProgress) {
        let mut by_trigger = self.by_trigger.write();
        let cursor = by_trigger.entry(progress.trigger).or_default();
        *cursor = progress.cursor.max(*cursor);
    }

    pub(crate) fn get(&self, trigger: TriggerKey) -> Option<Lsn> {
        self.by_trigger.read().get(&trigger).copied()
    }

    pub(crate) fn forget(&self, trigger: TriggerKey) {
        self.by_trigger.write().remove(&trigger);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_never_goes_back() {
        let cursors = Cursors::default();
        let trigger = TriggerKey {
            database: DatabaseId(1),
            trigger_id: 2,
        };
        for (recorded, expected) in [(5, 5), (3, 5), (9, 9)] {
            cursors.advance(TriggerProgress {
                trigger,
                cursor: Lsn(recorded),
            });
            assert_eq!(cursors.get(trigger), Some(Lsn(expected)));
        }
        cursors.forget(trigger);
        assert_eq!(cursors.get(trigger), None);
    }
}
