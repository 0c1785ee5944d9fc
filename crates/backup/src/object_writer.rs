//! Writes many objects: small ones several at a time, large ones in parts. Memory is bounded whatever their sizes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use tokio::task::JoinSet;

use crate::BackupError;

/// Objects up to this size are held in memory and written at once; larger ones come in parts of this size.
const PART_BYTES: usize = 8 << 20;
/// Objects, or parts of one object, that are written at the same time.
const WRITES_MAX: usize = 8;

/// Writes objects one after the other into a store, which makes them durable before it says that they are there.
pub(crate) struct ObjectWriter {
    store: Arc<dyn ObjectStore>,
    writes: JoinSet<Result<(), BackupError>>,
    open: Option<OpenObject>,
}

struct OpenObject {
    path: Path,
    content: Content,
}

enum Content {
    Small(BytesMut),
    Large(WriteMultipart),
}

impl ObjectWriter {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            writes: JoinSet::new(),
            open: None,
        }
    }

    /// Begins an object of about that length.
    pub(crate) async fn begin(&mut self, path: Path, length: u64) -> Result<(), BackupError> {
        let content = if length <= PART_BYTES as u64 {
            Content::Small(BytesMut::with_capacity(length as usize))
        } else {
            let upload = self.store.put_multipart(&path).await;
            let upload = upload.map_err(BackupError::object("write", &path))?;
            Content::Large(WriteMultipart::new_with_chunk_size(upload, PART_BYTES))
        };
        self.open = Some(OpenObject { path, content });
        Ok(())
    }

    /// Adds a part to the open object.
    pub(crate) async fn part(&mut self, part: &Bytes) -> Result<(), BackupError> {
        match &mut self.open {
            None => Ok(()),
            Some(OpenObject {
                content: Content::Small(content),
                ..
            }) => {
                content.extend_from_slice(part);
                Ok(())
            }
            Some(OpenObject {
                path,
                content: Content::Large(upload),
            }) => {
                let has_room = upload.wait_for_capacity(WRITES_MAX).await;
                has_room.map_err(BackupError::object("write", path))?;
                upload.put(part.clone());
                Ok(())
            }
        }
    }

    /// Ends the open object. A small one may be durable only after [`finish`](Self::finish).
    pub(crate) async fn end(&mut self) -> Result<(), BackupError> {
        let Some(OpenObject { path, content }) = self.open.take() else {
            return Ok(());
        };
        match content {
            Content::Small(content) => self.put(path, content.freeze()).await,
            Content::Large(upload) => {
                let finished = upload.finish().await;
                finished.map_err(BackupError::object("write", path)).map(drop)
            }
        }
    }

    /// Writes a small object, and waits where too many are being written.
    pub(crate) async fn put(&mut self, path: Path, content: Bytes) -> Result<(), BackupError> {
        while self.writes.len() >= WRITES_MAX {
            self.join_one().await?;
        }
        let store = Arc::clone(&self.store);
        self.writes.spawn(async move {
            let put = store.put(&path, content.into()).await;
            put.map_err(BackupError::object("write", path)).map(drop)
        });
        Ok(())
    }

    /// Returns when everything is durable.
    pub(crate) async fn finish(mut self) -> Result<(), BackupError> {
        while !self.writes.is_empty() {
            self.join_one().await?;
        }
        Ok(())
    }

    /// Gives up: what is being written is left, unfinished uploads are taken back.
    pub(crate) async fn abort(mut self) {
        self.writes.shutdown().await;
        if let Some(OpenObject {
            content: Content::Large(upload),
            ..
        }) = self.open.take()
            && let Err(error) = upload.abort().await
        {
            tracing::warn!(%error, "could not take back an unfinished upload");
        }
    }

    async fn join_one(&mut self) -> Result<(), BackupError> {
        match self.writes.join_next().await {
            None => Ok(()),
            Some(Ok(written)) => written,
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
