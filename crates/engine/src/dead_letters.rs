//! Batches that could not be processed, set aside so that their trigger goes on (engine.md 0.12).
//!
//! A dead letter is one object: what the run was called with, and what became of it. Whether it counts says the log: the
//! record that moves the cursor over the batch enters a mark into the trigger's state, and the record of the replay that
//! succeeded, or of the drop, takes it out again. So a crash between any two steps neither loses a batch nor runs one
//! twice: an object without a mark is removed when the server starts.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidemill_catalog::DatabaseId;
use tidemill_ingest::{Ingest, StateChange, TriggerKey};
use tidemill_worker_proto::{TableWrites, Work};

use crate::held_removals::{HeldRemovals, RemovalsHeld};
use crate::plugin_state::RESERVED_PREFIX;

/// Where they lie, below the node.
pub(crate) const FOLDER: &str = "dead_letters";

/// Letters that are kept on one node; their heads are in memory.
const LETTERS_MAX: usize = 10_000;
/// Bytes of batches that are kept on one node.
const BYTES_MAX: u64 = 1 << 30;
/// Most heads fit into this.
const HEAD_BYTES_USUAL: u64 = 16 * 1024;
/// Objects that are read at once when the server starts.
const READS_MAX: usize = 16;
/// Version of what is stored.
const FORMAT_VERSION: u32 = 1;

/// What a letter says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LetterHead {
    format: u32,
    /// When the run was given up, in nanoseconds since the epoch.
    pub(crate) time_ns: i64,
    pub(crate) run_id: String,
    pub(crate) work: LetterWork,
    pub(crate) rows: u64,
    pub(crate) depth: u16,
    pub(crate) attempts: u32,
    /// Why the last attempt failed.
    pub(crate) error: String,
}

/// What a run was called with. Apart from the worker's messages, whose form changes with versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LetterWork {
    /// Written rows: the names of the tables, each with the lengths of its Arrow streams in the batch.
    Writes(Vec<(String, Vec<u64>)>),
    /// The instant of a schedule, in nanoseconds since the epoch.
    Schedule(i64),
}

impl LetterWork {
    /// `None` for a request, which its client repeats and not the server.
    fn of(work: &Work) -> Option<Self> {
        match work {
            Work::Writes { tables } => {
                let tables = tables
                    .iter()
                    .map(|table| (table.table_name.clone(), table.stream_bytes.clone()));
                Some(Self::Writes(tables.collect()))
            }
            Work::Schedule { time_ns } => Some(Self::Schedule(*time_ns)),
            Work::Request(_) => None,
        }
    }

    /// What the worker is sent.
    pub(crate) fn to_work(&self) -> Work {
        match self {
            Self::Writes(tables) => Work::Writes {
                tables: tables
                    .iter()
                    .map(|(table_name, stream_bytes)| TableWrites {
                        table_name: table_name.clone(),
                        stream_bytes: stream_bytes.clone(),
                    })
                    .collect(),
            },
            Self::Schedule(time_ns) => Work::Schedule { time_ns: *time_ns },
        }
    }

    /// `writes` or `schedule`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Writes(_) => "writes",
            Self::Schedule(_) => "schedule",
        }
    }
}

/// A run that was given up, as its trigger tells it.
pub(crate) struct FailedRun<'a> {
    pub(crate) run_id: &'a str,
    pub(crate) work: &'a Work,
    pub(crate) blob: &'a Bytes,
    pub(crate) rows: u64,
    pub(crate) depth: u16,
    pub(crate) attempts: u32,
    pub(crate) error: &'a str,
    pub(crate) time_ns: i64,
}

/// A letter that counts.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetter {
    pub(crate) trigger: TriggerKey,
    pub(crate) head: LetterHead,
    /// Size of the batch.
    pub(crate) bytes: u64,
}

/// Why a letter cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeadLetterError {
    #[error(
        "the dead letters of this server have reached their limit ({letters} with {bytes} bytes): replay or drop some"
    )]
    Full { letters: usize, bytes: u64 },
    #[error("requests are repeated by their clients")]
    Request,
    #[error("dead letter {0} is damaged")]
    Damaged(Path),
    #[error(transparent)]
    Store(#[from] object_store::Error),
}

