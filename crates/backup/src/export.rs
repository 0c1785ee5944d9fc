//! A running node as one stream: what was answered before the export began is in it, and it is one state of the node.
//!
//! The order in which things are taken makes it so. Each may change until it is taken, and what is taken later is never
//! older than what refers to it:
//!
//! 1. The log is held: none of its records goes until they are sent. Objects of dead letters are held too. What triggers have
//!    still to read of it is asked for now: later they will have read more, and only that is in the progress of a later
//!    snapshot.
//! 2. The *manifest* is taken as it is, and with it the triggers' progress as of its snapshot. Who holds the [`DataFile`]s of
//!    the state keeps their objects, whatever compaction does.
//! 3. The *end of the log*. No record of the log is newer than it, and everything that was answered is not. Records of the
//!    log after the manifest's snapshot and up to this end are the rows that no file has; records before that which a trigger
//!    has yet to read come along.
//! 4. *Dead letters*: the object of a letter is there before the record that makes it count, so each letter that counts at
//!    the end of the log is found; those that came later are without a mark, and go when the restored node starts.
//! 5. The *catalog*, last: names and types are durable before the record that uses them, so it knows everything that the
//!    manifest and the log refer to. Tables that it knows and nothing refers to are empty; those that it does not know any
//!    more were deleted while the backup was taken, and their rows go when the restored node starts, as after a crash.

use std::any::Any;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{GetResult, ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use tidemill_store::{DataFile, ManifestState};
use tidemill_wal::{Lsn, Record, WalError, encode_segment, segment_file_name};
use tokio::sync::mpsc;

use crate::stream::{Encoder, StreamHead};

/// Path of the manifest's state in a backup.
pub(crate) const MANIFEST_PATH: &str = "manifest.json";
/// Folder of the log below a node.
pub(crate) const LOG_FOLDER: &str = "wal";
/// Folder of the catalog below a node.
pub(crate) const CATALOG_FOLDER: &str = "catalog";

/// Payloads of the log that are read at once, and so the size of a segment in a backup.
const SEGMENT_BYTES: usize = 8 << 20;
/// Small parts of an object are sent together up to this size.
const PART_BYTES: usize = 256 << 10;
/// Messages that wait for a slow receiver.
const MESSAGES_MAX: usize = 8;
/// How often something is taken again that was replaced while it was read.
const TRIES_MAX: usize = 10;

/// Keeps something in place until it is dropped.
pub type Hold = Box<dyn Any + Send + Sync>;

/// The log of a running node.
pub trait LogSource: Send + Sync {
    /// The last record that is durable.
    fn durable(&self) -> Lsn;

    /// Where the trigger stands that has the most to read, as far as the log reaches back; the newest record or more where
    /// none has to read anything.
    fn read_by_all(&self) -> Lsn;

    /// Records in `after < lsn <= until` in order, at most `bytes_max` payload bytes but at least one record. Blocks.
    ///
    /// # Errors
    /// Those of the log.
    fn read(&self, after: Lsn, until: Lsn, bytes_max: usize) -> Result<Vec<(Lsn, Vec<u8>)>, WalError>;
}

/// A running node, as a backup needs it.
pub struct Node {
    /// Where its objects are.
    pub objects: Arc<dyn ObjectStore>,
    /// Its name.
    pub node_id: String,
    /// Gives the present state of its manifest.
    pub manifest: Arc<dyn Fn() -> Arc<ManifestState> + Send + Sync>,
    /// Its log.
    pub log: Arc<dyn LogSource>,
    /// Folders below the node whose objects are copied as they are found, in this order.
    pub folders: Vec<Path>,
}

/// What is kept in place for a backup, from before it begins.
pub struct Holds {
    /// The records of the log. Dropped when they are sent.
    pub log: Hold,
    /// The objects of the folders. Dropped when they are sent.
    pub folders: Hold,
}

/// Why a backup cannot be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The store failed, or something is missing.
    #[error("cannot {action} '{object}': {source}")]
    Object {
        /// What was tried.
        action: &'static str,
        /// Path of the object.
        object: String,
        /// The store's reason.
        source: object_store::Error,
    },
    /// An object is not what it should be.
    #[error("'{object}' is damaged: {reason}; `tidemill verify` tells what else is")]
    Damaged {
        /// Path of the object.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] WalError),
    /// Something was replaced each time before it could be read.
    #[error("cannot read '{object}': it is replaced too often, try again")]
    Restless {
        /// Path of the object.
        object: String,
    },
}

impl ExportError {
    fn object(action: &'static str, object: impl ToString) -> impl FnOnce(object_store::Error) -> Self {
        let object = object.to_string();
        move |source| Self::Object {
            action,
            object,
            source,
        }
    }
}

/// The manifest as a backup holds it. Paths are those of the node that it was made of.
#[derive(Serialize, Deserialize)]
pub(crate) struct ManifestImage {
    pub(crate) state: ManifestState,
}

/// Everything that a backup consists of, taken at one moment.
struct Taken {
    head: StreamHead,
    manifest: Arc<ManifestState>,
    progress: Option<(Path, Bytes)>,
    log_after: Lsn,
}

/// Takes a backup of a running node. Returns when it is decided what the backup will hold; the stream gives it, in the
/// [format](crate::stream) of backups, as fast as it is read. A failure on the way is the last thing in the stream.
///
/// # Errors
/// When something cannot be read that is needed to begin.
pub async fn export(
    node: Node,
    holds: Holds,
    created_ns: i64,
) -> Result<impl Stream<Item = Bytes> + Send + 'static, ExportError> {
    let taken = take(&node, created_ns).await?;
    let (sender, mut receiver) = mpsc::channel(MESSAGES_MAX);
    tokio::spawn(async move {
        let (encoder, start) = Encoder::new(&taken.head);
        let mut sending = Sending { encoder, sender };
        let sent = match sending.send(start).await {
            Ok(()) => send_all(node, holds, taken, &mut sending).await,
            Err(gone) => Err(gone),
        };
        let Sending { encoder, sender } = sending;
        let last = match sent {
            Ok(()) => encoder.end(),
            Err(Ended::ReceiverGone) => return,
            Err(Ended::Failed(error)) => {
                tracing::error!(%error, "a backup cannot go on");
                encoder.failure(&error.to_string())
            }
        };
        // Who has gone away needs no end.
        let _ = sender.send(last).await;
    });
    Ok(stream::poll_fn(move |context| receiver.poll_recv(context)))
}

