//! From the buffer to files: sort, write, one record in the manifest, and then the files take the place of the rows.
//!
//! A crash before the record leaves objects that nothing names; one after it leaves nothing undone, since the log is
//! replayed from the record's place on. An error before it leaves everything as it was.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tidemill_catalog::{CatalogState, TableId};

use crate::storage::pace::Pace;
use crate::storage::parts::{Part, parts_of};
use crate::storage::progress_object::progress_path;
use crate::storage::sorting::sorted;
use crate::{
    DataFile, Edit, Effort, FileError, FlushError, Frozen, ManifestState, Storage, WriteSpec, write_file,
};

/// What is to be made of frozen rows, and with how much effort.
#[derive(Debug, Clone)]
pub struct Flush {
    /// The tables and their columns; rows of tables that it does not know are left out.
    pub catalog: Arc<CatalogState>,
    /// The progress of the triggers at the place in the log of the frozen rows.
    pub progress: Bytes,
    /// Files of the largest size written at once; at least one. Of smaller ones, as many more as take no more memory.
    pub concurrency: usize,
    /// About so much of the buffer becomes one file.
    pub part_bytes_max: usize,
}

/// What a flush has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// Everything up to this place in the log is in files now.
    pub lsn: u64,
    /// Tables that had rows.
    pub tables: usize,
    /// Files written.
    pub files: usize,
    /// Rows of the buffer, those of one point counted each.
    pub rows: usize,
    /// Memory that the rows had.
    pub buffer_bytes: usize,
    /// Bytes of the files.
    pub file_bytes: u64,
}

impl Storage {
    /// Makes files of what [`Store::freeze`](crate::Store::freeze) gave and removes the mark, whether or not the future is
    /// polled to its end. One at a time.
    ///
    /// # Errors
    /// The rows stay in the buffer then, what was written is removed, and the flush may be tried again.
    pub async fn flush(self: &Arc<Self>, frozen: Frozen, flush: Flush) -> Result<FlushReport, FlushError> {
        let storage = Arc::clone(self);
        let flushing = tokio::spawn(async move {
            let flushed = storage.write_and_install(&frozen, &flush).await;
            if flushed.is_err() {
                storage.store().thaw();
            }
            flushed
        });
        match flushing.await {
            Ok(flushed) => flushed,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(FlushError::Stopping),
        }
    }

    async fn write_and_install(&self, frozen: &Frozen, flush: &Flush) -> Result<FlushReport, FlushError> {
        let parts = parts_of(frozen, &flush.catalog, flush.part_bytes_max);
        let files = self
            .write_parts(
                parts,
                frozen.lsn,
                &Pace::new(flush.concurrency, flush.part_bytes_max),
            )
            .await?;
        let progress = match self.write_progress(frozen.lsn, &flush.progress).await {
            Ok(path) => path,
            Err(error) => {
                self.files().remove_unnamed(&paths_of(&files)).await;
                return Err(error);
            }
        };
        match self.install_files(frozen, &files, &progress).await {
            Ok(leftover) => self.files().remove_unnamed(&leftover).await,
            Err(error) => {
                self.files().remove_unnamed(&paths_of(&files)).await;
                self.files().remove_unnamed(&[progress]).await;
                return Err(error.into());
            }
        }
        Ok(FlushReport {
            lsn: frozen.lsn,
            tables: frozen.tables.len(),
            files: files.len(),
            rows: frozen.row_count(),
            buffer_bytes: frozen.byte_size(),
            file_bytes: files.iter().map(|file| file.byte_size).sum(),
        })
    }

