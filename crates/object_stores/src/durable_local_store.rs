//! Local files as an object store that keeps its word after a power cut.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use uuid::Uuid;

use crate::directories::{Directories, SyncFailed};

const STORE: &str = "DurableLocalStore";

/// `object_store`'s [`LocalFileSystem`] with the syncs that it leaves out.
///
/// A put writes a temporary file, syncs it, gives it its name, and syncs the directory (and the directories above it
/// that are new), before it returns. So an object is there whole and for good, or not at all. A multipart upload, copy
/// or rename is synced the same way when it completes; one that a crash interrupts may leave a damaged object, which
/// nobody was told of.
///
/// Removals are not synced: an object may be there again after a power cut. That costs space for a while and nothing else,
/// so it is not worth a sync for each of thousands of objects that compaction removes. Whoever removes one must not rely
/// on it: the files of tables are known by the manifest, and the sweep finds what it does not name; records and
/// checkpoints of catalog and manifest are only looked at from the newest checkpoint on, and removed with the next one; dead letters
/// count only with their mark in the log; the mark of a restore says by its content that it ended; a journal replaces
/// objects under names that say which ones. The log's own segments are not in here: their removal is synced, since one that
/// came back would leave a gap.
#[derive(Debug, Clone)]
pub struct DurableLocalStore {
    files: LocalFileSystem,
    directories: Arc<Directories>,
}

impl DurableLocalStore {
    /// A store in this directory, which is created if it is missing.
    ///
    /// # Errors
    /// When the directory can be neither found nor created.
    pub fn open(root: &FsPath) -> Result<Self> {
        fs::create_dir_all(root).map_err(|source| failed("create directory", root, source))?;
        let root = fs::canonicalize(root).map_err(|source| failed("find directory", root, source))?;
        let files = LocalFileSystem::new_with_prefix(&root)?;
        Ok(Self {
            files,
            directories: Arc::new(Directories::new(root)),
        })
    }

    /// Makes the content and the name of an object durable that is there already.
    async fn sync(&self, location: &Path) -> Result<()> {
        let (path, directories) = (
            self.files.path_to_filesystem(location)?,
            Arc::clone(&self.directories),
        );
        blocking(move || {
            let file = File::open(&path).map_err(|source| failed("open", &path, source))?;
            file.sync_all().map_err(|source| failed("sync", &path, source))?;
            Ok(directories.sync_parent(&path)?)
        })
        .await
    }
}

/// Writes and syncs the file under a temporary name, which `LocalFileSystem` hides from listings.
fn write_staged(path: &FsPath, payload: &PutPayload) -> Result<PathBuf> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!("#{}", Uuid::new_v4().as_u128()));
    let staged = PathBuf::from(staged);
    let written = (|| {
        let mut file = match File::create_new(&staged) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                File::create_new(&staged)?
            }
            file => file?,
        };
        payload.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()
    })();
    match written {
        Ok(()) => Ok(staged),
        Err(source) => {
            remove_staged(&staged);
            Err(failed("write", path, source))
        }
    }
}

/// A file left over does no harm: it is hidden, and its name is never used again.
fn remove_staged(staged: &FsPath) {
    if let Err(error) = fs::remove_file(staged) {
        tracing::debug!(path = %staged.display(), %error, "temporary file could not be removed");
    }
}

fn put_durably(path: &FsPath, payload: &PutPayload, create: bool, directories: &Directories) -> Result<()> {
    let staged = write_staged(path, payload)?;
    let named = if create {
        fs::hard_link(&staged, path)
    } else {
        fs::rename(&staged, path)
    };
    if create || named.is_err() {
        remove_staged(&staged);
    }
    if named
        .as_ref()
        .is_err_and(|source| source.kind() == io::ErrorKind::AlreadyExists)
    {
        // Whoever finds its own object there takes it for durable: an earlier put may have failed after it had named it.
        directories.sync_parent(path)?;
    }
    named.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => object_store::Error::AlreadyExists {
            path: path.display().to_string(),
            source: Box::new(source),
        },
        _ => failed("name", path, source),
    })?;
    Ok(directories.sync_parent(path)?)
}

impl From<SyncFailed> for object_store::Error {
    fn from(SyncFailed { directory, source }: SyncFailed) -> Self {
        failed("sync directory", &directory, source)
    }
}

fn failed(action: &'static str, path: &FsPath, source: io::Error) -> object_store::Error {
    let message = format!("cannot {action} {}: {source}", path.display());
    object_store::Error::Generic {
        store: STORE,
        source: io::Error::new(source.kind(), message).into(),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|source| object_store::Error::JoinError { source })?
}

impl fmt::Display for DurableLocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}({})", self.directories.root().display())
    }
}

#[async_trait]
impl ObjectStore for DurableLocalStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite if opts.attributes.is_empty() => false,
            // Not supported: `LocalFileSystem` says so in its own words.
            _ => return self.files.put_opts(location, payload, opts).await,
        };
        let (path, directories) = (
            self.files.path_to_filesystem(location)?,
            Arc::clone(&self.directories),
        );
        blocking(move || put_durably(&path, &payload, create, &directories)).await?;
        let meta = self.files.head(location).await?;
        Ok(PutResult {
            e_tag: meta.e_tag,
            version: meta.version,
        })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.files.put_multipart_opts(location, opts).await?;
        Ok(Box::new(DurableUpload {
            upload,
            store: self.clone(),
            location: location.clone(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[std::ops::Range<u64>],
    ) -> Result<Vec<bytes::Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await?;
        self.sync(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.files.rename_opts(from, to, options).await?;
        self.sync(to).await
    }
}

/// Syncs what the upload made, when it is complete.
#[derive(Debug)]
struct DurableUpload {
    upload: Box<dyn MultipartUpload>,
    store: DurableLocalStore,
    location: Path,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.upload.complete().await?;
        self.store.sync(&self.location).await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    fn only_if_absent() -> PutOptions {
        PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        }
    }

    #[tokio::test]
    async fn create_refuses_a_taken_name_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableLocalStore::open(&folder.path().join("a/b")).unwrap();
        let path = Path::from("x/y/1");
        let put = store
            .put_opts(&path, "one".into(), only_if_absent())
            .await
            .unwrap();
        assert_eq!(put.e_tag, store.head(&path).await.unwrap().e_tag);

        let refused = store
            .put_opts(&path, "two".into(), only_if_absent())
            .await
            .unwrap_err();
        assert!(
            matches!(refused, object_store::Error::AlreadyExists { .. }),
            "{refused}"
        );
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "one");

        store.put(&path, "three".into()).await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "three");
        let names: Vec<_> = fs::read_dir(folder.path().join("a/b/x/y")).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[tokio::test]
    async fn uploads_copies_and_renames_arrive() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableLocalStore::open(folder.path()).unwrap();
        let mut upload = store.put_multipart(&Path::from("big")).await.unwrap();
        upload.put_part("first ".into()).await.unwrap();
        upload.put_part("second".into()).await.unwrap();
        upload.complete().await.unwrap();
        store
            .copy(&Path::from("big"), &Path::from("f/copy"))
            .await
            .unwrap();
        store
            .rename(&Path::from("big"), &Path::from("g/renamed"))
            .await
            .unwrap();
        store.delete(&Path::from("f/copy")).await.unwrap();

        let names: Vec<Path> = store
            .list(None)
            .map_ok(|meta| meta.location)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(names, [Path::from("g/renamed")]);
        let content = store
            .get(&Path::from("g/renamed"))
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        assert_eq!(content, "first second");
    }
}
