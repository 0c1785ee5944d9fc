//! Access to the files of an object store.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use parquet::file::metadata::ParquetMetaData;
use tidemill_catalog::ColumnId;

use crate::files::byte_lru::ByteLru;
use crate::files::data_cache::DataCache;
use crate::files::file_reader::FileReader;
use crate::files::footer::{Footer, Parsed};
use crate::{DataFile, FileDamage, FileError, FileId};

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

/// The files of an object store, with caches of their footers and of the parts that were read lately. What a file's
/// checksums do not confirm is neither given to anybody nor cached.
#[derive(Debug)]
pub struct FileStore {
    objects: Arc<dyn ObjectStore>,
    footers: Mutex<ByteLru<FileId, Arc<Footer>>>,
    data: DataCache,
    /// Those that were found to be damaged.
    damaged: Mutex<BTreeSet<FileId>>,
    pub(crate) counters: Counters,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    metadata_hits: AtomicU64,
    metadata_misses: AtomicU64,
    data_hits: AtomicU64,
    data_misses: AtomicU64,
    pub(crate) fetches: AtomicU64,
    pub(crate) fetched_bytes: AtomicU64,
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
    /// Files that were found to be damaged.
    pub damaged_files: u64,
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
            footers: Mutex::new(ByteLru::new(config.metadata_cache_bytes)),
            data: DataCache::new(config.data_cache_bytes),
            damaged: Mutex::default(),
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
    /// [`FileError::Object`] when it cannot be fetched, [`FileError::Damaged`] when it is not what was written.
    pub async fn metadata(&self, file: &DataFile) -> Result<Arc<ParquetMetaData>, FileError> {
        Ok(Arc::clone(&self.footer(file).await?.metadata))
    }

    pub(crate) async fn footer(&self, file: &DataFile) -> Result<Arc<Footer>, FileError> {
        let cached = self.footers.lock().get_last(file.id..=file.id, |_, _| true);
        if let Some((_, footer)) = cached {
            self.counters.metadata_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(footer);
        }
        self.counters.metadata_misses.fetch_add(1, Ordering::Relaxed);
        let footer = Arc::new(self.load_footer(file).await?);
        let bytes = footer.memory_size();
        self.footers.lock().insert(file.id, Arc::clone(&footer), bytes);
        Ok(footer)
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
        self.footers.lock().remove_range(id..=id);
        self.data.forget(id);
        self.damaged.lock().remove(&id);
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
        let damaged_files = self.damaged.lock().len() as u64;
        let footers = self.footers.lock();
        FileStoreStats {
            metadata: CacheStats {
                hits: count(&self.counters.metadata_hits),
                misses: count(&self.counters.metadata_misses),
                bytes: footers.bytes(),
                entries: footers.len(),
            },
            data: CacheStats {
                hits: count(&self.counters.data_hits),
                misses: count(&self.counters.data_misses),
                bytes: data_bytes,
                entries: data_entries,
            },
            fetches: count(&self.counters.fetches),
            fetched_bytes: count(&self.counters.fetched_bytes),
            damaged_files,
        }
    }

    /// The error that tells of damage, which is logged when it is the first of the file.
    pub fn damaged(&self, file: &DataFile, damage: FileDamage) -> FileError {
        let is_new = self.damaged.lock().insert(file.id);
        let error = FileError::Damaged {
            path: file.path.to_string(),
            damage,
        };
        if is_new {
            tracing::error!(path = %file.path, rows = file.row_count, "{error}");
        }
        error
    }

    async fn load_footer(&self, file: &DataFile) -> Result<Footer, FileError> {
        let guess = || {
            (file.byte_size / FOOTER_GUESS_SHARE)
                .clamp(FOOTER_GUESS_BYTES.start, FOOTER_GUESS_BYTES.end)
                .min(file.byte_size)
        };
        let mut start = match file.tail {
            Some(tail) => tail.start,
            None => file.byte_size - guess(),
        };
        if start >= file.byte_size {
            return Err(self.damaged(file, FileDamage::beyond_end(start, file)));
        }
        loop {
            let end = self.fetch(file, start..file.byte_size).await?;
            match Footer::parse(file, &end) {
                Ok(Parsed::Footer(footer)) => return Ok(footer),
                Ok(Parsed::TooShort(needed)) if start > 0 && file.tail.is_none() => {
                    // Each time at least twice as much, whatever the footer claims to need.
                    let length = needed.max(2 * (file.byte_size - start));
                    start = file.byte_size.saturating_sub(length);
                }
                Ok(Parsed::TooShort(needed)) => {
                    let reason = format!("its footer is to have {needed} bytes");
                    return Err(self.damaged(file, FileDamage::Undecodable(reason)));
                }
                Err(damage) => return Err(self.damaged(file, damage)),
            }
        }
    }

    /// Ranges of a file, from the cache where it has them. `footer` is the file's if the caller has it.
    pub(crate) async fn read(
        &self,
        file: &DataFile,
        footer: Option<Arc<Footer>>,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, FileError> {
        let mut found: Vec<Option<Bytes>> = Vec::with_capacity(ranges.len());
        let mut missing: Vec<Range<u64>> = Vec::new();
        let mut hit_count = 0;
        for range in ranges {
            self.check_range(file, range)?;
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

        // The tail is in the footer already.
        let rows_end = file.tail.map_or(file.byte_size, |tail| tail.start);
        if (1..=WHOLE_FILE_BYTES_MAX).contains(&rows_end) {
            missing.push(0..rows_end);
        }
        let wanted = coalesced(missing);
        let fetched = match (file.tail, footer) {
            (None, _) => self.fetch_all(file, &wanted).await?,
            (Some(_), Some(footer)) => self.fetch_checked(file, &footer, &wanted).await?,
            (Some(_), None) => {
                let footer = self.footer(file).await?;
                self.fetch_checked(file, &footer, &wanted).await?
            }
        };
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

    fn check_range(&self, file: &DataFile, range: &Range<u64>) -> Result<(), FileError> {
        if range.start <= range.end && range.end <= file.byte_size {
            return Ok(());
        }
        Err(self.damaged(file, FileDamage::beyond_end(range.end, file)))
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