async fn take(node: &Node, created_ns: i64) -> Result<Taken, ExportError> {
    let read_by_all = node.log.read_by_all();
    let (manifest, progress) = take_manifest(node).await?;
    let snapshot = Lsn(manifest.snapshot_lsn());
    let log_last = node.log.durable().max(snapshot);
    let log_after = read_by_all.min(snapshot);
    let head = StreamHead {
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        node_id: node.node_id.clone(),
        created_ns,
        snapshot_lsn: snapshot.0,
        log_first: log_after.next().0,
        log_last: log_last.0,
        bytes_expected: manifest.files().map(|file| file.byte_size).sum(),
    };
    Ok(Taken {
        head,
        manifest,
        progress,
        log_after,
    })
}

/// The manifest, and the progress object that it names: that goes when the next snapshot is there.
async fn take_manifest(node: &Node) -> Result<(Arc<ManifestState>, Option<(Path, Bytes)>), ExportError> {
    let mut object = String::new();
    for _ in 0..TRIES_MAX {
        let manifest = (node.manifest)();
        let Some(path) = manifest.progress().cloned() else {
            return Ok((manifest, None));
        };
        object = path.to_string();
        let location = Path::from(object.as_str());
        let read = async { node.objects.get(&location).await?.bytes().await };
        match read.await {
            Ok(bytes) => return Ok((manifest, Some((location, bytes)))),
            Err(object_store::Error::NotFound { .. }) if (node.manifest)().progress() != Some(&path) => {}
            Err(error) => return Err(ExportError::object("read", location)(error)),
        }
    }
    Err(ExportError::Restless { object })
}

