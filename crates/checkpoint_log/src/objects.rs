//! Where records and checkpoints lie in the object store, and how they are read at start-up.
//!
//! `{folder}/log/{sequence:020}` holds one record an object, put only if absent; `{folder}/checkpoint/{sequence:020}` holds
//! the whole state after that record; `{folder}/current`, where there is one, names a checkpoint.
//!
//! Each checkpoint removes the older ones but one, and the records that the older of the two covers: so one damaged
//! checkpoint never takes the history with it, and whoever reads an outdated `current` still finds all that it needs. What a
//! crash leaves over is removed by the next checkpoint.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::frame::FrameKind;
use crate::pointer::Pointer;
use crate::{LogConfig, LogError, LogState, Start};

/// Records read at once at start-up.
const CONCURRENT_READS: usize = 32;
/// Checkpoints that stay: the newest, and one to fall back to by hand.
const CHECKPOINTS_KEPT: usize = 2;

/// How a put of a record ended.
pub(crate) enum Append {
    Done,
    /// The object was there already, with these bytes.
    Taken(Bytes),
}

/// What was read at start-up.
pub(crate) struct Loaded<S> {
    pub(crate) state: S,
    /// Of the last record.
    pub(crate) sequence: u64,
    /// Of the newest checkpoint that was found; 0: none.
    pub(crate) checkpoint: u64,
}

/// What an object of a log is.
#[derive(Clone, Copy)]
pub(crate) enum ObjectKind {
    Record,
    Checkpoint,
    Pointer,
}

/// The objects of one log.
pub(crate) struct LogObjects {
    store: Arc<dyn ObjectStore>,
    name: &'static str,
    records: Path,
    checkpoints: Path,
    record_kind: FrameKind,
    checkpoint_kind: FrameKind,
    pointer: Option<Pointer>,
    writer: Uuid,
}

