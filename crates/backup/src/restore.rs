//! From the place of a backup into that of a node.
//!
//! A node begins with the object [`RESTORE_MARK`], which goes when everything else is there and was checked. A server does not
//! start on a node that has it.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use tidemill_store::{DataFile, Edit, Manifest, ManifestState, RowDelete};

use crate::export::{MANIFEST_PATH, ManifestImage};
use crate::index::{BackupIndex, BackupObject};
use crate::object_writer::ObjectWriter;
use crate::stream::{Checksum, StreamEnd};
use crate::{BackupError, BackupPlace, Progress};

/// Name of the object, below the node, that says that a restore has begun and not ended.
pub const RESTORE_MARK: &str = "unfinished_restore";

/// What the object says from the beginning on.
const BEGUN: &[u8] = b"a restore has begun here and is not finished\n";
/// What it says at the end.
const ENDED: &[u8] = b"a restore has ended here\n";

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// What the backup consists of.
    pub index: BackupIndex,
    /// What was copied.
    pub copied: StreamEnd,
}

/// A restore whose objects are in place, and whose node does not start yet.
struct Begun<'a> {
    store: Arc<dyn ObjectStore>,
    node_id: &'a str,
    index: BackupIndex,
}

/// Copies a backup into the place of a node that has nothing yet, whatever the name of the node was that the backup is of.
/// `check` is asked, when everything is in place, whether the node is sound, and says what is wrong; a node that is not
/// does not start.
///
/// # Errors
/// [`BackupError::NodeNotEmpty`], [`BackupError::UnfinishedRestore`], [`BackupError::NoBackup`]: nothing was written. Else what is wrong with the backup or the
/// stores; what was written is to be removed, and until then no server starts on it.
pub async fn restore(
    place: &BackupPlace,
    store: Arc<dyn ObjectStore>,
    node_id: &str,
    mut on_progress: impl FnMut(Progress),
    check: impl AsyncFnOnce(&BackupIndex) -> Result<(), String>,
) -> Result<RestoreReport, BackupError> {
    let index = place.index().await?;
    check_restored(&store, node_id).await?;
    expect_no_data(&store, node_id).await?;
    let mark = mark_path(node_id);
    let put = store.put(&mark, Bytes::from_static(BEGUN).into());
    put.await.map_err(BackupError::object("write", &mark))?;

    let begun = Begun {
        store: Arc::clone(&store),
        node_id,
        index,
    };
    let copied = begun.copy_objects(place, &mut on_progress).await?;
    begun.write_manifest(place).await?;
    check(&begun.index).await.map_err(BackupError::NotSound)?;
    // A put is durable; a removal may be undone by a power cut, and then does not matter any more.
    let put = store.put(&mark, Bytes::from_static(ENDED).into());
    put.await.map_err(BackupError::object("write", &mark))?;
    if let Err(error) = store.delete(&mark).await {
        tracing::warn!(%error, object = %mark, "could not remove what is not needed any more");
    }
    Ok(RestoreReport {
        index: begun.index,
        copied,
    })
}

/// Checks that a node is not an unfinished restore. For a server that starts.
///
/// # Errors
/// [`BackupError::UnfinishedRestore`], [`BackupError::Object`].
pub async fn check_restored(store: &dyn ObjectStore, node_id: &str) -> Result<(), BackupError> {
    let mark = mark_path(node_id);
    let read = async { store.get(&mark).await?.bytes().await };
    match read.await {
        Err(Error::NotFound { .. }) => Ok(()),
        Ok(content) if content == ENDED => Ok(()),
        Ok(_) => Err(BackupError::UnfinishedRestore {
            node_id: node_id.to_owned(),
        }),
        Err(error) => Err(BackupError::object("look for", mark)(error)),
    }
}

fn mark_path(node_id: &str) -> Path {
    Path::from(node_id).join(RESTORE_MARK)
}

async fn expect_no_data(store: &dyn ObjectStore, node_id: &str) -> Result<(), BackupError> {
    let folder = Path::from(node_id);
    match store.list(Some(&folder)).next().await {
        None => Ok(()),
        Some(Ok(object)) => Err(BackupError::NodeNotEmpty {
            node_id: node_id.to_owned(),
            object: object.location.to_string(),
        }),
        Some(Err(error)) => Err(BackupError::object("list", folder)(error)),
    }
}