async fn send_all(node: Node, holds: Holds, taken: Taken, sending: &mut Sending) -> Result<(), Ended> {
    let Taken {
        head,
        manifest,
        progress,
        log_after,
    } = taken;
    // What is held for the backup comes first, so that it is held no longer than it must be.
    send_log(&node, log_after, Lsn(head.log_last), sending).await?;
    drop(holds.log);
    for folder in &node.folders {
        send_folder(&node, folder, sending).await?;
    }
    drop(holds.folders);
    if let Some((location, bytes)) = progress {
        let path = below_node(&node.node_id, &location)?;
        sending.object(&path, bytes).await?;
    }
    for (path, bytes) in catalog_objects(&node).await? {
        sending.object(&path, bytes).await?;
    }
    let image = ManifestImage {
        state: ManifestState::clone(&manifest),
    };
    let image = serde_json::to_vec(&image).expect("numbers and texts are JSON");
    sending.object(&Path::from(MANIFEST_PATH), image.into()).await?;
    for file in manifest.files() {
        send_file(&node, file, sending).await?;
    }
    Ok(())
}

async fn send_log(node: &Node, after: Lsn, until: Lsn, sending: &mut Sending) -> Result<(), Ended> {
    let mut after = after;
    while after < until {
        let log = Arc::clone(&node.log);
        let read = tokio::task::spawn_blocking(move || {
            let records = log.read(after, until, SEGMENT_BYTES)?;
            let last = records.last().map(|(lsn, _)| *lsn);
            let records: Result<Vec<Record>, WalError> = records
                .into_iter()
                .map(|(_, payload)| Record::new(payload))
                .collect();
            Ok::<_, WalError>((encode_segment(after.next(), &records?), last))
        });
        let read = read
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let (segment, last) = read.map_err(ExportError::from)?;
        let path = Path::from(LOG_FOLDER).join(segment_file_name(after.next()));
        after = last.ok_or_else(|| ExportError::Damaged {
            object: path.to_string(),
            reason: format!("the log ends before record {until}"),
        })?;
        sending.object(&path, segment).await?;
    }
    Ok(())
}

/// Copies a folder. Objects may be replaced by others meanwhile, that have what those had: the folder is listed until
/// nothing that it lists is missing.
async fn send_folder(node: &Node, folder: &Path, sending: &mut Sending) -> Result<(), Ended> {
    let folder = node_path(&node.node_id)
        .parts()
        .chain(folder.parts())
        .collect::<Path>();
    let mut sent = std::collections::HashSet::new();
    for _ in 0..TRIES_MAX {
        let listed: Vec<ObjectMeta> = node
            .objects
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(ExportError::object("list", &folder))?;
        let mut is_complete = true;
        for ObjectMeta { location, .. } in listed {
            if sent.contains(&location) {
                continue;
            }
            match node.objects.get(&location).await {
                Ok(object) => {
                    let path = below_node(&node.node_id, &location)?;
                    sending.get_result(&path, object, None).await?;
                    sent.insert(location);
                }
                Err(object_store::Error::NotFound { .. }) => is_complete = false,
                Err(error) => return Err(ExportError::object("read", location)(error).into()),
            }
        }
        if is_complete {
            return Ok(());
        }
    }
    let object = folder.to_string();
    Err(ExportError::Restless { object }.into())
}

/// The newest checkpoint of the catalog and the records after it, as they are stored.
async fn catalog_objects(node: &Node) -> Result<Vec<(Path, Bytes)>, ExportError> {
    let folder = node_path(&node.node_id).join(CATALOG_FOLDER);
    for _ in 0..TRIES_MAX {
        if let Some(objects) = try_catalog_objects(node, &folder).await? {
            return Ok(objects);
        }
    }
    let object = folder.to_string();
    Err(ExportError::Restless { object })
}

