//! An object store that fails, tears, and is slow on demand: what a network, a crash and a full disk do.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::oneshot;

/// How an operation goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing happens.
    Refuse,
    /// It is done, but the caller is told that it was not.
    LoseAnswer,
    /// Half of an object is there. Anything but a put is refused.
    Tear,
    /// The caller is told that it was not done, and the object appears when [`FaultyStore::deliver`] is called. Anything
    /// but a put is refused.
    Delay,
    /// Nothing happens, and the error says that the disk is full.
    DiskFull,
}

const UNPOISONED: &str = "no test panics with the plan in its hands";

#[derive(Default)]
struct Plan {
    operations: usize,
    gets: usize,
    lists: usize,
    faults: HashMap<usize, Fault>,
    /// How the next put fails, whatever else happens before.
    next_put: Option<Fault>,
    delayed: Option<(Path, PutPayload)>,
    /// From this operation on, all are refused; the first one fails in its own way.
    dead_from: Option<(usize, Fault)>,
    is_paused: bool,
    undeletable: Option<String>,
    held_get: Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>,
}

/// Memory with faults. Clones share it.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<InMemory>,
    plan: Arc<Mutex<Plan>>,
}

impl Default for FaultyStore {
    fn default() -> Self {
        Self::new()
    }
}

impl FaultyStore {
    /// An empty one without faults.
    pub fn new() -> Self {
        Self {
            inner: Arc::new(InMemory::new()),
            plan: Arc::default(),
        }
    }

    /// The memory itself, which never fails.
    pub fn memory(&self) -> &Arc<InMemory> {
        &self.inner
    }

    /// The same as a trait object.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.clone())
    }

    /// So many operations from now on succeed, and the next one fails.
    pub fn fail_after(&self, operations: usize, fault: Fault) {
        let mut plan = self.plan.lock().expect(UNPOISONED);
        let index = plan.operations + operations;
        plan.faults.insert(index, fault);
    }

    /// The next put fails.
    pub fn fail_next_put(&self, fault: Fault) {
        self.plan.lock().expect(UNPOISONED).next_put = Some(fault);
    }

    /// The object of the put that was delayed last appears, unless there is one by now.
    pub async fn deliver(&self) {
        let delayed = self.plan.lock().expect(UNPOISONED).delayed.take();
        let (path, payload) = delayed.expect("a put was delayed");
        let arrived = self.inner.put_opts(&path, payload, PutMode::Create.into()).await;
        if let Err(error) = arrived {
            assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
        }
    }

    /// How many operations there have been.
    pub fn operations(&self) -> usize {
        self.plan.lock().expect(UNPOISONED).operations
    }

    /// How many listings there have been.
    pub fn lists(&self) -> usize {
        self.plan.lock().expect(UNPOISONED).lists
    }

    /// So many operations from now on succeed, and no more.
    pub fn die_after(&self, operations: usize, fault: Fault) {
        let mut plan = self.plan.lock().expect(UNPOISONED);
        plan.dead_from = Some((plan.operations + operations, fault));
    }

    /// The object of this name cannot be deleted.
    pub fn refuse_to_delete(&self, name: &str) {
        self.plan.lock().expect(UNPOISONED).undeletable = Some(name.to_owned());
    }

    /// Whether the store has died.
    pub fn is_dead(&self) -> bool {
        let plan = self.plan.lock().expect(UNPOISONED);
        plan.dead_from.is_some_and(|(from, _)| plan.operations > from)
    }

    /// Everything succeeds again.
    pub fn repair(&self) {
        let mut plan = self.plan.lock().expect(UNPOISONED);
        plan.faults.clear();
        plan.dead_from = None;
        plan.next_put = None;
        plan.undeletable = None;
    }

    /// While it is paused, everything succeeds and nothing is counted.
    pub fn pause_faults(&self, is_paused: bool) {
        self.plan.lock().expect(UNPOISONED).is_paused = is_paused;
    }

    /// How many reads of objects there have been.
    pub fn gets(&self) -> usize {
        self.plan.lock().expect(UNPOISONED).gets
    }

    /// The next get tells when it has begun, and waits to be let go.
    pub fn hold_next_get(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let ((begun, has_begun), (let_go, is_let_go)) = (oneshot::channel(), oneshot::channel());
        self.plan.lock().expect(UNPOISONED).held_get = Some((begun, is_let_go));
        (has_begun, let_go)
    }

    /// The names of the objects in a folder, sorted.
    pub async fn names(&self, folder: &str) -> Vec<String> {
        let listed = self.inner.list_with_delimiter(Some(&Path::from(folder))).await;
        let listed = listed.expect("memory can be listed");
        let objects = listed.objects.iter();
        objects
            .map(|object| object.location.filename().unwrap_or_default().to_owned())
            .collect()
    }

    fn next_fault(&self) -> Option<Fault> {
        let mut plan = self.plan.lock().expect(UNPOISONED);
        if plan.is_paused {
            return None;
        }
        let index = plan.operations;
        plan.operations += 1;
        match plan.dead_from {
            Some((from, fault)) if index == from => Some(fault),
            Some((from, _)) if index > from => Some(Fault::Refuse),
            _ => plan.faults.remove(&index),
        }
    }

    fn refuse_if_undeletable(&self, location: &Path) -> Result<()> {
        let plan = self.plan.lock().expect(UNPOISONED);
        let is_refused = plan.undeletable.is_some() && plan.undeletable.as_deref() == location.filename();
        if is_refused { Err(no_answer()) } else { Ok(()) }
    }

    fn refuse_at_fault(&self) -> Result<()> {
        self.next_fault().map_or(Ok(()), |_| Err(no_answer()))
    }
}

fn no_answer() -> Error {
    Error::Generic {
        store: "faulty",
        source: "no answer".into(),
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let planned = self.plan.lock().expect(UNPOISONED).next_put.take();
        match planned.or(self.next_fault()) {
            None => return self.inner.put_opts(location, payload, opts).await,
            Some(Fault::Refuse) => {}
            Some(Fault::DiskFull) => {
                return Err(Error::Generic {
                    store: "faulty",
                    source: Box::new(io::Error::from(io::ErrorKind::StorageFull)),
                });
            }
            Some(Fault::LoseAnswer) => {
                self.inner.put_opts(location, payload, opts).await?;
            }
            Some(Fault::Tear) => {
                let bytes: Vec<u8> = payload.iter().flatten().copied().collect();
                let half = bytes[..bytes.len() / 2].to_vec();
                self.inner.put_opts(location, half.into(), opts).await?;
            }
            Some(Fault::Delay) => {
                self.plan.lock().expect(UNPOISONED).delayed = Some((location.clone(), payload));
            }
        }
        Err(no_answer())
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let held = {
            let mut plan = self.plan.lock().expect(UNPOISONED);
            plan.gets += 1;
            plan.held_get.take()
        };
        if let Some((begun, let_go)) = held {
            begun.send(()).expect("the test awaits this get");
            let_go.await.expect("the test lets this get go");
        }
        self.refuse_at_fault()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                store.refuse_if_undeletable(&location)?;
                match store.next_fault() {
                    None => store.inner.delete(&location).await.map(|()| location),
                    Some(Fault::LoseAnswer) => {
                        store.inner.delete(&location).await?;
                        Err(no_answer())
                    }
                    Some(_) => Err(no_answer()),
                }
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.plan.lock().expect(UNPOISONED).lists += 1;
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.plan.lock().expect(UNPOISONED).lists += 1;
        self.refuse_at_fault()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