impl Begun<'_> {
    async fn copy_objects(
        &self,
        place: &BackupPlace,
        on_progress: &mut impl FnMut(Progress),
    ) -> Result<StreamEnd, BackupError> {
        let mut writer = ObjectWriter::new(Arc::clone(&self.store));
        let mut progress = Progress {
            done: StreamEnd::default(),
            bytes_expected: self.index.byte_count,
        };
        for object in &self.index.objects {
            if object.path == MANIFEST_PATH {
                continue;
            }
            if let Err(error) = self.copy(place, object, &mut writer).await {
                writer.abort().await;
                return Err(error);
            }
            progress.done.objects += 1;
            progress.done.bytes += object.bytes;
            on_progress(progress);
        }
        writer.finish().await?;
        Ok(progress.done)
    }

    async fn copy(
        &self,
        place: &BackupPlace,
        object: &BackupObject,
        writer: &mut ObjectWriter,
    ) -> Result<(), BackupError> {
        let below = parse_path(object)?;
        let target = Path::from(self.node_id).parts().chain(below.parts()).collect();
        let mut reader = ObjectReader::open(place, object, &below).await?;
        writer.begin(target, object.bytes).await?;
        while let Some(part) = reader.next().await? {
            writer.part(&part).await?;
        }
        writer.end().await
    }

    /// Writes the manifest, with the paths that objects have now.
    async fn write_manifest(&self, place: &BackupPlace) -> Result<(), BackupError> {
        let state = self.read_manifest(place).await?;
        let edits = self.edits(&state).map_err(manifest_damaged)?;
        let manifest_failed = |error: tidemill_store::ManifestError| BackupError::NotSound(error.to_string());
        let manifest = Manifest::open(Arc::clone(&self.store), self.node_id).await;
        let manifest = manifest.map_err(manifest_failed)?;
        manifest.commit(edits).await.map_err(manifest_failed)?;
        manifest.checkpoint().await.map_err(manifest_failed)
    }

    async fn read_manifest(&self, place: &BackupPlace) -> Result<ManifestState, BackupError> {
        let object = self
            .index
            .objects
            .iter()
            .find(|object| object.path == MANIFEST_PATH);
        let object = object.ok_or_else(|| manifest_damaged("it is missing".to_owned()))?;
        let mut reader = ObjectReader::open(place, object, &parse_path(object)?).await?;
        let mut json = Vec::new();
        while let Some(part) = reader.next().await? {
            json.extend_from_slice(&part);
        }
        let image: ManifestImage = serde_json::from_slice(&json)
            .map_err(|error| manifest_damaged(format!("its content is not understood: {error}")))?;
        Ok(image.state)
    }

    /// What leads from an empty manifest to this state.
    fn edits(&self, state: &ManifestState) -> Result<Vec<Edit>, String> {
        let files = state.files().map(|file| {
            Ok(Edit::AddFile(DataFile {
                path: self.moved(&file.path)?,
                ..DataFile::clone(file)
            }))
        });
        let mut edits: Vec<Edit> = files.collect::<Result<_, String>>()?;
        let deletes = state.deletes().iter();
        edits.extend(deletes.map(|delete| Edit::AddDelete(RowDelete::clone(delete))));
        edits.push(Edit::ReserveFileIds {
            below: state.next_file_id().0,
        });
        edits.push(Edit::Snapshot {
            lsn: state.snapshot_lsn(),
            progress: state.progress().map(|path| self.moved(path)).transpose()?,
        });
        Ok(edits)
    }

    /// The path that an object of the node that the backup is of has below this node.
    fn moved(&self, path: &str) -> Result<Arc<str>, String> {
        let of_node = Path::from(self.index.head.node_id.as_str());
        let path = Path::parse(path).map_err(|error| error.to_string())?;
        let below = path.prefix_match(&of_node).map(Iterator::collect::<Path>);
        let below = below.ok_or_else(|| format!("'{path}' is not below '{of_node}'"))?;
        let moved: Path = Path::from(self.node_id).parts().chain(below.parts()).collect();
        Ok(moved.as_ref().into())
    }
}

fn manifest_damaged(reason: String) -> BackupError {
    BackupError::Damaged {
        object: MANIFEST_PATH.to_owned(),
        reason,
    }
}

fn parse_path(object: &BackupObject) -> Result<Path, BackupError> {
    Path::parse(&object.path).map_err(|error| BackupError::Damaged {
        object: object.path.clone(),
        reason: error.to_string(),
    })
}

/// Reads an object of a backup, and checks it.
struct ObjectReader<'a> {
    object: &'a BackupObject,
    content: futures::stream::BoxStream<'static, object_store::Result<Bytes>>,
    checksum: Checksum,
}

impl<'a> ObjectReader<'a> {
    async fn open(place: &BackupPlace, object: &'a BackupObject, below: &Path) -> Result<Self, BackupError> {
        let reader = |content| Self {
            object,
            content,
            checksum: Checksum::new(),
        };
        match place.store.get(&place.path(below)).await {
            Ok(found) if found.meta.size == object.bytes => Ok(reader(found.into_stream())),
            Ok(found) => {
                let wrong = reader(futures::stream::empty().boxed());
                Err(wrong.damaged(format!(
                    "it has {} bytes instead of {}",
                    found.meta.size, object.bytes
                )))
            }
            Err(Error::NotFound { .. }) => {
                let missing = reader(futures::stream::empty().boxed());
                Err(missing.damaged("it is missing".to_owned()))
            }
            Err(error) => Err(BackupError::object("read", below)(error)),
        }
    }

    /// The next part; after the last one the object was as it should be.
    async fn next(&mut self) -> Result<Option<Bytes>, BackupError> {
        match self.content.next().await {
            Some(Ok(part)) => {
                self.checksum.update(&part);
                Ok(Some(part))
            }
            Some(Err(error)) => Err(BackupError::object("read", &self.object.path)(error)),
            None if self.checksum.value() == self.object.checksum => Ok(None),
            None => Err(self.damaged("its checksum does not match".to_owned())),
        }
    }

    fn damaged(&self, reason: String) -> BackupError {
        BackupError::Damaged {
            object: self.object.path.clone(),
            reason,
        }
    }
}
