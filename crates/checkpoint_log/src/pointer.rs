//! The object that names a checkpoint, so that start-up needs no listing.
//!
//! It is replaced only by whoever knows what it was before, where the store can check that: a process that was suspended
//! for long must not turn it back to a checkpoint after which records have been removed.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, GetResult, ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::LogError;
use crate::frame::FrameKind;

pub(crate) struct Pointer {
    path: Path,
    kind: FrameKind,
    /// The object as it was read or written last; none: it was not there.
    version: Mutex<Option<UpdateVersion>>,
}

impl Pointer {
    pub(crate) fn new(path: Path, kind: FrameKind) -> Self {
        Self {
            path,
            kind,
            version: Mutex::default(),
        }
    }

    /// The checkpoint that it names. It holds nothing that a listing does not show, so that damage to it stops nobody.
    pub(crate) async fn read(&self, store: &dyn ObjectStore) -> Result<Option<u64>, LogError> {
        let path = &self.path;
        let Some(bytes) = self.fetch(store).await? else {
            return Ok(None);
        };
        match self.kind.open(&bytes) {
            Ok(frame) => Ok(Some(frame.sequence)),
            Err(reason) => {
                tracing::warn!(%path, reason, "object is unusable, listing the checkpoints instead");
                Ok(None)
            }
        }
    }

    /// Checks what is in the object.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), String> {
        self.kind.open(bytes).map(drop)
    }

    /// Makes it name that checkpoint.
    pub(crate) async fn write(
        &self,
        store: &dyn ObjectStore,
        sequence: u64,
        writer: Uuid,
    ) -> Result<(), LogError> {
        let frame = self.kind.encode(sequence, writer, &());
        let frame = frame.map_err(|error| LogError::corrupt(&self.path, error.to_string()))?;
        match self.replace(store, frame.clone()).await {
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
            outcome => return outcome.map_err(LogError::from),
        }
        // It may be our own, if the store did not get its answer to us.
        let present = self.fetch(store).await?;
        let is_ours = |bytes: &Bytes| self.kind.open(bytes).is_ok_and(|frame| frame.writer == writer);
        if !present.as_ref().is_none_or(is_ours) {
            return Err(LogError::Conflict { sequence });
        }
        self.replace(store, frame).await.map_err(LogError::from)
    }

    async fn fetch(&self, store: &dyn ObjectStore) -> Result<Option<Bytes>, Error> {
        let (bytes, version) = match store.get(&self.path).await {
            Ok(object) => {
                let version = version_of(&object);
                (Some(object.bytes().await?), Some(version))
            }
            Err(Error::NotFound { .. }) => (None, None),
            Err(error) => return Err(error),
        };
        *self.version.lock().await = version;
        Ok(bytes)
    }

    /// Puts it in place of the known version.
    async fn replace(&self, store: &dyn ObjectStore, frame: Bytes) -> Result<(), Error> {
        let mut version = self.version.lock().await;
        let mode = version.clone().map_or(PutMode::Create, PutMode::Update);
        let put = match store
            .put_opts(&self.path, frame.clone().into(), mode.into())
            .await
        {
            // Local files: there a lock keeps the second process away.
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                let overwrite = PutMode::Overwrite.into();
                store.put_opts(&self.path, frame.into(), overwrite).await?
            }
            put => put?,
        };
        *version = Some(UpdateVersion {
            e_tag: put.e_tag,
            version: put.version,
        });
        Ok(())
    }
}

fn version_of(object: &GetResult) -> UpdateVersion {
    UpdateVersion {
        e_tag: object.meta.e_tag.clone(),
        version: object.meta.version.clone(),
    }
}
