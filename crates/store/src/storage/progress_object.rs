//! The names of the objects that have the triggers' progress as of a snapshot.

use object_store::path::Path;

/// Where they are.
pub(crate) fn progress_folder(node_id: &str) -> Path {
    Path::from(node_id).join("snapshots")
}

/// That of the snapshot at a place in the log.
pub(crate) fn progress_path(node_id: &str, lsn: u64) -> Path {
    progress_folder(node_id).join(format!("{lsn:020}.progress"))
}

/// The place in the log of an object's snapshot; `None`: it is not one of ours.
pub(crate) fn progress_lsn(path: &Path) -> Option<u64> {
    path.filename()?.strip_suffix(".progress")?.parse().ok()
}
