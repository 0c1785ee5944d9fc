//! The objects of one journal in the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};

use crate::JournalError;
use crate::object_name::ObjectName;
use crate::recovery::Found;

#[derive(Debug)]
pub(crate) struct Folder {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Whether the last request failed: an outage is logged once.
    is_failing: AtomicBool,
}

impl Folder {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self {
            store,
            prefix: Path::from(prefix),
            is_failing: AtomicBool::new(false),
        }
    }

    pub(crate) fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The objects that are there. Those that are torn, or that no journal wrote, are named in the log.
    pub(crate) async fn list(&self) -> Result<Vec<Found>, JournalError> {
        let listed = self.store.list_with_delimiter(Some(&self.prefix)).await;
        let listed = self.noted("list", &self.prefix, listed)?;
        let mut found = Vec::with_capacity(listed.objects.len());
        for object in listed.objects {
            let Ok(name) = object
                .location
                .filename()
                .unwrap_or_default()
                .parse::<ObjectName>()
            else {
                tracing::warn!(object = %object.location, "not an object of the journal, skipped");
                continue;
            };
            let is_whole = object.size == name.stored_bytes;
            if !is_whole {
                tracing::warn!(
                    object = %object.location, bytes = object.size, expected = name.stored_bytes,
                    "object of the journal is torn, skipped"
                );
            }
            found.push(Found { name, is_whole });
        }
        Ok(found)
    }

    pub(crate) async fn put(&self, name: &ObjectName, object: Bytes) -> Result<(), JournalError> {
        let path = self.path(name);
        let put = self.store.put(&path, object.into()).await;
        self.noted("write", &path, put.map(drop))
    }

    /// The content of an object, or None where there is none.
    pub(crate) async fn get(&self, name: &ObjectName) -> Result<Option<Bytes>, JournalError> {
        let path = self.path(name);
        let content = async { self.store.get(&path).await?.bytes().await };
        let content = match content.await {
            Err(StoreError::NotFound { .. }) => Ok(None),
            content => content.map(Some),
        };
        self.noted("read", &path, content)
    }

    /// Removes an object, if it is there.
    pub(crate) async fn delete(&self, name: &ObjectName) -> Result<(), JournalError> {
        let path = self.path(name);
        let deleted = match self.store.delete(&path).await {
            Err(StoreError::NotFound { .. }) => Ok(()),
            deleted => deleted,
        };
        self.noted("remove", &path, deleted)
    }

    /// The result of a request, after the log was told if an outage began or ended by it.
    fn noted<T>(
        &self,
        action: &'static str,
        path: &Path,
        result: Result<T, StoreError>,
    ) -> Result<T, JournalError> {
        let was_failing = self.is_failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Ok(_) if was_failing => tracing::info!(prefix = %self.prefix, "the journal's store works again"),
            Err(error) if !was_failing => {
                tracing::warn!(prefix = %self.prefix, %error, "cannot {action} an object of the journal");
            }
            _ => {}
        }
        result.map_err(JournalError::store(action, path))
    }

    pub(crate) fn path(&self, name: &ObjectName) -> Path {
        self.prefix.clone().join(name.to_string())
    }
}
