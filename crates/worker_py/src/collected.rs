//! What is committed together with its run: lines, and changes of the state.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use tidemill_worker_proto::{DatabaseWrites, StateChange};

/// Line protocol by database, in the order in which the databases were first written to; and the last change of each key of the
/// state.
#[derive(Default)]
pub(crate) struct Collected {
    databases: Vec<(Option<String>, Vec<u8>)>,
    state: BTreeMap<String, Change>,
    bytes: u64,
}

/// What a run has made of a key of the state.
#[derive(Clone)]
pub(crate) enum Change {
    /// It has this value, pickled.
    Put(Bytes),
    /// It has none.
    Deleted,
}

impl Change {
    fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Put(value) => Some(value),
            Self::Deleted => None,
        }
    }
}

impl Collected {
    /// Adds lines for a database; `None` is the trigger's. Returns whether there was room for them.
    pub(crate) fn add(&mut self, database: Option<&str>, lines: &[u8], bytes_max: u64) -> bool {
        if lines.is_empty() {
            return true;
        }
        // With a line end where the last lines had none.
        let bytes = self.bytes + lines.len() as u64 + 1;
        if bytes > bytes_max {
            return false;
        }
        self.bytes = bytes;
        let at = self
            .databases
            .iter()
            .position(|(name, _)| name.as_deref() == database);
        let at = at.unwrap_or_else(|| {
            self.databases.push((database.map(str::to_owned), Vec::new()));
            self.databases.len() - 1
        });
        let body = &mut self.databases[at].1;
        if !body.is_empty() && !body.ends_with(b"\n") {
            body.push(b'\n');
        }
        body.extend_from_slice(lines);
        true
    }

    /// What the run has made of a key of the state, if anything.
    pub(crate) fn state_change(&self, key: &str) -> Option<Change> {
        self.state.get(key).cloned()
    }

    /// Sets a key of the state to a pickled value.
    pub(crate) fn put_state(&mut self, key: &str, value: Bytes) {
        self.state.insert(key.to_owned(), Change::Put(value));
    }

    /// Deletes a key of the state, which has a committed value or has not. Returns whether the run saw a value.
    pub(crate) fn delete_state(&mut self, key: &str, is_committed: bool) -> bool {
        match self.state.entry(key.to_owned()) {
            Entry::Occupied(mut change) => matches!(change.insert(Change::Deleted), Change::Put(_)),
            Entry::Vacant(unchanged) => {
                if is_committed {
                    unchanged.insert(Change::Deleted);
                }
                is_committed
            }
        }
    }

    /// The heads of the lines for the wire.
    pub(crate) fn heads(&self) -> Vec<DatabaseWrites> {
        let heads = self.databases.iter().map(|(database, body)| DatabaseWrites {
            database: database.clone(),
            bytes: body.len() as u64,
        });
        heads.collect()
    }

    /// The heads of the state's changes for the wire.
    pub(crate) fn state_heads(&self) -> Vec<StateChange> {
        let heads = self.state.iter().map(|(key, change)| StateChange {
            key: key.clone(),
            value_bytes: change.value().map(|value| value.len() as u64),
        });
        heads.collect()
    }

    /// The lines and then the values of the state, in the order of the heads.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.databases.iter().map(|(_, body)| body.as_slice());
        lines.chain(self.state.values().filter_map(Change::value))
    }
}
