//! The simplest state there is: the items in the order in which they were added.

#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::Arc;

use object_store::path::Path;
use tidemill_checkpoint_log::{Change, CheckpointLog, LogConfig, LogError, LogState, OnFailure, Start};
use tidemill_testkit::FaultyStore;

/// Items, and the number of the record that added the last one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) items: Vec<u64>,
    sequence: u64,
}

pub(crate) type ListLog = CheckpointLog<Listing>;

impl LogState for Listing {
    type Edit = u64;
    type Image = Vec<u64>;

    fn empty() -> Self {
        Self::default()
    }

    fn apply(&mut self, sequence: u64, edits: &[u64]) -> Result<(), String> {
        self.items.extend(edits);
        self.sequence = sequence;
        Ok(())
    }

    fn to_image(&self) -> Vec<u64> {
        self.items.clone()
    }

    fn from_image(sequence: u64, items: Vec<u64>) -> Result<Self, String> {
        Ok(Self { items, sequence })
    }
}

pub(crate) fn config(start: Start) -> LogConfig {
    LogConfig {
        name: "test",
        folder: Path::from("node"),
        record_magic: *b"TESTLOGR",
        checkpoint_magic: *b"TESTCKPT",
        version: 1,
        start,
        records_per_checkpoint: 100,
        on_failure: OnFailure::Report,
    }
}

pub(crate) async fn open(store: &FaultyStore, start: Start) -> ListLog {
    let opened = ListLog::open(store.object_store(), &config(start)).await;
    opened.expect("an undamaged log opens")
}

/// Adds one item as one record.
pub(crate) async fn add(log: &ListLog, item: u64) -> Result<(), LogError> {
    log.transact(|sequence, before| {
        let mut state = Listing::clone(before);
        state.apply(sequence, &[item]).map_err(|_| LogError::Superseded)?;
        let change = Change {
            edits: vec![item],
            state: Arc::new(state),
        };
        Ok(((), Some(change)))
    })
    .await
}

pub(crate) async fn records(store: &FaultyStore) -> Vec<String> {
    store.names("node/log").await
}
