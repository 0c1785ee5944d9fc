//! The bytes of a new object on their way into the store.

use std::collections::VecDeque;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, Result};

/// Object stores want parts of at least 5 MiB; an object that is smaller than two of these is put at once.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// An object that is there whole after [`Self::finish`], and not at all before. Dropping it leaves what an object store
/// keeps of an upload that is never completed.
pub(crate) struct Upload<'a> {
    objects: &'a dyn ObjectStore,
    path: &'a Path,
    /// Written and not put yet, in order; none is empty.
    pending: VecDeque<Bytes>,
    pending_bytes: usize,
    parts: Option<Box<dyn MultipartUpload>>,
    checksum: Digest,
    byte_size: u64,
}

/// What was uploaded.
pub(crate) struct Uploaded {
    pub(crate) byte_size: u64,
    /// CRC-32/ISCSI.
    pub(crate) checksum: u32,
}

impl<'a> Upload<'a> {
    pub(crate) fn new(objects: &'a dyn ObjectStore, path: &'a Path) -> Self {
        Self {
            objects,
            path,
            pending: VecDeque::new(),
            pending_bytes: 0,
            parts: None,
            checksum: Digest::new(CrcAlgorithm::Crc32Iscsi),
            byte_size: 0,
        }
    }

    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.checksum.update(&bytes);
        self.byte_size += bytes.len() as u64;
        if !bytes.is_empty() {
            self.pending_bytes += bytes.len();
            self.pending.push_back(bytes);
        }
        if self.parts.is_none() && self.pending_bytes < 2 * PART_BYTES {
            return Ok(());
        }
        while self.pending_bytes >= PART_BYTES {
            let part = self.take_pending(PART_BYTES);
            self.put_part(part).await?;
        }
        Ok(())
    }

    /// The first bytes of what is pending, so many or all; they are not copied.
    fn take_pending(&mut self, bytes_max: usize) -> PutPayload {
        let (mut taken, mut missing) = (Vec::new(), bytes_max);
        while missing > 0
            && let Some(mut chunk) = self.pending.pop_front()
        {
            if chunk.len() > missing {
                self.pending.push_front(chunk.split_off(missing));
            }
            missing -= chunk.len();
            taken.push(chunk);
        }
        self.pending_bytes -= bytes_max - missing;
        PutPayload::from_iter(taken)
    }

    async fn put_part(&mut self, part: PutPayload) -> Result<()> {
        let parts = match &mut self.parts {
            Some(parts) => parts,
            None => self.parts.insert(self.objects.put_multipart(self.path).await?),
        };
        parts.put_part(part).await
    }

    /// The object is durable when this returns without an error.
    pub(crate) async fn finish(&mut self) -> Result<Uploaded> {
        let rest = self.take_pending(self.pending_bytes);
        if self.parts.is_none() {
            self.objects.put(self.path, rest).await?;
        } else {
            if rest.content_length() > 0 {
                self.put_part(rest).await?;
            }
            if let Some(parts) = &mut self.parts {
                parts.complete().await?;
            }
        }
        Ok(Uploaded {
            byte_size: self.byte_size,
            checksum: self.checksum.finalize() as u32,
        })
    }

    /// Removes what there is of the object, as well as it can.
    pub(crate) async fn abort(mut self) {
        if let Some(parts) = &mut self.parts
            && let Err(error) = parts.abort().await
        {
            tracing::warn!(path = %self.path, %error, "cannot abort upload");
        }
        match self.objects.delete(self.path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => tracing::warn!(path = %self.path, %error, "cannot remove unfinished object"),
        }
    }
}
