//! Parquet files: how they are laid out, written, cached and read.
//!
//! It knows one file at a time. Which files there are is the manifest's matter, which of them to merge is compaction's.

mod blocks;
mod byte_lru;
mod data_cache;
mod delete_filter;
mod encoder;
mod error;
mod fetch;
mod file_reader;
mod file_schema;
mod file_store;
mod footer;
mod layout;
mod scan;
mod upload;
mod write;

pub use blocks::check_bytes;
pub use delete_filter::DeleteFilter;
pub use error::{FileDamage, FileError};
pub use file_reader::FileReader;
pub use file_schema::{CHUNK_ORDER_COLUMN, FileSchema};
pub use file_store::{CacheStats, FileStore, FileStoreConfig, FileStoreStats};
pub use layout::Effort;
pub use scan::scan_file;
pub use write::{WriteSpec, write_file};
