//! How far triggers have read: kept in the log, in the same record as what their runs wrote.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use parking_lot::RwLock;
use tidemill_catalog::{CatalogState, DatabaseId};
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

/// A trigger has run everything that is in `cursor`, and has changed its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerProgress {
    /// The trigger.
    pub trigger: TriggerKey,
    /// Its position in the log, with the finished runs beyond it.
    pub cursor: Position,
    /// What changes in its durable state (`spec/engine.md` 0.29).
    pub state: Vec<StateChange>,
    /// The instant that a scheduled run was for, in nanoseconds since the epoch.
    pub scheduled_ns: Option<i64>,
}

/// A change of one value of a trigger's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// Its key.
    pub key: String,
    /// Its value, whatever the worker makes of the bytes; `None` where it is removed.
    pub value: Option<Bytes>,
}

impl TriggerProgress {
    /// A trigger has run everything that is in `cursor`.
    pub fn at(trigger: TriggerKey, cursor: Position) -> Self {
        Self {
            trigger,
            cursor,
            state: Vec::new(),
            scheduled_ns: None,
        }
    }

    /// A trigger has run everything up to and including a record.
    pub fn through(trigger: TriggerKey, lsn: Lsn) -> Self {
        Self::at(trigger, Position::at(lsn.0))
    }

    /// Something about a trigger that leaves its position where it is.
    pub fn in_place(trigger: TriggerKey) -> Self {
        Self::at(trigger, Position::default())
    }
}

/// What the log says of one trigger.
#[derive(Debug, Default)]
struct Recorded {
    cursor: Position,
    state: BTreeMap<String, Bytes>,
    /// The size of `state`, see [`entry_bytes`].
    state_bytes: usize,
    scheduled_ns: Option<i64>,
}

/// What an entry of a state counts for.
fn entry_bytes(key: &str, value: Option<&Bytes>) -> usize {
    value.map_or(0, |value| key.len() + value.len())
}

impl Recorded {
    /// The size of the state after a change, in bytes, where it was `bytes` before; no change may name a key again.
    fn bytes_after(&self, bytes: usize, change: &StateChange) -> usize {
        let before = entry_bytes(&change.key, self.state.get(&change.key));
        (bytes + entry_bytes(&change.key, change.value.as_ref())).saturating_sub(before)
    }
}

/// The committed progress and state of every trigger.
#[derive(Debug, Default)]
pub(crate) struct Triggers {
    by_trigger: RwLock<HashMap<TriggerKey, Recorded>>,
    /// How far triggers that run have come. A trigger that passes over what is not for it leaves no record of that.
    seen: RwLock<HashMap<TriggerKey, u64>>,
}

impl Triggers {
    /// Records progress: what any record says to be finished stays so. Of runs that go on at once, each record knows what
    /// was finished when it was made, and not the others that reach the log with it. The state is what the last record
    /// that names a key says. Called in log order.
    pub(crate) fn advance(&self, progress: &TriggerProgress) {
        let mut by_trigger = self.by_trigger.write();
        let recorded = by_trigger.entry(progress.trigger).or_default();
        recorded.cursor.merge(&progress.cursor);
        recorded.scheduled_ns = recorded.scheduled_ns.max(progress.scheduled_ns);
        for change in &progress.state {
            recorded.state_bytes = recorded.bytes_after(recorded.state_bytes, change);
            let StateChange { key, value } = change;
            match value {
                // A copy: the bytes may be a part of a log segment or of a worker's message.
                Some(value) => drop(recorded.state.insert(key.clone(), Bytes::copy_from_slice(value))),
                None => drop(recorded.state.remove(key)),
            }
        }
    }

    pub(crate) fn cursor(&self, trigger: TriggerKey) -> Option<Position> {
        Some(self.by_trigger.read().get(&trigger)?.cursor.clone())
    }

    pub(crate) fn scheduled_ns(&self, trigger: TriggerKey) -> Option<i64> {
        self.by_trigger.read().get(&trigger)?.scheduled_ns
    }

    pub(crate) fn value(&self, trigger: TriggerKey, key: &str) -> Option<Bytes> {
        self.by_trigger.read().get(&trigger)?.state.get(key).cloned()
    }

