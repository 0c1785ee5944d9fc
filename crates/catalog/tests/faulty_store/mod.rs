//! An object store whose puts fail in the ways that a network has.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};

/// What the next put does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Fault {
    None,
    /// Fails and leaves nothing.
    Refuse,
    /// Fails, but the object is there.
    LoseAnswer,
    /// Fails, and the object appears when [`FaultyStore::deliver`] is called.
    Delay,
}

/// Memory that fails a put on demand.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: InMemory,
    next_put: Mutex<Fault>,
    delayed: Mutex<Option<(Path, PutPayload)>>,
}

impl FaultyStore {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            next_put: Mutex::new(Fault::None),
            delayed: Mutex::default(),
        })
    }

    pub(crate) fn set_next_put(&self, fault: Fault) {
        *self.next_put.lock().unwrap() = fault;
    }

    /// The delayed object arrives.
    pub(crate) async fn deliver(&self) {
        let (path, payload) = self.delayed.lock().unwrap().take().expect("a put was delayed");
        self.inner.put(&path, payload).await.unwrap();
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> StoreResult<PutResult> {
        let fault = std::mem::replace(&mut *self.next_put.lock().unwrap(), Fault::None);
        match fault {
            Fault::None => return self.inner.put_opts(location, payload, opts).await,
            Fault::Refuse => {}
            Fault::LoseAnswer => {
                self.inner.put_opts(location, payload, opts).await?;
            }
            Fault::Delay => *self.delayed.lock().unwrap() = Some((location.clone(), payload)),
        }
        Err(object_store::Error::Generic {
            store: "faulty",
            source: "no answer".into(),
        })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
