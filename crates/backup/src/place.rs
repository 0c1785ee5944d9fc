//! Where a backup lies.

use std::fmt;
use std::sync::Arc;

use futures::StreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};

use crate::BackupError;
use crate::index::{BackupIndex, INDEX_NAME};

/// A folder of an object store for one backup.
#[derive(Clone)]
pub struct BackupPlace {
    pub(crate) store: Arc<dyn ObjectStore>,
    prefix: Path,
    name: String,
}

impl BackupPlace {
    /// The folder `prefix` of a store, which must make an object durable before a put returns. `name` is what people call
    /// it.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, name: impl Into<String>) -> Self {
        Self {
            store,
            prefix,
            name: name.into(),
        }
    }

    /// The path of an object of the backup.
    pub(crate) fn path(&self, below: &Path) -> Path {
        self.prefix.parts().chain(below.parts()).collect()
    }

    /// Checks that nothing is there.
    ///
    /// # Errors
    /// [`BackupError::DestinationNotEmpty`], [`BackupError::Object`].
    pub async fn expect_empty(&self) -> Result<(), BackupError> {
        let prefix = (!self.prefix.as_ref().is_empty()).then_some(&self.prefix);
        match self.store.list(prefix).next().await {
            None => Ok(()),
            Some(Ok(_)) => Err(BackupError::DestinationNotEmpty {
                place: self.to_string(),
            }),
            Some(Err(error)) => Err(BackupError::object("list", &self.name)(error)),
        }
    }

    /// What the backup consists of.
    ///
    /// # Errors
    /// [`BackupError::NoBackup`], [`BackupError::Damaged`], [`BackupError::Object`].
    pub async fn index(&self) -> Result<BackupIndex, BackupError> {
        let path = self.path(&Path::from(INDEX_NAME));
        let read = async { self.store.get(&path).await?.bytes().await };
        let json = match read.await {
            Ok(json) => json,
            Err(Error::NotFound { .. }) => {
                return Err(BackupError::NoBackup {
                    place: self.to_string(),
                });
            }
            Err(error) => return Err(BackupError::object("read", path)(error)),
        };
        BackupIndex::parse(&json).map_err(|reason| BackupError::Damaged {
            object: INDEX_NAME.to_owned(),
            reason,
        })
    }
}

impl fmt::Display for BackupPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