/// The dead letters of all triggers of a node.
pub struct DeadLetters {
    store: Arc<dyn ObjectStore>,
    removals: Arc<HeldRemovals>,
    folder: Path,
    letters: Mutex<Letters>,
}

#[derive(Default)]
struct Letters {
    by_run: BTreeMap<(TriggerKey, String), DeadLetter>,
    bytes: u64,
}

/// The key in a trigger's state that says that the letter of a run counts.
fn mark_key(run_id: &str) -> String {
    format!("{RESERVED_PREFIX}dead_letter:{run_id}")
}

/// Makes the letter of a run count, with the record that passes over its batch.
pub(crate) fn set_mark(run_id: &str) -> StateChange {
    StateChange {
        key: mark_key(run_id),
        value: Some(Bytes::new()),
    }
}

/// Ends the letter of a run, with the record that settles it.
pub(crate) fn clear_mark(run_id: &str) -> StateChange {
    StateChange {
        key: mark_key(run_id),
        value: None,
    }
}

impl DeadLetters {
    /// The letters in the folder of a node, of which none counts yet.
    pub fn new(store: Arc<dyn ObjectStore>, node_id: &str) -> Self {
        Self {
            removals: HeldRemovals::new(Arc::clone(&store)),
            store,
            folder: Path::from(node_id).join(FOLDER),
            letters: Mutex::default(),
        }
    }

    /// Keeps the objects of all letters in place, also of those that are settled meanwhile.
    pub(crate) fn hold_removals(&self) -> RemovalsHeld {
        self.removals.hold()
    }

    /// Takes the letters into memory that count, as the log says, and removes all others.
    ///
    /// # Errors
    /// When the store cannot be read, or a letter that counts is damaged.
    pub async fn load(&self, ingest: &Ingest) -> Result<(), object_store::Error> {
        let objects: Vec<ObjectMeta> = self.store.list(Some(&self.folder)).try_collect().await?;
        let loads = objects.iter().map(|object| self.load_one(ingest, object));
        let mut loads = futures::stream::iter(loads).buffer_unordered(READS_MAX);
        while let Some(loaded) = loads.next().await {
            if let Some(letter) = loaded? {
                self.letters.lock().insert(letter);
            }
        }
        Ok(())
    }

    async fn load_one(
        &self,
        ingest: &Ingest,
        object: &ObjectMeta,
    ) -> Result<Option<DeadLetter>, object_store::Error> {
        let Some((trigger, run_id)) = self.parse_location(&object.location) else {
            tracing::warn!(object = %object.location, "a foreign object lies among the dead letters");
            return Ok(None);
        };
        if ingest.state_value(trigger, &mark_key(&run_id)).is_none() {
            self.removals.remove(&object.location).await;
            return Ok(None);
        }
        match self.read_head(object).await {
            Ok((head, bytes)) => Ok(Some(DeadLetter { trigger, head, bytes })),
            Err(DeadLetterError::Store(error)) => Err(error),
            Err(error) => {
                tracing::error!(%error, "a batch that was set aside cannot be read");
                Ok(None)
            }
        }
    }

    /// Reads what a letter says of itself, and the size of its batch.
    async fn read_head(&self, object: &ObjectMeta) -> Result<(LetterHead, u64), DeadLetterError> {
        let damaged = || DeadLetterError::Damaged(object.location.clone());
        let read = async |bytes: u64| {
            self.store
                .get_range(&object.location, 0..bytes.min(object.size))
                .await
        };
        let mut start = read(HEAD_BYTES_USUAL).await?;
        let head_bytes = u64::from(head_length(&start).ok_or_else(damaged)?);
        let head_end = 4 + head_bytes;
        if head_end > object.size {
            return Err(damaged());
        }
        if head_end > start.len() as u64 {
            start = read(head_end).await?;
        }
        let head = parse_head(&start).ok_or_else(damaged)?;
        Ok((head, object.size - head_end))
    }

