//! The primitive changes that a manifest's records consist of.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_catalog::TableId;

use crate::{DataFile, FileId, RowDelete};

/// One change. Variants and their fields are an on-disk format: they may be added, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// Identities of files below this one are taken, whether they were used or not.
    ReserveFileIds {
        /// The least identity that is not.
        below: u64,
    },
    /// A file holds data from now on.
    AddFile(DataFile),
    /// A live file does not hold data any more; its object is to be removed.
    RemoveFile {
        /// The file.
        id: FileId,
    },
    /// The object of a removed file is gone.
    ForgetGarbage {
        /// The file.
        id: FileId,
    },
    /// All rows up to a place in the log are in files.
    Snapshot {
        /// The place.
        lsn: u64,
        /// Path of the object with the triggers' progress and state as of this place; the one before becomes garbage
        /// that the writer of the snapshot removes.
        progress: Option<Arc<str>>,
    },
    /// Some files still hold rows that this delete removes.
    AddDelete(RowDelete),
    /// All files of a table and all its deletes go.
    DropTable {
        /// The table.
        table: TableId,
    },
}
