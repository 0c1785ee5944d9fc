//! The manifest: which Parquet files there are, up to which place in the log they hold everything, and which row deletes
//! they still await.
//!
//! It is a log of records in the object store with checkpoints, and the state they add up to in memory. A record is a list
//! of [`Edit`]s that take effect together. A file that no record names is not data, whatever a listing shows.

mod data_file;
mod edit;
#[expect(clippy::module_inception, reason = "the manifest of the module manifest")]
mod manifest;
mod removed_rows;
mod row_delete;
mod state;

pub use data_file::{DataFile, FileId, FileTail};
pub use edit::Edit;
pub use manifest::{Manifest, ManifestError};
pub use row_delete::{RowDelete, TagCondition};
pub use state::ManifestState;
