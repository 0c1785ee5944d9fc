//! Bytes of files as the object store has them, checked.

use std::ops::Range;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use futures::StreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::files::footer::Footer;
use crate::{DataFile, FileDamage, FileError, FileStore};

impl FileStore {
    /// Fetches a whole object, which is not cached, and compares it with its checksum in the manifest: for files that
    /// have no [tail](DataFile::tail), whose parts cannot be checked.
    ///
    /// # Errors
    /// [`FileError::Object`], [`FileError::Damaged`].
    pub async fn check_whole(&self, file: &DataFile) -> Result<(), FileError> {
        let path = object_path(file)?;
        let object = match self.objects().get(&path).await {
            Ok(object) => object,
            Err(source) => return Err(self.explained(file, &path, source).await),
        };
        let mut parts = object.into_stream();
        let mut checksum = Digest::new(CrcAlgorithm::Crc32Iscsi);
        let mut found = 0;
        while let Some(part) = parts.next().await {
            let part = part.map_err(|source| unreadable(file, source))?;
            checksum.update(&part);
            found += part.len() as u64;
        }
        let expected = file.byte_size;
        if found != expected {
            return Err(self.damaged(file, FileDamage::Length { found, expected }));
        }
        if checksum.finalize() as u32 != file.checksum {
            return Err(self.damaged(file, FileDamage::Checksum(0..expected)));
        }
        Ok(())
    }

    /// Ranges that are not empty, with as much around them as is checked at once.
    pub(crate) async fn fetch_checked(
        &self,
        file: &DataFile,
        footer: &Footer,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, FileError> {
        let Some(blocks) = &footer.blocks else {
            return self.fetch_all(file, ranges).await;
        };
        let around: Vec<Range<u64>> = ranges.iter().map(|range| blocks.around(range)).collect();
        let fetched = self.fetch_all(file, &around).await?;
        let parts = ranges.iter().zip(&around).zip(&fetched);
        parts
            .map(|((range, around), bytes)| {
                let checked = blocks.check(around.start, bytes);
                checked.map_err(|damage| self.damaged(file, damage))?;
                let start = (range.start - around.start) as usize;
                Ok(bytes.slice(start..start + (range.end - range.start) as usize))
            })
            .collect()
    }

    /// One range, unchecked.
    pub(crate) async fn fetch(&self, file: &DataFile, range: Range<u64>) -> Result<Bytes, FileError> {
        let mut parts = self.fetch_all(file, std::slice::from_ref(&range)).await?;
        Ok(parts.pop().unwrap_or_default())
    }

    /// Ranges, unchecked.
    pub(crate) async fn fetch_all(
        &self,
        file: &DataFile,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, FileError> {
        let path = object_path(file)?;
        let parts = match self.objects().get_ranges(&path, ranges).await {
            Ok(parts) => parts,
            Err(source) => return Err(self.explained(file, &path, source).await),
        };
        let lengths = ranges.iter().map(|range| range.end - range.start);
        if !lengths.eq(parts.iter().map(|part| part.len() as u64)) {
            let source = object_store::Error::Generic {
                store: "files",
                source: "it gave other ranges than it was asked for".into(),
            };
            return Err(self.explained(file, &path, source).await);
        }
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        self.counters.fetches.fetch_add(1, Ordering::Relaxed);
        self.counters
            .fetched_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(parts)
    }

    /// Why a read failed: whether the store is to blame, or the object is not there as a whole.
    async fn explained(&self, file: &DataFile, path: &Path, source: object_store::Error) -> FileError {
        if matches!(source, object_store::Error::NotFound { .. }) {
            return self.damaged(file, FileDamage::Missing);
        }
        match self.objects().head(path).await {
            Ok(object) if object.size != file.byte_size => {
                let damage = FileDamage::Length {
                    found: object.size,
                    expected: file.byte_size,
                };
                self.damaged(file, damage)
            }
            _ => unreadable(file, source),
        }
    }
}

fn object_path(file: &DataFile) -> Result<Path, FileError> {
    Path::parse(&*file.path).map_err(|source| unreadable(file, source.into()))
}

fn unreadable(file: &DataFile, source: object_store::Error) -> FileError {
    FileError::Object {
        action: "read",
        path: file.path.to_string(),
        source,
    }
}
