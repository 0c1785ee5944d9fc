//! Where records and checkpoints lie in the object store, and how they are read at start-up.
//!
//! `{node_id}/catalog/log/{sequence:020}` holds one record an object, put only if absent;
//! `{node_id}/catalog/checkpoint/{sequence:020}` holds the whole state after that record.
//!
//! There is no pointer to the newest checkpoint: it could be torn or stale, and is not needed, since the folders stay
//! short. Each checkpoint removes the older ones but one, and the records that the older of the two covers. So start-up
//! lists at most a few checkpoints and a few hundred records however old the catalog is, and one damaged checkpoint
//! never takes the history with it. What a crash leaves over is removed by the next checkpoint.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use uuid::Uuid;

use crate::CatalogError;
use crate::frame::{self, FrameKind};
use crate::operation::Operation;
use crate::state::{CatalogState, StateImage};

/// Records read at once at start-up.
const CONCURRENT_READS: usize = 16;
/// Checkpoints that stay: the newest, and one to fall back to by hand.
const CHECKPOINTS_KEPT: usize = 2;

/// How a put of a record ended.
pub(crate) enum Append {
    Done,
    /// The object was there already, with these bytes.
    Taken(Bytes),
}

/// The objects of one catalog.
pub(crate) struct CatalogLog {
    store: Arc<dyn ObjectStore>,
    records: Path,
    checkpoints: Path,
    writer: Uuid,
}

impl CatalogLog {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, node_id: &str) -> Self {
        let folder = Path::from(node_id).join("catalog");
        let (records, checkpoints) = (folder.clone().join("log"), folder.join("checkpoint"));
        Self {
            store,
            records,
            checkpoints,
            writer: Uuid::new_v4(),
        }
    }

    /// The state after the newest record, and the sequence number of the newest checkpoint (0: none).
    pub(crate) async fn load(&self) -> Result<(CatalogState, u64), CatalogError> {
        let checkpoint = self.sequences(&self.checkpoints, 0).await?.pop().unwrap_or(0);
        let mut state = match checkpoint {
            0 => CatalogState::empty(),
            sequence => self.read_checkpoint(sequence).await?,
        };
        let tail = self.sequences(&self.records, checkpoint).await?;
        let reads = tail.into_iter().map(|sequence| async move {
            let path = sequence_path(&self.records, sequence);
            let operations: Vec<Operation> = self.read(&path, FrameKind::Record, sequence).await?;
            Ok::<_, CatalogError>((sequence, path, operations))
        });
        let mut records = futures::stream::iter(reads).buffered(CONCURRENT_READS);
        while let Some((sequence, path, operations)) = records.try_next().await? {
            let expected = state.sequence() + 1;
            if sequence != expected {
                let missing = sequence_path(&self.records, expected);
                return Err(corrupt(&missing, format!("it is missing, but {path} is there")));
            }
            for operation in &operations {
                state.apply(operation).map_err(|reason| corrupt(&path, reason))?;
            }
            state.set_sequence(sequence);
        }
        Ok((state, checkpoint))
    }

    /// The bytes of a record; no other record has the same.
    pub(crate) fn encode(&self, sequence: u64, operations: &[Operation]) -> Result<Bytes, CatalogError> {
        let path = sequence_path(&self.records, sequence);
        frame::encode(FrameKind::Record, sequence, self.writer, &operations)
            .map_err(|error| corrupt(&path, error.to_string()))
    }

    /// Makes a record durable unless one of that number is there.
    pub(crate) async fn append(&self, sequence: u64, record: Bytes) -> Result<Append, CatalogError> {
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
            Err(error) => Err(error.into()),
        }
    }

    /// The bytes of the record of that number, if it is there.
    pub(crate) async fn record_bytes(&self, sequence: u64) -> Result<Option<Bytes>, CatalogError> {
        match self.store.get(&sequence_path(&self.records, sequence)).await {
            Ok(object) => Ok(Some(object.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the state durable as a checkpoint and removes what it makes superfluous.
    pub(crate) async fn write_checkpoint(&self, state: &CatalogState) -> Result<(), CatalogError> {
        let path = sequence_path(&self.checkpoints, state.sequence());
        let frame = frame::encode(
            FrameKind::Checkpoint,
            state.sequence(),
            self.writer,
            &StateImage::of(state),
        )
        .map_err(|error| corrupt(&path, error.to_string()))?;
        self.store.put(&path, frame.into()).await?;
        self.prune().await
    }

    async fn prune(&self) -> Result<(), CatalogError> {
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
            .map_err(CatalogError::from)
    }

    async fn read_checkpoint(&self, sequence: u64) -> Result<CatalogState, CatalogError> {
        let path = sequence_path(&self.checkpoints, sequence);
        let image: StateImage = self.read(&path, FrameKind::Checkpoint, sequence).await?;
        image
            .into_state(sequence)
            .map_err(|reason| corrupt(&path, reason))
    }

    async fn read<P: serde::de::DeserializeOwned>(
        &self,
        path: &Path,
        kind: FrameKind,
        sequence: u64,
    ) -> Result<P, CatalogError> {
        let bytes = self.store.get(path).await?.bytes().await?;
        frame::decode(kind, sequence, &bytes).map_err(|reason| corrupt(path, reason))
    }

    /// The sequence numbers above `after` that are in the folder, ascending.
    async fn sequences(&self, folder: &Path, after: u64) -> Result<Vec<u64>, CatalogError> {
        let listing = self
            .store
            .list_with_offset(Some(folder), &sequence_path(folder, after));
        let mut sequences: Vec<u64> = listing
            .map_err(CatalogError::from)
            .and_then(|object| async move {
                let name = object.location.filename().unwrap_or_default();
                name.parse::<u64>()
                    .map_err(|_| corrupt(&object.location, "its name is not a number".to_owned()))
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

fn corrupt(object: &Path, reason: String) -> CatalogError {
    CatalogError::Corrupt {
        object: object.to_string(),
        reason,
    }
}