impl LogObjects {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, config: &LogConfig) -> Self {
        let kind = |magic| FrameKind {
            magic,
            version: config.version,
        };
        let pointer = match config.start {
            Start::Listing => None,
            Start::Pointer { magic } => {
                let path = config.folder.clone().join("current");
                Some(Pointer::new(path, kind(magic)))
            }
        };
        Self {
            store,
            name: config.name,
            records: config.folder.clone().join("log"),
            checkpoints: config.folder.clone().join("checkpoint"),
            record_kind: kind(config.record_magic),
            checkpoint_kind: kind(config.checkpoint_magic),
            pointer,
            writer: Uuid::new_v4(),
        }
    }

    /// The state after the newest record.
    pub(crate) async fn load<S: LogState>(&self) -> Result<Loaded<S>, LogError> {
        let (checkpoint, state) = self.newest_checkpoint::<S>().await?;
        let mut loaded = Loaded {
            state,
            sequence: checkpoint,
            checkpoint,
        };
        match self.pointer {
            None => self.apply_listed_records(&mut loaded).await?,
            Some(_) => while self.apply_window(&mut loaded).await? {},
        }
        Ok(loaded)
    }

    async fn newest_checkpoint<S: LogState>(&self) -> Result<(u64, S), LogError> {
        let pointed = match &self.pointer {
            None => None,
            Some(pointer) => pointer.read(&self.store).await?,
        };
        if let Some(sequence) = pointed {
            let path = sequence_path(&self.checkpoints, sequence);
            match self.read_checkpoint(sequence).await {
                Err(LogError::Store(object_store::Error::NotFound { .. })) => {
                    tracing::warn!(log = self.name, %path, "the checkpoint that `current` names is missing, listing the others");
                }
                read => return read.map(|state| (sequence, state)),
            }
        }
        match self.sequences(&self.checkpoints, 0).await?.pop() {
            None => Ok((0, S::empty())),
            Some(sequence) => Ok((sequence, self.read_checkpoint(sequence).await?)),
        }
    }

    /// Lists the records and applies those after the checkpoint.
    async fn apply_listed_records<S: LogState>(&self, loaded: &mut Loaded<S>) -> Result<(), LogError> {
        let tail = self.sequences(&self.records, loaded.checkpoint).await?;
        let reads = tail.into_iter().map(|sequence| async move {
            let path = sequence_path(&self.records, sequence);
            let edits: Vec<S::Edit> = self.read(&path, self.record_kind, sequence).await?;
            Ok::<_, LogError>((sequence, edits))
        });
        let mut records = futures::stream::iter(reads).buffered(CONCURRENT_READS);
        while let Some((sequence, edits)) = records.try_next().await? {
            let expected = loaded.sequence + 1;
            if sequence != expected {
                return Err(self.missing(expected, sequence));
            }
            self.apply(loaded, &edits)?;
        }
        Ok(())
    }

    /// Reads the next few records if they are there, and applies them. Returns whether there may be more.
    async fn apply_window<S: LogState>(&self, loaded: &mut Loaded<S>) -> Result<bool, LogError> {
        let window = loaded.sequence + 1..=loaded.sequence + CONCURRENT_READS as u64;
        let reads = window.map(|sequence| async move {
            let path = sequence_path(&self.records, sequence);
            match self.read::<Vec<S::Edit>>(&path, self.record_kind, sequence).await {
                Err(LogError::Store(object_store::Error::NotFound { .. })) => Ok((sequence, None)),
                read => read.map(|edits| (sequence, Some(edits))),
            }
        });
        let mut records = futures::stream::iter(reads).buffered(CONCURRENT_READS);
        let mut end = None;
        while let Some((sequence, edits)) = records.try_next().await? {
            match (edits, end) {
                (Some(edits), None) => self.apply(loaded, &edits)?,
                (Some(_), Some(end)) => return Err(self.missing(end, sequence)),
                (None, _) => end = end.or(Some(sequence)),
            }
        }
        Ok(end.is_none())
    }

    /// Applies the record that comes next.
    fn apply<S: LogState>(&self, loaded: &mut Loaded<S>, edits: &[S::Edit]) -> Result<(), LogError> {
        let sequence = loaded.sequence + 1;
        let applied = loaded.state.apply(sequence, edits);
        applied.map_err(|reason| LogError::corrupt(&sequence_path(&self.records, sequence), reason))?;
        loaded.sequence = sequence;
        Ok(())
    }

    fn missing(&self, missing: u64, present: u64) -> LogError {
        let present = sequence_path(&self.records, present);
        LogError::corrupt(
            &sequence_path(&self.records, missing),
            format!("it is missing, but {present} is there"),
        )
    }

    /// The bytes of a record; no other record has the same.
    pub(crate) fn encode<E: serde::Serialize>(&self, sequence: u64, edits: &[E]) -> Result<Bytes, LogError> {
        self.record_kind
            .encode(sequence, self.writer, &edits)
            .map_err(|error| LogError::corrupt(&sequence_path(&self.records, sequence), error.to_string()))
    }

    /// Makes a record durable unless one of that number is there.
    pub(crate) async fn append(&self, sequence: u64, record: Bytes) -> Result<Append, object_store::Error> {
        let path = sequence_path(&self.records, sequence);
        let only_if_absent = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        match self.store.put_opts(&path, record.into(), only_if_absent).await {
            Ok(_) => Ok(Append::Done),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                let present = self.store.get(&path).await?.bytes().await?;
                Ok(Append::Taken(present))
            }
            Err(error) => Err(error),
        }
    }

    /// The bytes of the record of that number, if it is there.
    pub(crate) async fn record_bytes(&self, sequence: u64) -> Result<Option<Bytes>, object_store::Error> {
        match self.store.get(&sequence_path(&self.records, sequence)).await {
            Ok(object) => Ok(Some(object.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the state durable as a checkpoint and removes what it makes superfluous.
    pub(crate) async fn write_checkpoint<S: LogState>(
        &self,
        sequence: u64,
        state: &S,
    ) -> Result<(), LogError> {
        let path = sequence_path(&self.checkpoints, sequence);
        let frame = self
            .checkpoint_kind
            .encode(sequence, self.writer, &state.to_image())
            .map_err(|error| LogError::corrupt(&path, error.to_string()))?;
        self.store.put(&path, frame.into()).await?;
        if let Some(pointer) = &self.pointer {
            // Before anything is removed: what it named until now must be there until then.
            pointer.write(&self.store, sequence, self.writer).await?;
        }
        self.prune().await
    }

    async fn prune(&self) -> Result<(), LogError> {
        let checkpoints = self.sequences(&self.checkpoints, 0).await?;
        let superfluous = checkpoints.len().saturating_sub(CHECKPOINTS_KEPT);
        if superfluous == 0 {
            return Ok(());
        }
        let oldest_kept = checkpoints[superfluous];
        for sequence in &checkpoints[..superfluous] {
            self.store
                .delete(&sequence_path(&self.checkpoints, *sequence))
                .await?;
        }
        let records = self.sequences(&self.records, 0).await?;
        let covered = records
            .into_iter()
            .take_while(|sequence| *sequence <= oldest_kept);
        let paths: Vec<_> = covered
            .map(|sequence| Ok(sequence_path(&self.records, sequence)))
            .collect();
        let deletions = self.store.delete_stream(futures::stream::iter(paths).boxed());
        deletions
            .try_for_each(|_| async { Ok(()) })
            .await
            .map_err(LogError::from)
    }

    async fn read_checkpoint<S: LogState>(&self, sequence: u64) -> Result<S, LogError> {
        let path = sequence_path(&self.checkpoints, sequence);
        let image: S::Image = self.read(&path, self.checkpoint_kind, sequence).await?;
        S::from_image(sequence, image).map_err(|reason| LogError::corrupt(&path, reason))
    }

    async fn read<P: DeserializeOwned>(
        &self,
        path: &Path,
        kind: FrameKind,
        sequence: u64,
    ) -> Result<P, LogError> {
        let bytes = self.store.get(path).await?.bytes().await?;
        kind.decode(sequence, &bytes)
            .map_err(|reason| LogError::corrupt(path, reason))
    }

    /// Checks what is in an object by itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check<S: LogState>(
        &self,
        kind: ObjectKind,
        sequence: u64,
        bytes: &[u8],
    ) -> Result<(), String> {
        match kind {
            ObjectKind::Record => self.record_kind.decode::<Vec<S::Edit>>(sequence, bytes).map(drop),
            ObjectKind::Checkpoint => {
                let image = self.checkpoint_kind.decode::<S::Image>(sequence, bytes)?;
                S::from_image(sequence, image).map(drop)
            }
            ObjectKind::Pointer => self
                .pointer
                .as_ref()
                .map_or(Ok(()), |pointer| pointer.check(bytes)),
        }
    }

    /// The sequence numbers above `after` that are in the folder, ascending.
    async fn sequences(&self, folder: &Path, after: u64) -> Result<Vec<u64>, LogError> {
        let listing = self
            .store
            .list_with_offset(Some(folder), &sequence_path(folder, after));
        let mut sequences: Vec<u64> = listing
            .map_err(LogError::from)
            .and_then(|object| async move {
                let name = object.location.filename().unwrap_or_default();
                name.parse::<u64>()
                    .map_err(|_| LogError::corrupt(&object.location, "its name is not a number".to_owned()))
            })
            .try_collect()
            .await?;
        sequences.sort_unstable();
        Ok(sequences)
    }
}

fn sequence_path(folder: &Path, sequence: u64) -> Path {
    folder.clone().join(format!("{sequence:020}"))
}