    /// Writes a file for each part, some at once. All files or, after an error, none.
    async fn write_parts(
        &self,
        parts: Vec<Part>,
        lsn: u64,
        pace: &Pace,
    ) -> Result<Vec<DataFile>, FlushError> {
        let mut waiting = parts.into_iter().peekable();
        let mut writing = FuturesUnordered::new();
        let (mut files, mut failure): (Vec<DataFile>, Option<FileError>) = (Vec::new(), None);
        loop {
            while failure.is_none()
                && let Some(part) = waiting
                    .next_if(|part| pace.admits(writing.len(), self.store().flushing_bytes(), part.byte_size))
            {
                let counted = self.store().count_flushing(part.byte_size);
                writing.push(
                    async move {
                        let _counted = counted;
                        self.write_part(part, lsn).await
                    }
                    .boxed(),
                );
            }
            let Some(written) = writing.next().await else {
                break;
            };
            match written {
                Ok(file) => files.extend(file),
                // Those that are being written end first: an upload that is dropped leaves something behind.
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        match failure {
            None => Ok(files),
            Some(error) => {
                self.files().remove_unnamed(&paths_of(&files)).await;
                Err(error.into())
            }
        }
    }

    async fn write_part(&self, part: Part, lsn: u64) -> Result<Option<DataFile>, FileError> {
        let table = Arc::clone(&part.table);
        let (lsn_first, lsn_last) = part.lsn_range();
        let prefix = Path::from(self.node_id()).join("files");
        let spec = WriteSpec {
            table: &table,
            path_prefix: &prefix,
            node_id: self.node_id(),
            lsn_first,
            lsn_last,
            // The buffer has no row that one of them removes.
            deletes_through: lsn,
            effort: Effort::Low,
        };
        let rows = sorted(part)?;
        write_file(self.files(), &spec, rows, || self.manifest().allocate_file_id()).await
    }

    async fn write_progress(&self, lsn: u64, progress: &Bytes) -> Result<Arc<str>, FlushError> {
        let path = progress_path(self.node_id(), lsn);
        let written = self.files().objects().put(&path, progress.clone().into()).await;
        match written {
            Ok(_) => Ok(path.as_ref().into()),
            Err(source) => Err(FlushError::Progress {
                path: path.to_string(),
                source,
            }),
        }
    }

    /// Commits the files and puts them in the place of the frozen rows. Returns the paths of objects that nothing names
    /// now.
    async fn install_files(
        &self,
        frozen: &Frozen,
        files: &[DataFile],
        progress: &Arc<str>,
    ) -> Result<Vec<Arc<str>>, crate::ManifestError> {
        let _in_order = self.changes.lock().await;
        let before = self.manifest().state();
        // A table may have been dropped meanwhile, with all that it had.
        let (kept, dropped): (Vec<&DataFile>, Vec<&DataFile>) = files
            .iter()
            .partition(|file| self.store().is_frozen(file.table, frozen.lsn));
        let mut edits: Vec<Edit> = kept.iter().map(|file| Edit::AddFile((*file).clone())).collect();
        edits.extend(new_deletes(frozen, &before));
        edits.push(Edit::Snapshot {
            lsn: frozen.lsn,
            progress: Some(Arc::clone(progress)),
        });
        let state = self.commit_in_order(edits).await?;
        let mut installed: HashMap<TableId, Vec<Arc<DataFile>>> = HashMap::new();
        for file in &kept {
            let file = state.file(file.id).expect("it was just committed");
            installed.entry(file.table).or_default().push(Arc::clone(file));
        }
        self.store().install_snapshot(&installed);
        let old_progress = before.progress().filter(|path| *path != progress);
        let dropped = dropped.into_iter().map(|file| Arc::clone(&file.path));
        Ok(dropped.chain(old_progress.cloned()).collect())
    }
}

fn paths_of(files: &[DataFile]) -> Vec<Arc<str>> {
    files.iter().map(|file| Arc::clone(&file.path)).collect()
}

/// The deletes since the snapshot before: the log that holds them may go.
fn new_deletes(frozen: &Frozen, before: &ManifestState) -> Vec<Edit> {
    frozen
        .deletes
        .iter()
        .filter(|delete| delete.lsn > before.snapshot_lsn() && delete.lsn <= frozen.lsn)
        .map(|delete| Edit::AddDelete((**delete).clone()))
        .collect()
}