/// `None`: a checkpoint removed something of it meanwhile.
async fn try_catalog_objects(node: &Node, folder: &Path) -> Result<Option<Vec<(Path, Bytes)>>, ExportError> {
    let listed = async |name: &str| -> Result<Vec<Path>, ExportError> {
        let folder = folder.clone().join(name);
        let objects = node.objects.list(Some(&folder)).map_ok(|meta| meta.location);
        let listed: Result<Vec<Path>, _> = objects.try_collect().await;
        let mut paths = listed.map_err(ExportError::object("list", &folder))?;
        // Names are numbers with leading zeros.
        paths.sort();
        Ok(paths)
    };
    // In this order: what a newer checkpoint makes superfluous is missed below, and all is listed again.
    let checkpoint = listed("checkpoint").await?.pop();
    let covered = checkpoint
        .as_ref()
        .and_then(Path::filename)
        .unwrap_or_default()
        .to_owned();
    let records = listed("log").await?;
    let is_needed = |record: &Path| record.filename().is_some_and(|name| name > covered.as_str());
    let records: Vec<Path> = records.into_iter().filter(is_needed).collect();
    let number = |name: Option<&str>| name.and_then(|name| name.parse::<u64>().ok()).unwrap_or(0);
    let expected = number(Some(&covered)) + 1..;
    let is_whole = expected
        .zip(&records)
        .all(|(expected, record)| number(record.filename()) == expected);
    if !is_whole {
        return Ok(None);
    }
    let mut objects = Vec::new();
    for location in checkpoint.into_iter().chain(records) {
        let read = async { node.objects.get(&location).await?.bytes().await };
        match read.await {
            Ok(bytes) => objects.push((below_node(&node.node_id, &location)?, bytes)),
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(ExportError::object("read", location)(error)),
        }
    }
    Ok(Some(objects))
}

async fn send_file(node: &Node, file: &Arc<DataFile>, sending: &mut Sending) -> Result<(), Ended> {
    let location = Path::from(&*file.path);
    let object = node.objects.get(&location).await;
    let object = object.map_err(ExportError::object("read", &location))?;
    if object.meta.size != file.byte_size {
        let reason = format!("it has {} bytes instead of {}", object.meta.size, file.byte_size);
        let object = location.to_string();
        return Err(ExportError::Damaged { object, reason }.into());
    }
    let path = below_node(&node.node_id, &location)?;
    sending.get_result(&path, object, Some(file.checksum)).await
}

fn node_path(node_id: &str) -> Path {
    Path::from(node_id)
}

/// The path of an object of a node below the node.
fn below_node(node_id: &str, location: &Path) -> Result<Path, ExportError> {
    let below: Option<Path> = location.prefix_match(&node_path(node_id)).map(Iterator::collect);
    below.ok_or_else(|| ExportError::Damaged {
        object: location.to_string(),
        reason: format!("it is not below '{node_id}'"),
    })
}

/// Why nothing more is sent.
enum Ended {
    ReceiverGone,
    Failed(ExportError),
}

impl From<ExportError> for Ended {
    fn from(error: ExportError) -> Self {
        Self::Failed(error)
    }
}

/// A stream that is being sent.
struct Sending {
    encoder: Encoder,
    sender: mpsc::Sender<Bytes>,
}

impl Sending {
    async fn send(&self, bytes: Bytes) -> Result<(), Ended> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.sender.send(bytes).await.map_err(|_| Ended::ReceiverGone)
    }

    /// Sends an object from memory.
    async fn object(&mut self, path: &Path, content: Bytes) -> Result<(), Ended> {
        let start = self.encoder.object(path, content.len() as u64);
        self.send(start).await?;
        self.part(path, content).await?;
        self.object_end(path, None).await
    }

    /// Sends an object of the store, which must have that checksum.
    async fn get_result(
        &mut self,
        path: &Path,
        object: GetResult,
        checksum: Option<u32>,
    ) -> Result<(), Ended> {
        let start = self.encoder.object(path, object.meta.size);
        self.send(start).await?;
        let mut content = object.into_stream();
        let mut gathered = BytesMut::new();
        while let Some(part) = content.next().await {
            let part = part.map_err(ExportError::object("read", path))?;
            if gathered.is_empty() && part.len() >= PART_BYTES {
                self.part(path, part).await?;
                continue;
            }
            gathered.put(part);
            if gathered.len() >= PART_BYTES {
                self.part(path, gathered.split().freeze()).await?;
            }
        }
        self.part(path, gathered.freeze()).await?;
        self.object_end(path, checksum).await
    }

    async fn part(&mut self, path: &Path, part: Bytes) -> Result<(), Ended> {
        let before = self.encoder.part(&part).map_err(damaged(path))?;
        self.send(before).await?;
        self.send(part).await
    }

    async fn object_end(&mut self, path: &Path, checksum: Option<u32>) -> Result<(), Ended> {
        let end = self.encoder.object_end(checksum).map_err(damaged(path))?;
        self.send(end).await
    }
}

fn damaged(path: &Path) -> impl FnOnce(String) -> ExportError {
    let object = path.to_string();
    |reason| ExportError::Damaged { object, reason }
}
