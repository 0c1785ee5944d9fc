//! The buffer, the manifest and the files of one node as one whole: what changes in the manifest changes in what queries
//! see, in the same order, and what the buffer holds becomes files.

mod error;
mod flush;
mod pace;
mod parts;
mod progress_object;
mod sorting;
mod table_data;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex as BlockingMutex;
use tidemill_catalog::TableId;
use tokio::sync::{Mutex, watch};

use crate::{
    DataFile, Edit, FileId, FileStore, FileStoreConfig, Manifest, ManifestError, ManifestState, Store,
    StoreConfig,
};

pub(crate) use progress_object::{progress_folder, progress_lsn};

pub use error::{FlushError, StorageError};
pub use flush::{Flush, FlushReport};

/// Everything that holds rows on one node.
pub struct Storage {
    store: Arc<Store>,
    manifest: Manifest,
    files: Arc<FileStore>,
    node_id: String,
    /// Held from before a commit to the manifest until its effect is in the store: the lists of the store change in the
    /// order of the manifest's records.
    changes: Mutex<()>,
    is_overtaken: watch::Sender<bool>,
    /// The progress of triggers that the manifest named when it was opened.
    progress_at_open: BlockingMutex<Option<Bytes>>,
}

impl Storage {
    /// Opens the manifest of a node and lists its files in a buffer that is empty otherwise. Reads the manifest and one
    /// small object, lists nothing, and opens no file. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`StorageError::Manifest`]; [`StorageError::Progress`] when the progress of the triggers cannot be read.
    pub async fn open(
        store_config: StoreConfig,
        file_config: FileStoreConfig,
        objects: Arc<dyn ObjectStore>,
        node_id: &str,
    ) -> Result<Self, StorageError> {
        let manifest = Manifest::open(Arc::clone(&objects), node_id).await?;
        let state = manifest.state();
        let store = Store::new(store_config);
        store.load(&state);
        let progress = match state.progress() {
            Some(path) => Some(read_object(&objects, path).await?),
            None => None,
        };
        Ok(Self {
            store: Arc::new(store),
            manifest,
            files: Arc::new(FileStore::new(objects, file_config)),
            node_id: node_id.to_owned(),
            changes: Mutex::new(()),
            is_overtaken: watch::Sender::new(false),
            progress_at_open: BlockingMutex::new(progress),
        })
    }

    /// A new one whose files are in memory, with the usual settings; for tests.
    ///
    /// # Panics
    /// Where memory fails.
    pub async fn in_memory() -> Arc<Self> {
        let objects = Arc::new(InMemory::new());
        let opened = Self::open(
            StoreConfig::default(),
            FileStoreConfig::default(),
            objects,
            "node",
        )
        .await;
        Arc::new(opened.expect("objects in memory can be read and written"))
    }

    /// The buffer with the lists of files.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The manifest. To change which files there are, use [`commit`](Self::commit).
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Access to the files.
    pub fn files(&self) -> &Arc<FileStore> {
        &self.files
    }

    /// The name of the node, with which all paths begin.
    pub fn node_id(&self) -> &str {
        &self.node_id
    }

    /// Everything up to this place in the log is in files.
    pub fn snapshot_lsn(&self) -> u64 {
        self.manifest.state().snapshot_lsn()
    }

    /// Becomes true when a commit has found that another process writes to the manifest: a second server runs with this
    /// node id, and this one must stop.
    pub fn is_overtaken(&self) -> watch::Receiver<bool> {
        self.is_overtaken.subscribe()
    }

    /// Takes the progress of the triggers as of the place in the log that the manifest was opened at; `None` if there is
    /// none, or it was taken.
    pub fn take_progress(&self) -> Option<Bytes> {
        self.progress_at_open.lock().take()
    }

    /// Makes edits durable as one record of the manifest, and then visible to queries, whether or not the future is polled
    /// to its end.
    ///
    /// # Errors
    /// Those of [`Manifest::commit`]; nothing was done then.
    pub async fn commit(self: &Arc<Self>, edits: Vec<Edit>) -> Result<Arc<ManifestState>, ManifestError> {
        let storage = Arc::clone(self);
        let committing = tokio::spawn(async move { storage.commit_to_the_end(edits).await });
        match committing.await {
            Ok(committed) => committed,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(ManifestError::Refused("the server is stopping".to_owned())),
        }
    }

    /// Removes all rows and files of a table from sight, for ever.
    ///
    /// # Errors
    /// Those of [`Manifest::commit`]; the table is as it was then.
    pub async fn drop_table(self: &Arc<Self>, table: TableId) -> Result<(), ManifestError> {
        self.commit(vec![Edit::DropTable { table }]).await.map(drop)
    }

    async fn commit_to_the_end(&self, edits: Vec<Edit>) -> Result<Arc<ManifestState>, ManifestError> {
        let _in_order = self.changes.lock().await;
        let before = self.manifest.state();
        let changes = Changes::of(&before, &edits);
        let state = self.commit_in_order(edits).await?;
        changes.install(&self.store, &state);
        Ok(state)
    }

    /// The one way to the manifest; whoever calls it holds `changes`.
    async fn commit_in_order(&self, edits: Vec<Edit>) -> Result<Arc<ManifestState>, ManifestError> {
        let committed = self.manifest.commit(edits).await;
        if let Err(ManifestError::Conflict { .. }) = committed {
            self.is_overtaken.send_replace(true);
        }
        committed
    }
}

/// What edits change in the lists of the store.
#[derive(Default)]
struct Changes {
    by_table: HashMap<TableId, TableChanges>,
    dropped: Vec<TableId>,
}

#[derive(Default)]
struct TableChanges {
    removed: Vec<FileId>,
    added: Vec<FileId>,
}

impl Changes {
    fn of(before: &ManifestState, edits: &[Edit]) -> Self {
        let mut changes = Self::default();
        for edit in edits {
            match edit {
                Edit::AddFile(file) => changes.of_table(file.table).added.push(file.id),
                Edit::RemoveFile { id } => {
                    // One that is not there is refused by the manifest.
                    if let Some(file) = before.file(*id) {
                        changes.of_table(file.table).removed.push(*id);
                    }
                }
                Edit::DropTable { table } => changes.dropped.push(*table),
                _ => {}
            }
        }
        changes
    }

    fn of_table(&mut self, table: TableId) -> &mut TableChanges {
        self.by_table.entry(table).or_default()
    }

    fn install(self, store: &Store, state: &ManifestState) {
        for (table, TableChanges { removed, added }) in self.by_table {
            let added: Vec<Arc<DataFile>> = added
                .into_iter()
                .filter_map(|id| state.file(id).cloned())
                .collect();
            store.install(table, &removed, &added);
        }
        for table in self.dropped {
            store.drop_table(table);
        }
    }
}

async fn read_object(objects: &Arc<dyn ObjectStore>, path: &str) -> Result<Bytes, StorageError> {
    let read = async { objects.get(&Path::from(path)).await?.bytes().await };
    read.await.map_err(|source| StorageError::Progress {
        path: path.to_owned(),
        source,
    })
}