    /// Stores what a run was called with. It is to be [listed](Self::list) when the [mark](set_mark) is on record.
    pub(crate) async fn store(
        &self,
        trigger: TriggerKey,
        run: &FailedRun<'_>,
    ) -> Result<DeadLetter, DeadLetterError> {
        let work = LetterWork::of(run.work).ok_or(DeadLetterError::Request)?;
        {
            let letters = self.letters.lock();
            let bytes = letters.bytes + run.blob.len() as u64;
            if letters.by_run.len() >= LETTERS_MAX || bytes > BYTES_MAX {
                return Err(DeadLetterError::Full {
                    letters: letters.by_run.len(),
                    bytes: letters.bytes,
                });
            }
        }
        let head = LetterHead {
            format: FORMAT_VERSION,
            time_ns: run.time_ns,
            run_id: run.run_id.to_owned(),
            work,
            rows: run.rows,
            depth: run.depth,
            attempts: run.attempts,
            error: run.error.to_owned(),
        };
        self.put(trigger, head, run.blob).await
    }

    async fn put(
        &self,
        trigger: TriggerKey,
        head: LetterHead,
        batch: &Bytes,
    ) -> Result<DeadLetter, DeadLetterError> {
        let location = self.location(trigger, &head.run_id);
        self.store.put(&location, encode(&head, batch).into()).await?;
        Ok(DeadLetter {
            trigger,
            head,
            bytes: batch.len() as u64,
        })
    }

    /// Shows a letter that counts now.
    pub(crate) fn list(&self, letter: DeadLetter) {
        self.letters.lock().insert(letter);
    }

    /// The letters of a trigger, oldest first.
    pub(crate) fn of_trigger(&self, trigger: TriggerKey) -> Vec<DeadLetter> {
        let letters = self.letters.lock();
        let from = (trigger, String::new());
        let of_trigger = letters
            .by_run
            .range(from..)
            .take_while(|((of, _), _)| *of == trigger);
        let mut found: Vec<DeadLetter> = of_trigger.map(|(_, letter)| letter.clone()).collect();
        found.sort_by_key(|letter| letter.head.time_ns);
        found
    }

    /// The letters of a database, oldest first.
    pub(crate) fn of_database(&self, database: DatabaseId) -> Vec<DeadLetter> {
        let letters = self.letters.lock();
        let of_database = letters
            .by_run
            .values()
            .filter(|letter| letter.trigger.database == database);
        let mut found: Vec<DeadLetter> = of_database.cloned().collect();
        found.sort_by_key(|letter| letter.head.time_ns);
        found
    }

    /// The batch of a letter.
    pub(crate) async fn batch(&self, letter: &DeadLetter) -> Result<Bytes, DeadLetterError> {
        let location = self.location(letter.trigger, &letter.head.run_id);
        let mut content = self.store.get(&location).await?.bytes().await?;
        let damaged = || DeadLetterError::Damaged(location.clone());
        let head_end = 4 + head_length(&content).ok_or_else(damaged)? as usize;
        if content.len() < head_end {
            return Err(damaged());
        }
        Ok(content.split_off(head_end))
    }

    /// Keeps what came of one more attempt.
    pub(crate) async fn failed_again(
        &self,
        letter: DeadLetter,
        batch: &Bytes,
        error: &str,
    ) -> Result<(), DeadLetterError> {
        let head = LetterHead {
            attempts: letter.head.attempts.saturating_add(1),
            error: error.to_owned(),
            ..letter.head
        };
        let letter = self.put(letter.trigger, head, batch).await?;
        self.list(letter);
        Ok(())
    }

    /// Forgets a letter whose [mark](clear_mark) is gone from the record.
    pub(crate) async fn settled(&self, trigger: TriggerKey, run_id: &str) {
        self.letters.lock().remove(trigger, run_id);
        self.removals.remove(&self.location(trigger, run_id)).await;
    }

    /// Forgets all letters of a trigger that is gone, with its state and its marks.
    pub(crate) async fn forget(&self, trigger: TriggerKey) {
        for letter in self.of_trigger(trigger) {
            self.settled(trigger, &letter.head.run_id).await;
        }
    }

    fn location(&self, trigger: TriggerKey, run_id: &str) -> Path {
        self.folder
            .clone()
            .join(trigger.database.0.to_string())
            .join(trigger.trigger_id.to_string())
            .join(run_id)
    }

