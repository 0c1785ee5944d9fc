//! What the records of a manifest add up to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_catalog::TableId;

use crate::{DataFile, Edit, FileId, RowDelete};

/// The manifest after some record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestState {
    snapshot_lsn: u64,
    progress: Option<Arc<str>>,
    next_file_id: u64,
    files: BTreeMap<FileId, Arc<DataFile>>,
    /// Removed files whose objects may still be there.
    garbage: BTreeMap<FileId, Arc<DataFile>>,
    /// In log order.
    deletes: Vec<Arc<RowDelete>>,
}

impl ManifestState {
    /// Everything up to this place in the log is in files; 0: nothing is.
    pub fn snapshot_lsn(&self) -> u64 {
        self.snapshot_lsn
    }

    /// Path of the object with the triggers' progress as of [`snapshot_lsn`](Self::snapshot_lsn).
    pub fn progress(&self) -> Option<&Arc<str>> {
        self.progress.as_ref()
    }

    /// The least identity that no file of the manifest has had.
    pub fn next_file_id(&self) -> FileId {
        FileId(self.next_file_id)
    }

    /// All live files by identity.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Arc<DataFile>> {
        self.files.values()
    }

    /// A live file.
    pub fn file(&self, id: FileId) -> Option<&Arc<DataFile>> {
        self.files.get(&id)
    }

    /// Live files by table.
    pub fn files_by_table(&self) -> HashMap<TableId, Vec<Arc<DataFile>>> {
        let mut by_table: HashMap<TableId, Vec<Arc<DataFile>>> = HashMap::new();
        for file in self.files.values() {
            by_table.entry(file.table).or_default().push(Arc::clone(file));
        }
        by_table
    }

    /// Removed files whose objects may still be there.
    pub fn garbage(&self) -> impl ExactSizeIterator<Item = &Arc<DataFile>> {
        self.garbage.values()
    }

    /// The deletes that some live file still awaits, in log order.
    pub fn deletes(&self) -> &[Arc<RowDelete>] {
        &self.deletes
    }

    /// The state after all of `edits`, and without the deletes that no file awaits any more.
    ///
    /// # Errors
    /// The reason why an edit does not fit: a file that is not live, or is live already.
    pub fn after(&self, edits: &[Edit]) -> Result<Self, String> {
        let mut state = self.clone();
        state.apply_all(edits)?;
        Ok(state)
    }

    /// Does in place what [`after`](Self::after) says. After an error the state is half changed.
    pub(crate) fn apply_all(&mut self, edits: &[Edit]) -> Result<(), String> {
        for edit in edits {
            self.apply(edit)?;
        }
        let files = &self.files;
        self.deletes
            .retain(|delete| files.values().any(|file| delete.concerns(file)));
        Ok(())
    }

    /// # Errors
    /// How the state contradicts itself.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (id, file) in self.files.iter().chain(&self.garbage) {
            if *id != file.id {
                return Err(format!("file {} is entered as {id}", file.id));
            }
            if id.0 >= self.next_file_id {
                return Err(format!("file {id} is from the future"));
            }
        }
        match self.files.keys().find(|id| self.garbage.contains_key(id)) {
            Some(id) => Err(format!("file {id} is both live and removed")),
            None => Ok(()),
        }
    }

    fn apply(&mut self, edit: &Edit) -> Result<(), String> {
        match edit {
            Edit::AddFile(file) => {
                let is_known = self.files.contains_key(&file.id) || self.garbage.contains_key(&file.id);
                if is_known {
                    return Err(format!("file {} is added twice", file.id));
                }
                self.next_file_id = self.next_file_id.max(file.id.0.saturating_add(1));
                self.files.insert(file.id, Arc::new(file.clone()));
            }
            Edit::RemoveFile { id } => {
                let file = self.files.remove(id);
                let file = file.ok_or_else(|| format!("file {id} is removed but is not live"))?;
                self.garbage.insert(*id, file);
            }
            Edit::ReserveFileIds { below } => self.next_file_id = self.next_file_id.max(*below),
            Edit::ForgetGarbage { id } => drop(self.garbage.remove(id)),
            Edit::Snapshot { lsn, progress } => {
                if *lsn < self.snapshot_lsn {
                    return Err(format!(
                        "snapshot at {lsn} comes after the one at {}",
                        self.snapshot_lsn
                    ));
                }
                self.snapshot_lsn = *lsn;
                self.progress.clone_from(progress);
            }
            Edit::AddDelete(delete) => self.deletes.push(Arc::new(delete.clone())),
            Edit::DropTable { table } => {
                let dropped: Vec<FileId> = self.files_of(*table).map(|file| file.id).collect();
                for id in dropped {
                    self.apply(&Edit::RemoveFile { id })?;
                }
                self.deletes.retain(|delete| delete.table != *table);
            }
        }
        Ok(())
    }

    fn files_of(&self, table: TableId) -> impl Iterator<Item = &Arc<DataFile>> {
        self.files.values().filter(move |file| file.table == table)
    }
}
