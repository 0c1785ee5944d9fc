//! Objects that are not needed any more and stay as long as somebody is copying them.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;

/// Removes objects, at once or when nobody holds them any more.
pub(crate) struct HeldRemovals {
    store: Arc<dyn ObjectStore>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    holds: usize,
    objects: Vec<Path>,
}

/// As long as it lives, no object is removed.
#[must_use]
pub struct RemovalsHeld {
    removals: Arc<HeldRemovals>,
}

impl HeldRemovals {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self {
            store,
            waiting: Mutex::default(),
        })
    }

    /// Nothing is removed from now on.
    pub(crate) fn hold(self: &Arc<Self>) -> RemovalsHeld {
        self.waiting.lock().holds += 1;
        RemovalsHeld {
            removals: Arc::clone(self),
        }
    }

    /// Removes an object, or notes that it is to be removed. If that fails, it is without a mark and goes when the server
    /// starts.
    pub(crate) async fn remove(&self, location: &Path) {
        {
            let mut waiting = self.waiting.lock();
            if waiting.holds > 0 {
                waiting.objects.push(location.clone());
                return;
            }
        }
        self.remove_now(location).await;
    }

    async fn remove_now(&self, location: &Path) {
        if let Err(error) = self.store.delete(location).await {
            tracing::warn!(%error, object = %location, "could not remove a dead letter that is settled");
        }
    }

    fn release(self: &Arc<Self>) {
        let objects = {
            let mut waiting = self.waiting.lock();
            waiting.holds -= 1;
            if waiting.holds > 0 {
                return;
            }
            std::mem::take(&mut waiting.objects)
        };
        // Where nothing runs any more, they go when the server starts.
        if !objects.is_empty()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let removals = Arc::clone(self);
            runtime.spawn(async move {
                for location in &objects {
                    removals.remove_now(location).await;
                }
            });
        }
    }
}

impl Drop for RemovalsHeld {
    fn drop(&mut self) {
        self.removals.release();
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn objects_stay_until_nobody_holds_them() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let path = Path::from("letter");
        store.put(&path, "x".into()).await.unwrap();
        let removals = HeldRemovals::new(Arc::clone(&store));
        let holds = [removals.hold(), removals.hold()];
        removals.remove(&path).await;
        for hold in holds {
            assert!(store.head(&path).await.is_ok());
            drop(hold);
        }
        while store.head(&path).await.is_ok() {
            tokio::task::yield_now().await;
        }
        store.put(&path, "x".into()).await.unwrap();
        removals.remove(&path).await;
        assert!(store.head(&path).await.is_err());
    }
}