    pub(crate) fn keys_with_prefix(&self, trigger: TriggerKey, prefix: &str) -> Vec<String> {
        let by_trigger = self.by_trigger.read();
        let state = by_trigger.get(&trigger).map(|recorded| &recorded.state);
        let keys = state.into_iter().flat_map(|state| state.keys());
        keys.filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// The size of a trigger's state after some changes, each of another key, in bytes.
    pub(crate) fn state_bytes_after(&self, trigger: TriggerKey, changes: &[StateChange]) -> usize {
        let by_trigger = self.by_trigger.read();
        let none = Recorded::default();
        let recorded = by_trigger.get(&trigger).unwrap_or(&none);
        changes.iter().fold(recorded.state_bytes, |bytes, change| {
            recorded.bytes_after(bytes, change)
        })
    }

    pub(crate) fn forget(&self, trigger: TriggerKey) {
        self.by_trigger.write().remove(&trigger);
        self.seen.write().remove(&trigger);
    }

    /// Notes that a trigger has run, or passed over, everything up to a record, and that what its runs wrote is durable.
    pub(crate) fn note_seen(&self, trigger: TriggerKey, through: u64) {
        let mut seen = self.seen.write();
        let known = seen.entry(trigger).or_default();
        *known = through.max(*known);
    }

    /// The progress and the whole state of every trigger, by trigger: what [`advance`](Self::advance) makes the same of.
    pub(crate) fn image(&self) -> Vec<TriggerProgress> {
        let by_trigger = self.by_trigger.read();
        let seen = self.seen.read();
        let keys: BTreeSet<TriggerKey> = by_trigger.keys().chain(seen.keys()).copied().collect();
        let none = Recorded::default();
        let progress = keys.into_iter().map(|trigger| {
            let recorded = by_trigger.get(&trigger).unwrap_or(&none);
            let mut cursor = recorded.cursor.clone();
            if let Some(through) = seen.get(&trigger) {
                cursor.merge(&Position::at(*through));
            }
            let state = recorded.state.iter().map(|(key, value)| StateChange {
                key: key.clone(),
                value: Some(value.clone()),
            });
            TriggerProgress {
                trigger,
                cursor,
                state: state.collect(),
                scheduled_ns: recorded.scheduled_ns,
            }
        });
        progress.collect()
    }

    /// Takes over positions that have become durable with a snapshot.
    pub(crate) fn merge_cursors(&self, image: &[TriggerProgress]) {
        let mut by_trigger = self.by_trigger.write();
        for progress in image {
            // One that is not there was forgotten meanwhile, or has only been seen: then it is nobody's record.
            let recorded = by_trigger.entry(progress.trigger).or_default();
            recorded.cursor.merge(&progress.cursor);
        }
    }

    /// Forgets the triggers that are not in the catalog.
    pub(crate) fn retain_known(&self, catalog: &CatalogState) {
        self.by_trigger.write().retain(|trigger, _| {
            let database = catalog.database_by_id(trigger.database);
            let mut triggers = database.into_iter().flat_map(|database| database.triggers());
            triggers.any(|known| known.trigger_id == trigger.trigger_id)
        });
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
        let cursors = Triggers::default();
        for (recorded, expected) in [(5, 5), (3, 5), (9, 9)] {
            cursors.advance(&TriggerProgress::through(TRIGGER, Lsn(recorded)));
            assert_eq!(cursors.cursor(TRIGGER), Some(Position::at(expected)));
        }
        cursors.forget(TRIGGER);
        assert_eq!(cursors.cursor(TRIGGER), None);
    }

    #[test]
    fn the_state_is_what_the_last_record_says() {
        let triggers = Triggers::default();
        let change = |key: &str, value: Option<&'static [u8]>| StateChange {
            key: key.to_owned(),
            value: value.map(Bytes::from_static),
        };
        let record = |state: Vec<StateChange>, scheduled_ns| {
            triggers.advance(&TriggerProgress {
                state,
                scheduled_ns,
                ..TriggerProgress::in_place(TRIGGER)
            });
        };
        record(vec![change("a", Some(b"1")), change("b", Some(b"22"))], Some(7));
        record(vec![change("a", Some(b"333")), change("b", None)], Some(5));
        let value = |key| triggers.value(TRIGGER, key);
        assert_eq!((value("a").as_deref(), value("b")), (Some(&b"333"[..]), None));
        assert_eq!(triggers.scheduled_ns(TRIGGER), Some(7), "instants do not go back");
        let changes = [change("a", None), change("long", Some(b"4444"))];
        assert_eq!(triggers.state_bytes_after(TRIGGER, &[]), 4);
        assert_eq!(triggers.state_bytes_after(TRIGGER, &changes), 8);
    }

    #[test]
    fn an_image_has_all_that_the_records_had_and_what_was_passed_over() {
        let triggers = Triggers::default();
        let other = TriggerKey {
            trigger_id: 9,
            ..TRIGGER
        };
        triggers.advance(&TriggerProgress {
            state: vec![StateChange {
                key: "a".to_owned(),
                value: Some(Bytes::from_static(b"1")),
            }],
            scheduled_ns: Some(5),
            ..TriggerProgress::through(TRIGGER, Lsn(3))
        });
        triggers.note_seen(TRIGGER, 8);
        triggers.note_seen(TRIGGER, 7);
        triggers.note_seen(other, 4);
        assert_eq!(triggers.cursor(TRIGGER), Some(Position::at(3)));
        let image = triggers.image();
        let restored = Triggers::default();
        for progress in &image {
            restored.advance(progress);
        }
        assert_eq!(restored.cursor(TRIGGER), Some(Position::at(8)));
        assert_eq!(restored.cursor(other), Some(Position::at(4)));
        assert_eq!(restored.scheduled_ns(TRIGGER), Some(5));
        assert_eq!(restored.value(TRIGGER, "a").as_deref(), Some(&b"1"[..]));
        assert_eq!(restored.image(), image);
        triggers.merge_cursors(&image);
        assert_eq!(triggers.cursor(TRIGGER), Some(Position::at(8)));
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
            let cursors = Triggers::default();
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
                    cursors.advance(&TriggerProgress::at(TRIGGER, record));
                    expected.add(range(*run));
                }
                for run in together {
                    cursor.finish_run(tickets[*run as usize]);
                }
            }
            prop_assert_eq!(cursors.cursor(TRIGGER).unwrap_or_default(), expected);
        }
    }
}
