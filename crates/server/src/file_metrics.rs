//! What is in files and how it is read, for `GET /metrics`: sums over all tables.

use tidemill_metrics::{Exposition, Kind};
use tidemill_store::{FileStoreStats, Storage, Store};

/// Sums over all tables.
#[derive(Debug, Default)]
struct Stored {
    buffer_rows: u64,
    files: u64,
    file_rows: u64,
    file_bytes: u64,
    pending_deletes: u64,
}

impl Stored {
    fn of(store: &Store) -> Self {
        let mut stored = Self::default();
        for table in store.stats().tables {
            let data = store.scan(table.table);
            stored.buffer_rows += data.row_count as u64;
            stored.files += data.files.len() as u64;
            stored.file_rows += data.files.iter().map(|file| file.row_count).sum::<u64>();
            stored.file_bytes += data.files.iter().map(|file| file.byte_size).sum::<u64>();
            stored.pending_deletes += data.deletes.len() as u64;
        }
        stored
    }
}

pub(crate) fn write_files(text: &mut Exposition, storage: &Storage) {
    let stored = Stored::of(storage.store());
    let gauges = [
        (
            "tidemill_buffer_rows",
            "Rows that are in memory and in no file, those of one point counted each.",
            stored.buffer_rows,
        ),
        ("tidemill_files", "Files that queries may read.", stored.files),
        ("tidemill_file_rows", "Rows in these files.", stored.file_rows),
        ("tidemill_file_bytes", "Bytes of these files.", stored.file_bytes),
        (
            "tidemill_pending_row_deletes",
            "Row deletes that queries apply to files because compaction has not done so yet.",
            stored.pending_deletes,
        ),
    ];
    for (name, help, value) in gauges {
        text.single(name, help, Kind::Gauge, number(value));
    }
    write_reads(text, &storage.files().stats());
}

fn write_reads(text: &mut Exposition, reads: &FileStoreStats) {
    let caches = [("metadata", &reads.metadata), ("data", &reads.data)];
    text.metric(
        "tidemill_file_cache_hits_total",
        "Reads of files that a cache has answered.",
        Kind::Counter,
        caches.map(|(cache, stats)| ([("cache", cache)], number(stats.hits))),
    );
    text.metric(
        "tidemill_file_cache_misses_total",
        "Reads of files that a cache could not answer.",
        Kind::Counter,
        caches.map(|(cache, stats)| ([("cache", cache)], number(stats.misses))),
    );
    text.metric(
        "tidemill_file_cache_bytes",
        "Memory of the caches of files.",
        Kind::Gauge,
        caches.map(|(cache, stats)| ([("cache", cache)], number(stats.bytes as u64))),
    );
    text.single(
        "tidemill_file_fetches_total",
        "Reads of files that went to the object store.",
        Kind::Counter,
        number(reads.fetches),
    );
    text.single(
        "tidemill_file_fetched_bytes_total",
        "Bytes that these reads have brought.",
        Kind::Counter,
        number(reads.fetched_bytes),
    );
    text.single(
        "tidemill_damaged_files",
        "Files that queries have found damaged since the start; the log names them.",
        Kind::Gauge,
        number(reads.damaged_files),
    );
}

#[expect(clippy::cast_precision_loss, reason = "the format has no other numbers")]
fn number(value: u64) -> f64 {
    value as f64
}
