//! A store whose requests are counted.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use crate::metrics::{ObjectStoreMetrics, Operation, Outcome};

/// Counts every request to another store, how it ended and how long it took.
#[derive(Debug)]
pub struct MeteredStore {
    inner: Arc<dyn ObjectStore>,
    metrics: Arc<ObjectStoreMetrics>,
}

impl MeteredStore {
    /// Counts in `metrics`.
    pub fn new(inner: Arc<dyn ObjectStore>, metrics: Arc<ObjectStoreMetrics>) -> Self {
        Self { inner, metrics }
    }

    fn begin(&self, operation: Operation) -> Request {
        Request::begin(&self.metrics, operation)
    }
}

/// One request; it is counted when this is dropped.
struct Request {
    metrics: Arc<ObjectStoreMetrics>,
    operation: Operation,
    started: Instant,
    outcome: Outcome,
    bytes: u64,
}

impl Request {
    fn begin(metrics: &Arc<ObjectStoreMetrics>, operation: Operation) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            operation,
            started: Instant::now(),
            outcome: Outcome::Cancelled,
            bytes: 0,
        }
    }

    fn set_outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    fn end<T>(mut self, result: Result<T>, bytes: impl FnOnce(&T) -> u64) -> Result<T> {
        match &result {
            Ok(value) => {
                self.bytes = bytes(value);
                self.outcome = Outcome::Done;
            }
            Err(error) => self.outcome = Outcome::of_error(error),
        }
        result
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        self.metrics
            .record(self.operation, self.outcome, self.bytes, duration);
    }
}

/// A listing counts once, when it has ended or nobody reads on.
fn metered_listing(
    mut request: Request,
    listing: BoxStream<'static, Result<ObjectMeta>>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    request.set_outcome(Outcome::Done);
    listing
        .inspect(move |object| {
            if let Err(error) = object {
                request.set_outcome(Outcome::of_error(error));
            }
        })
        .boxed()
}

impl fmt::Display for MeteredStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for MeteredStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let request = self.begin(Operation::Put);
        let bytes = payload.content_length() as u64;
        request.end(self.inner.put_opts(location, payload, opts).await, |_| bytes)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let request = self.begin(Operation::PutPart);
        let upload = request.end(self.inner.put_multipart_opts(location, opts).await, |_| 0)?;
        Ok(Box::new(MeteredUpload {
            upload,
            metrics: Arc::clone(&self.metrics),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        let request = self.begin(if is_head { Operation::Head } else { Operation::Get });
        request.end(self.inner.get_opts(location, options).await, |result| {
            if is_head {
                0
            } else {
                result.range.end.saturating_sub(result.range.start)
            }
        })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let request = self.begin(Operation::Get);
        request.end(self.inner.get_ranges(location, ranges).await, |parts| {
            parts.iter().map(|part| part.len() as u64).sum()
        })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let metrics = Arc::clone(&self.metrics);
        let deletions = self.inner.delete_stream(locations);
        // Stores delete many at once: the time of one says nothing.
        let mut began = Instant::now();
        deletions
            .inspect(move |deletion| {
                let outcome = deletion
                    .as_ref()
                    .map_or_else(Outcome::of_error, |_| Outcome::Done);
                metrics.record(Operation::Delete, outcome, 0, began.elapsed());
                began = Instant::now();
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        metered_listing(self.begin(Operation::List), self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        metered_listing(
            self.begin(Operation::List),
            self.inner.list_with_offset(prefix, offset),
        )
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let request = self.begin(Operation::List);
        request.end(self.inner.list_with_delimiter(prefix).await, |_| 0)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let request = self.begin(Operation::Copy);
        request.end(self.inner.copy_opts(from, to, options).await, |()| 0)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let request = self.begin(Operation::Copy);
        request.end(self.inner.rename_opts(from, to, options).await, |()| 0)
    }
}

#[derive(Debug)]
struct MeteredUpload {
    upload: Box<dyn MultipartUpload>,
    metrics: Arc<ObjectStoreMetrics>,
}

#[async_trait]
impl MultipartUpload for MeteredUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let request = Request::begin(&self.metrics, Operation::PutPart);
        let bytes = data.content_length() as u64;
        let part = self.upload.put_part(data);
        Box::pin(async move { request.end(part.await, |()| bytes) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let request = Request::begin(&self.metrics, Operation::PutPart);
        request.end(self.upload.complete().await, |_| 0)
    }

    async fn abort(&mut self) -> Result<()> {
        let request = Request::begin(&self.metrics, Operation::Delete);
        request.end(self.upload.abort().await, |()| 0)
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt, PutMode};

    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_kind_and_outcome() {
        let metrics = Arc::new(ObjectStoreMetrics::default());
        let store = MeteredStore::new(Arc::new(InMemory::new()), Arc::clone(&metrics));
        let path = Path::from("a/b");
        store.put(&path, "12345".into()).await.unwrap();
        let create = PutMode::Create.into();
        store.put_opts(&path, "x".into(), create).await.unwrap_err();
        store.get(&path).await.unwrap();
        store.get_range(&path, 1..3).await.unwrap();
        store.head(&path).await.unwrap();
        store.get(&Path::from("none")).await.unwrap_err();
        assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 1);
        store.delete(&path).await.unwrap();

        let seen: Vec<(&str, &str, u64)> = metrics
            .counts()
            .into_iter()
            .flat_map(|counts| {
                let name = counts.operation.name();
                let requests = counts.requests.into_iter().filter(|(_, count)| *count > 0);
                requests.map(move |(outcome, count)| (name, outcome.name(), count))
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("get", "ok", 2),
                ("get", "not_found", 1),
                ("head", "ok", 1),
                ("put", "ok", 1),
                ("put", "conflict", 1),
                ("delete", "ok", 1),
                ("list", "ok", 1),
            ]
        );
        let bytes: Vec<u64> = metrics.counts().iter().map(|counts| counts.bytes).collect();
        assert_eq!(bytes, [7, 0, 5, 0, 0, 0, 0]);
    }
}
