//! Access to the files of an object store.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use tidemill_catalog::ColumnId;

use crate::files::byte_lru::ByteLru;
use crate::files::data_cache::DataCache;
use crate::files::file_reader::FileReader;
use crate::{DataFile, FileError, FileId};

/// Ranges of a file with a gap up to this are fetched as one: less than what a request costs.
const COALESCED_GAP_BYTES: u64 = 16 * 1024;
/// A file up to this size is fetched whole at the first read.
const WHOLE_FILE_BYTES_MAX: u64 = 128 * 1024;
/// The least and the greatest guess of how long the footer with its indexes is.
const FOOTER_GUESS_BYTES: Range<u64> = 32 * 1024..1024 * 1024;
/// A footer is guessed to be so small a part of the file.
const FOOTER_GUESS_SHARE: u64 = 64;

/// How much of the files is kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStoreConfig {
    /// Memory for parsed footers.
    pub metadata_cache_bytes: usize,
    /// Memory for parts of files.
    pub data_cache_bytes: usize,
}

impl Default for FileStoreConfig {
    /// 64 MiB for footers, 128 MiB for parts.
    fn default() -> Self {
        Self {
            metadata_cache_bytes: 64 * 1024 * 1024,
            data_cache_bytes: 128 * 1024 * 1024,
        }
    }
}

/// The files of an object store, with caches of their footers and of the parts that were read lately.
#[derive(Debug)]
pub struct FileStore {
    objects: Arc<dyn ObjectStore>,
    metadata: Mutex<ByteLru<FileId, Arc<ParquetMetaData>>>,
    data: DataCache,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    metadata_hits: AtomicU64,
    metadata_misses: AtomicU64,
    data_hits: AtomicU64,
    data_misses: AtomicU64,
    fetches: AtomicU64,
    fetched_bytes: AtomicU64,
}

/// What a [`FileStore`] did since it was made, and holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileStoreStats {
    /// Parsed footers.
    pub metadata: CacheStats,
    /// Parts of files.
    pub data: CacheStats,
    /// Times that parts of a file were fetched from the object store.
    pub fetches: u64,
    /// Bytes that came with them.
    pub fetched_bytes: u64,
}

/// What a cache did, and holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Times that something was found.
    pub hits: u64,
    /// Times that something was not there.
    pub misses: u64,
    /// Memory of what it holds.
    pub bytes: usize,
    /// How many things it holds.
    pub entries: usize,
}

impl FileStore {
    /// Nothing is read; the caches are empty.
    pub fn new(objects: Arc<dyn ObjectStore>, config: FileStoreConfig) -> Self {
        Self {
            objects,
            metadata: Mutex::new(ByteLru::new(config.metadata_cache_bytes)),
            data: DataCache::new(config.data_cache_bytes),
            counters: Counters::default(),
        }
    }

    /// The objects beneath.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// A reader of one file.
    pub fn reader(self: &Arc<Self>, file: &Arc<DataFile>) -> FileReader {
        FileReader::new(Arc::clone(self), Arc::clone(file))
    }

    /// The footer of a file with its page index; cached.
    ///
    /// # Errors
    /// [`FileError::Object`] when it cannot be fetched, [`FileError::Damaged`] when it is no footer.
    pub async fn metadata(&self, file: &DataFile) -> Result<Arc<ParquetMetaData>, FileError> {
        let cached = self.metadata.lock().get_last(file.id..=file.id, |_, _| true);
        if let Some((_, metadata)) = cached {
            self.counters.metadata_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(metadata);
        }
        self.counters.metadata_misses.fetch_add(1, Ordering::Relaxed);
        let metadata = Arc::new(self.load_metadata(file).await?);
        let bytes = metadata.memory_size();
        self.metadata.lock().insert(file.id, Arc::clone(&metadata), bytes);
        Ok(metadata)
    }

    /// The columns that a file has.
    ///
    /// # Errors
    /// Those of [`Self::metadata`].
    pub async fn columns(&self, file: &DataFile) -> Result<Vec<ColumnId>, FileError> {
        let metadata = self.metadata(file).await?;
        let fields = metadata
            .file_metadata()
            .schema_descr()
            .root_schema()
            .get_fields()
            .iter();
        let field_ids = fields.filter_map(|field| {
            let info = field.get_basic_info();
            info.has_id().then(|| info.id())
        });
        Ok(field_ids
            .filter_map(|id| u16::try_from(id - 1).ok())
            .map(ColumnId)
            .collect())
    }

    /// Forgets what is cached of a file, as is wise when its object is removed.
    pub fn forget(&self, id: FileId) {
        self.metadata.lock().remove_range(id..=id);
        self.data.forget(id);
    }

    /// Removes objects that nothing names any more, as well as that can be done: what stays is found by the sweep after a
    /// later start.
    pub(crate) async fn remove_unnamed(&self, paths: &[Arc<str>]) {
        for path in paths {
            match self.objects.delete(&Path::from(&**path)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => tracing::debug!(%path, %error, "an object that is not needed stays for now"),
            }
        }
    }

