//! Objects that hold no data any more are removed.

use std::collections::HashSet;

use futures::StreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::compaction::{CompactionError, Compactor};
use crate::storage::{progress_folder, progress_lsn};
use crate::{Edit, FileId};

/// Objects that one step removes.
const REMOVED_PER_STEP: usize = 256;
/// Requests at once.
const CONCURRENCY: usize = 8;

impl Compactor {
    /// Removes objects of files that were replaced and that nobody reads any more, and then has the manifest forget them.
    /// Returns how many.
    ///
    /// # Errors
    /// [`CompactionError::Objects`], [`CompactionError::Manifest`]; another try goes on where this one ended.
    pub async fn collect_garbage_once(&self) -> Result<usize, CompactionError> {
        // A reader has the `Arc` of the file from a list in memory, and the lists have those of the manifest. When the
        // manifest's garbage is the only place that has it, nobody can come by it any more.
        let unread: Vec<(FileId, Path)> = {
            let state = self.storage.manifest().state();
            let is_unread = |file: &&std::sync::Arc<crate::DataFile>| std::sync::Arc::strong_count(file) == 1;
            let unread = state.garbage().filter(is_unread).take(REMOVED_PER_STEP);
            unread.map(|file| (file.id, Path::from(&*file.path))).collect()
        };
        let removals = unread.iter().map(|(id, path)| async move {
            match self.files.objects().delete(path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(*id),
                Err(source) => Err(CompactionError::Objects {
                    action: "remove the object of a replaced file",
                    source,
                }),
            }
        });
        let results: Vec<_> = futures::stream::iter(removals)
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let (mut removed, mut failure) = (Vec::new(), None);
        for result in results {
            match result {
                Ok(id) => removed.push(id),
                Err(error) => failure = Some(error),
            }
        }
        for id in &removed {
            self.storage.files().forget(*id);
            self.files.forget(*id);
        }
        if !removed.is_empty() {
            let edits = removed.iter().map(|id| Edit::ForgetGarbage { id: *id }).collect();
            self.commit(edits).await?;
            self.history
                .update(|stats| stats.garbage_removed += removed.len() as u64);
        }
        failure.map_or(Ok(removed.len()), Err)
    }

    /// Removes objects that nothing names: of files that never got into the manifest since an earlier process ended while it
    /// wrote them, and what was removed and is there again after a power cut. Lists all files of the node; no file that this
    /// process wrote is touched. Returns how many.
    ///
    /// # Errors
    /// [`CompactionError::Objects`].
    pub async fn sweep_orphans_once(&self) -> Result<usize, CompactionError> {
        let objects = self.files.objects();
        // Files of earlier processes are in the manifest already or never will be, so this state tells for all of them.
        let state = self.storage.manifest().state();
        let named: HashSet<FileId> = state.files().chain(state.garbage()).map(|file| file.id).collect();
        let mut listing = objects.list(Some(&self.path_prefix));
        let mut orphans = Vec::new();
        while let Some(object) = listing.next().await {
            let object = object.map_err(|source| CompactionError::Objects {
                action: "list files",
                source,
            })?;
            let is_orphan =
                file_id(&object.location).is_some_and(|id| id < self.first_own_file && !named.contains(&id));
            if is_orphan {
                orphans.push(object.location);
            }
        }
        let mut listing = objects.list(Some(&progress_folder(self.storage.node_id())));
        while let Some(object) = listing.next().await {
            let object = object.map_err(|source| CompactionError::Objects {
                action: "list the progress of triggers",
                source,
            })?;
            // One that is ahead may be of a snapshot that is just being made.
            if progress_lsn(&object.location).is_some_and(|lsn| lsn < state.snapshot_lsn()) {
                orphans.push(object.location);
            }
        }
        for path in &orphans {
            tracing::info!(%path, "removing an object that nothing names");
            match objects.delete(path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {
                    self.history.update(|stats| stats.orphans_removed += 1);
                }
                Err(source) => {
                    return Err(CompactionError::Objects {
                        action: "remove an object that nothing names",
                        source,
                    });
                }
            }
        }
        Ok(orphans.len())
    }
}

/// The identity in the name `{id}-{random}.parquet`; `None`: it is not one of our files.
fn file_id(path: &Path) -> Option<FileId> {
    let name = path.filename()?.strip_suffix(".parquet")?;
    let (id, _) = name.split_once('-')?;
    id.parse().ok().map(FileId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_known() {
        assert_eq!(
            file_id(&Path::from("n/data/1/2/0000000012-ab.parquet")),
            Some(FileId(12))
        );
        assert_eq!(file_id(&Path::from("n/data/1/2/12.parquet")), None);
        assert_eq!(file_id(&Path::from("n/data/1/2/x-ab.parquet")), None);
        assert_eq!(file_id(&Path::from("n/data/1/2/12-ab.tmp")), None);
    }
}
