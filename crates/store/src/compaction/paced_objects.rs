//! The object store as compaction's own thread uses it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use tokio::runtime::Handle;

use crate::compaction::throttle::Throttle;

/// Counts bytes for a throttle, and makes every request on the server's runtime: connections are shared with everybody
/// else, and must not wait for a thread that lets all others go first.
#[derive(Clone)]
pub(crate) struct PacedObjects {
    objects: Arc<dyn ObjectStore>,
    throttle: Arc<Throttle>,
    io: Handle,
}

impl PacedObjects {
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, throttle: Arc<Throttle>, io: Handle) -> Self {
        Self {
            objects,
            throttle,
            io,
        }
    }

    fn on_io<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let request = self.io.spawn(request);
        async move {
            request
                .await
                .unwrap_or_else(|source| Err(object_store::Error::JoinError { source }))
        }
        .boxed()
    }
}

impl fmt::Debug for PacedObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacedObjects")
            .field("objects", &self.objects)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for PacedObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for PacedObjects {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.throttle.count_io(payload.content_length() as u64);
        let (objects, location) = (Arc::clone(&self.objects), location.clone());
        self.on_io(async move { objects.put_opts(&location, payload, opts).await })
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (objects, location) = (Arc::clone(&self.objects), location.clone());
        let upload = self
            .on_io(async move { objects.put_multipart_opts(&location, opts).await })
            .await?;
        Ok(Box::new(PacedUpload {
            upload: Arc::new(tokio::sync::Mutex::new(upload)),
            objects: self.clone(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (objects, location) = (Arc::clone(&self.objects), location.clone());
        let found = self
            .on_io(async move { objects.get_opts(&location, options).await })
            .await?;
        self.throttle.count_io(found.range.end - found.range.start);
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.throttle
            .count_io(ranges.iter().map(|range| range.end - range.start).sum());
        let (objects, location, ranges) = (Arc::clone(&self.objects), location.clone(), ranges.to_vec());
        self.on_io(async move { objects.get_ranges(&location, &ranges).await })
            .await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let (objects, location) = (Arc::clone(&this.objects), location?);
                    this.on_io(async move { objects.delete(&location).await.map(|()| location) })
                        .await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        /// Objects that are on their way at once.
        const CHUNK: usize = 1000;
        let (objects, prefix) = (Arc::clone(&self.objects), prefix.cloned());
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        self.io.spawn(async move {
            let mut chunks = objects.list(prefix.as_ref()).ready_chunks(CHUNK);
            while let Some(chunk) = chunks.next().await {
                if sender.send(chunk).await.is_err() {
                    return;
                }
            }
        });
        let chunks = futures::stream::unfold(receiver, |mut receiver| async move {
            let chunk: Vec<Result<ObjectMeta>> = receiver.recv().await?;
            Some((chunk, receiver))
        });
        chunks.flat_map(futures::stream::iter).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (objects, prefix) = (Arc::clone(&self.objects), prefix.cloned());
        self.on_io(async move { objects.list_with_delimiter(prefix.as_ref()).await })
            .await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (objects, from, to) = (Arc::clone(&self.objects), from.clone(), to.clone());
        self.on_io(async move { objects.copy_opts(&from, &to, options).await })
            .await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (objects, from, to) = (Arc::clone(&self.objects), from.clone(), to.clone());
        self.on_io(async move { objects.rename_opts(&from, &to, options).await })
            .await
    }
}

struct PacedUpload {
    upload: Arc<tokio::sync::Mutex<Box<dyn MultipartUpload>>>,
    objects: PacedObjects,
}

impl fmt::Debug for PacedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacedUpload").finish_non_exhaustive()
    }
}

#[async_trait]
impl MultipartUpload for PacedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.objects.throttle.count_io(data.content_length() as u64);
        let upload = Arc::clone(&self.upload);
        self.objects.on_io(async move {
            let part = upload.lock().await.put_part(data);
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let upload = Arc::clone(&self.upload);
        self.objects
            .on_io(async move { upload.lock().await.complete().await })
            .await
    }

    async fn abort(&mut self) -> Result<()> {
        let upload = Arc::clone(&self.upload);
        self.objects
            .on_io(async move { upload.lock().await.abort().await })
            .await
    }
}