    /// What it did and holds; not one moment for all numbers.
    pub fn stats(&self) -> FileStoreStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (data_bytes, data_entries) = self.data.size();
        let metadata = self.metadata.lock();
        FileStoreStats {
            metadata: CacheStats {
                hits: count(&self.counters.metadata_hits),
                misses: count(&self.counters.metadata_misses),
                bytes: metadata.bytes(),
                entries: metadata.len(),
            },
            data: CacheStats {
                hits: count(&self.counters.data_hits),
                misses: count(&self.counters.data_misses),
                bytes: data_bytes,
                entries: data_entries,
            },
            fetches: count(&self.counters.fetches),
            fetched_bytes: count(&self.counters.fetched_bytes),
        }
    }

    async fn load_metadata(&self, file: &DataFile) -> Result<ParquetMetaData, FileError> {
        let guess = (file.byte_size / FOOTER_GUESS_SHARE)
            .clamp(FOOTER_GUESS_BYTES.start, FOOTER_GUESS_BYTES.end)
            .min(file.byte_size);
        let mut start = file.byte_size - guess;
        loop {
            let tail = self.fetch(file, start..file.byte_size).await?;
            let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
            match reader.try_parse_sized(&tail, file.byte_size) {
                Ok(()) => return reader.finish().map_err(|source| damaged(file, source)),
                Err(parquet::errors::ParquetError::NeedMoreData(needed)) if start > 0 => {
                    // Each time at least twice as much, whatever the footer claims to need.
                    let length = (needed as u64).max(2 * (file.byte_size - start));
                    start = file.byte_size.saturating_sub(length);
                }
                Err(source) => return Err(damaged(file, source)),
            }
        }
    }

    /// Ranges of a file, from the cache where it has them.
    pub(crate) async fn read(&self, file: &DataFile, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, FileError> {
        let mut found: Vec<Option<Bytes>> = Vec::with_capacity(ranges.len());
        let mut missing: Vec<Range<u64>> = Vec::new();
        let mut hit_count = 0;
        for range in ranges {
            check_range(file, range)?;
            if range.is_empty() {
                found.push(Some(Bytes::new()));
                continue;
            }
            let cached = self.data.get(file.id, range);
            if cached.is_some() {
                hit_count += 1;
            } else {
                missing.push(range.clone());
            }
            found.push(cached);
        }
        self.counters.data_hits.fetch_add(hit_count, Ordering::Relaxed);
        let miss_count = missing.len() as u64;
        self.counters.data_misses.fetch_add(miss_count, Ordering::Relaxed);
        if missing.is_empty() {
            return Ok(found.into_iter().flatten().collect());
        }

        if file.byte_size <= WHOLE_FILE_BYTES_MAX {
            missing.push(0..file.byte_size);
        }
        let wanted = coalesced(missing);
        let fetched = self.fetch_all(file, &wanted).await?;
        for (range, bytes) in wanted.iter().zip(&fetched) {
            self.data.insert(file.id, range.start, bytes);
        }
        let cut = |range: &Range<u64>| {
            let position = wanted.partition_point(|whole| whole.start <= range.start) - 1;
            let start = (range.start - wanted[position].start) as usize;
            fetched[position].slice(start..start + (range.end - range.start) as usize)
        };
        let pairs = ranges.iter().zip(found);
        Ok(pairs
            .map(|(range, cached)| cached.unwrap_or_else(|| cut(range)))
            .collect())
    }

    async fn fetch(&self, file: &DataFile, range: Range<u64>) -> Result<Bytes, FileError> {
        let path = object_path(file)?;
        let bytes = self.objects.get_range(&path, range.clone()).await;
        let bytes = bytes.map_err(|source| unreadable(file, source))?;
        self.note_fetch(file, std::slice::from_ref(&range), std::slice::from_ref(&bytes))?;
        Ok(bytes)
    }

    async fn fetch_all(&self, file: &DataFile, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, FileError> {
        let path = object_path(file)?;
        let parts = self.objects.get_ranges(&path, ranges).await;
        let parts = parts.map_err(|source| unreadable(file, source))?;
        self.note_fetch(file, ranges, &parts)?;
        Ok(parts)
    }

    fn note_fetch(&self, file: &DataFile, ranges: &[Range<u64>], parts: &[Bytes]) -> Result<(), FileError> {
        let lengths = ranges.iter().map(|range| range.end - range.start);
        if !lengths.eq(parts.iter().map(|part| part.len() as u64)) {
            let message = format!(
                "the object is shorter than the {} bytes it was written with",
                file.byte_size
            );
            return Err(damaged(file, parquet::errors::ParquetError::EOF(message)));
        }
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        self.counters.fetches.fetch_add(1, Ordering::Relaxed);
        self.counters
            .fetched_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// The same bytes in fewer ranges, ascending and disjoint.
fn coalesced(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut wholes: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match wholes.last_mut() {
            Some(open) if range.start <= open.end.saturating_add(COALESCED_GAP_BYTES) => {
                open.end = open.end.max(range.end);
            }
            _ => wholes.push(range),
        }
    }
    wholes
}

fn check_range(file: &DataFile, range: &Range<u64>) -> Result<(), FileError> {
    if range.start <= range.end && range.end <= file.byte_size {
        return Ok(());
    }
    let message = format!(
        "bytes {}..{} are asked for, and it has {}",
        range.start, range.end, file.byte_size
    );
    Err(damaged(file, parquet::errors::ParquetError::EOF(message)))
}

fn object_path(file: &DataFile) -> Result<Path, FileError> {
    Path::parse(&*file.path).map_err(|source| unreadable(file, source.into()))
}

pub(crate) fn damaged(file: &DataFile, source: parquet::errors::ParquetError) -> FileError {
    FileError::Damaged {
        path: file.path.to_string(),
        source,
    }
}

fn unreadable(file: &DataFile, source: object_store::Error) -> FileError {
    FileError::Object {
        action: "read",
        path: file.path.to_string(),
        source,
    }
}
