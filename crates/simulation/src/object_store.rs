//! An object store on the machine of a [`SimDisk`]: its requests are steps in which the power can go.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use crate::disk::ObjectFate;
use crate::{Restart, SimDisk};

const STORE: &str = "SimObjectStore";

/// Objects that are durable when a put returns, and whole or not there when it fails. A deletion is forgotten by a loss of
/// power now and then, as in a directory that was not synced.
#[derive(Clone)]
pub struct SimObjectStore {
    machine: SimDisk,
    objects: Arc<InMemory>,
    /// What was deleted since the start.
    deleted: Arc<Mutex<BTreeMap<Path, Bytes>>>,
}

impl SimObjectStore {
    /// An empty store on the machine.
    pub fn new(machine: SimDisk) -> Self {
        Self {
            machine,
            objects: Arc::default(),
            deleted: Arc::default(),
        }
    }

    /// The next process finds what the last one left, on the machine after its own restart; clones from before fail.
    ///
    /// # Panics
    /// When memory refuses an object.
    pub fn restart(&mut self, machine: &SimDisk, restart: Restart) {
        self.machine = machine.clone();
        let deleted = std::mem::take(&mut *self.deleted());
        if restart == Restart::Kill {
            return;
        }
        for (path, bytes) in deleted {
            let is_there = self
                .objects
                .head(&path)
                .now_or_never()
                .expect("memory is ready")
                .is_ok();
            if !is_there && self.machine.toss() {
                let put = self.objects.put(&path, bytes.into()).now_or_never();
                put.expect("memory is ready").expect("memory takes an object");
            }
        }
    }

    /// The paths of all objects, in order.
    ///
    /// # Panics
    /// When memory cannot be listed.
    pub fn paths(&self) -> Vec<Path> {
        let listed = self
            .objects
            .list(None)
            .map(|object| object.expect("memory lists").location);
        let mut paths: Vec<Path> = listed.collect().now_or_never().expect("memory is ready");
        paths.sort_unstable();
        paths
    }

    fn deleted(&self) -> MutexGuard<'_, BTreeMap<Path, Bytes>> {
        self.deleted
            .lock()
            .expect("no test panics while it holds the deletions")
    }

    /// A change whose result is only handed on if it is answered.
    async fn change<T>(&self, change: impl Future<Output = Result<T>>) -> Result<T> {
        let fate = self.machine.object_step().map_err(failed)?;
        if fate == ObjectFate::Refused {
            return Err(failed(std::io::Error::other("refused by the simulation")));
        }
        let result = change.await?;
        if fate == ObjectFate::AnswerLost {
            return Err(failed(std::io::Error::other("answer lost by the simulation")));
        }
        Ok(result)
    }

    fn read(&self) -> Result<()> {
        self.machine.object_read().map_err(failed)
    }

    async fn delete_one(self, path: Path) -> Result<Path> {
        let delete = async {
            let bytes = self.objects.get(&path).await?.bytes().await?;
            self.objects.delete(&path).await?;
            self.deleted().insert(path.clone(), bytes);
            Ok(path.clone())
        };
        self.change(delete).await
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::Generic {
        store: STORE,
        source: Box::new(error),
    }
}

impl fmt::Display for SimObjectStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STORE)
    }
}

impl fmt::Debug for SimObjectStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STORE)
    }
}

#[async_trait]
impl ObjectStore for SimObjectStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.change(self.objects.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.objects.put_multipart_opts(location, opts).await?;
        Ok(Box::new(SimUpload {
            store: self.clone(),
            upload,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.read()?;
        self.objects.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read()?;
        self.objects.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .then(move |path| {
                let store = store.clone();
                async move { store.delete_one(path?).await }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.read()?;
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.change(self.objects.copy_opts(from, to, options)).await
    }
}

/// An upload whose object appears when it is completed, if the power is still there.
struct SimUpload {
    store: SimObjectStore,
    upload: Box<dyn MultipartUpload>,
}

impl fmt::Debug for SimUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimUpload")
    }
}

#[async_trait]
impl MultipartUpload for SimUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match self.store.machine.object_step() {
            Ok(ObjectFate::Works) => self.upload.put_part(data),
            Ok(ObjectFate::Refused | ObjectFate::AnswerLost) => {
                async { Err(failed(std::io::Error::other("refused by the simulation"))) }.boxed()
            }
            Err(error) => async { Err(failed(error)) }.boxed(),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let store = self.store.clone();
        store.change(self.upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}
