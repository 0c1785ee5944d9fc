//! The durable state of triggers as their plugins see it: `influxdb3_local.state` (engine.md 0.29).
//!
//! Within a run the worker collects changes, and they are committed with the run. Here is the rest: what is read, and what a
//! plugin's own threads change between runs, which is committed at once.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_ingest::{Ingest, StateChange, TriggerKey, TriggerProgress};
use tidemill_worker_proto::{StateOperation, StateReply};

use crate::effects;

/// Begins the keys under which the engine itself remembers something; plugins cannot use them.
pub(crate) const RESERVED_PREFIX: char = '\0';

/// Carries out an operation. Returns the answer and the bytes that belong to it.
pub(crate) async fn operate(
    ingest: &Ingest,
    trigger: TriggerKey,
    operation: StateOperation,
    value: Bytes,
) -> (StateReply, Bytes) {
    let reply = match operation {
        StateOperation::Get { key } => {
            return match read(ingest, trigger, &key) {
                Some(value) => (StateReply::Value, value),
                None => (StateReply::Missing, Bytes::new()),
            };
        }
        StateOperation::Put { key } => {
            let changed = change(ingest, trigger, key, Some(value)).await;
            changed.map_or_else(StateReply::Refused, |()| StateReply::Stored)
        }
        StateOperation::Delete { key } => {
            let is_there = read(ingest, trigger, &key).is_some();
            let changed = change(ingest, trigger, key, None).await;
            changed.map_or_else(StateReply::Refused, |()| StateReply::Deleted(is_there))
        }
    };
    (reply, Bytes::new())
}

/// A committed value that a plugin has put there.
fn read(ingest: &Ingest, trigger: TriggerKey, key: &str) -> Option<Bytes> {
    let is_its_own = !key.starts_with(RESERVED_PREFIX);
    is_its_own.then(|| ingest.state_value(trigger, key)).flatten()
}

async fn change(
    ingest: &Ingest,
    trigger: TriggerKey,
    key: String,
    value: Option<Bytes>,
) -> Result<(), String> {
    check_keys([&key])?;
    let progress = TriggerProgress {
        state: vec![StateChange { key, value }],
        ..TriggerProgress::in_place(trigger)
    };
    effects::commit(ingest, Vec::new(), progress, 0).await.map(drop)
}

/// Refuses the keys that the engine keeps for itself.
pub(crate) fn check_keys<'a>(keys: impl IntoIterator<Item = &'a String>) -> Result<(), String> {
    let mut keys = keys.into_iter();
    match keys.find(|key| key.starts_with(RESERVED_PREFIX)) {
        None => Ok(()),
        Some(key) => Err(format!(
            "a key of the state must not begin with a NUL character: {key:?}"
        )),
    }
}

/// The state of dry runs: as long as the caches of the same name live, and never in the log (engine.md 5.9).
#[derive(Debug, Default)]
pub(crate) struct TestState {
    values: Mutex<HashMap<String, Bytes>>,
}

impl TestState {
    /// Carries out an operation, see [`operate`].
    pub(crate) fn operate(&self, operation: StateOperation, value: Bytes) -> (StateReply, Bytes) {
        let mut values = self.values.lock();
        let reply = match operation {
            StateOperation::Get { key } => match values.get(&key) {
                Some(value) => return (StateReply::Value, value.clone()),
                None => StateReply::Missing,
            },
            StateOperation::Put { key } => {
                values.insert(key, Bytes::copy_from_slice(&value));
                StateReply::Stored
            }
            StateOperation::Delete { key } => StateReply::Deleted(values.remove(&key).is_some()),
        };
        (reply, Bytes::new())
    }

    /// Takes over what a successful run has changed.
    pub(crate) fn apply(&self, changes: Vec<StateChange>) {
        let mut values = self.values.lock();
        for StateChange { key, value } in changes {
            match value {
                Some(value) => drop(values.insert(key, Bytes::copy_from_slice(&value))),
                None => drop(values.remove(&key)),
            }
        }
    }
}