    fn parse_location(&self, location: &Path) -> Option<(TriggerKey, String)> {
        let parts: Vec<_> = location.prefix_match(&self.folder)?.collect();
        let [database, trigger_id, run_id] = &parts[..] else {
            return None;
        };
        let trigger = TriggerKey {
            database: DatabaseId(database.as_ref().parse().ok()?),
            trigger_id: trigger_id.as_ref().parse().ok()?,
        };
        Some((trigger, run_id.as_ref().to_owned()))
    }
}

impl Letters {
    fn insert(&mut self, letter: DeadLetter) {
        self.remove(letter.trigger, &letter.head.run_id);
        self.bytes += letter.bytes;
        let key = (letter.trigger, letter.head.run_id.clone());
        self.by_run.insert(key, letter);
    }

    fn remove(&mut self, trigger: TriggerKey, run_id: &str) {
        if let Some(letter) = self.by_run.remove(&(trigger, run_id.to_owned())) {
            self.bytes -= letter.bytes;
        }
    }
}

/// `u32` length of the head, the head as JSON, the batch.
fn encode(head: &LetterHead, batch: &Bytes) -> Bytes {
    let head = serde_json::to_vec(head).expect("names, numbers and texts are JSON");
    let mut content = BytesMut::with_capacity(4 + head.len() + batch.len());
    content.put_u32_le(u32::try_from(head.len()).expect("the texts of a head are bounded"));
    content.put_slice(&head);
    content.put_slice(batch);
    content.freeze()
}

pub(crate) fn head_length(content: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(content.get(..4)?.try_into().ok()?))
}

pub(crate) fn parse_head(content: &[u8]) -> Option<LetterHead> {
    let length = head_length(content)? as usize;
    let head: LetterHead = serde_json::from_slice(content.get(4..4 + length)?).ok()?;
    (head.format == FORMAT_VERSION).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITES: &[u8] = include_bytes!("../tests/fixtures/version1.writes");
    const SCHEDULE: &[u8] = include_bytes!("../tests/fixtures/version1.schedule");

    /// The letters of version 1, each with its batch.
    fn letters() -> [(LetterHead, Bytes); 2] {
        let tables = vec![("cpu".to_owned(), vec![3, 4]), ("größe".to_owned(), vec![5])];
        let writes = LetterHead {
            format: 1,
            time_ns: 1_700_000_000_000_000_000,
            run_id: "w-12".to_owned(),
            work: LetterWork::Writes(tables),
            rows: 3,
            depth: 2,
            attempts: 20,
            error: "ValueError: \"as asked\"".to_owned(),
        };
        let schedule = LetterHead {
            time_ns: -1,
            run_id: "s-1".to_owned(),
            work: LetterWork::Schedule(60_000_000_000),
            rows: 0,
            depth: 0,
            ..writes.clone()
        };
        [
            (writes, Bytes::from_static(b"\x00\x01\xff of streams")),
            (schedule, Bytes::new()),
        ]
    }

    /// Every version that was released is read; letters that it wrote are kept in `tests/fixtures`.
    #[test]
    fn letters_of_version_1_are_read_and_written() {
        for ((head, batch), stored) in letters().into_iter().zip([WRITES, SCHEDULE]) {
            assert_eq!(parse_head(stored), Some(head.clone()));
            let head_end = 4 + head_length(stored).unwrap() as usize;
            assert_eq!(stored[head_end..], batch);
            assert_eq!(
                encode(&head, &batch),
                stored,
                "a new version needs a fixture of its own"
            );
        }
    }

    #[test]
    fn damaged_letters_are_none() {
        for length in 0..4 + head_length(WRITES).unwrap() as usize {
            assert_eq!(parse_head(&WRITES[..length]), None, "{length} bytes");
        }
        for place in 0..WRITES.len() {
            let mut damaged = WRITES.to_vec();
            damaged[place] ^= 0x80;
            // Whatever it is taken for, it is no panic.
            let _ = parse_head(&damaged);
        }
    }

    /// Makes the fixtures of the present version; those of later ones get other names, and these stay.
    #[test]
    #[ignore = "changes files of the repository"]
    fn write_the_fixtures() {
        for ((head, batch), name) in letters().into_iter().zip(["writes", "schedule"]) {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
            let path = format!("{folder}/version{FORMAT_VERSION}.{name}");
            std::fs::write(path, encode(&head, &batch)).unwrap();
        }
    }
}
