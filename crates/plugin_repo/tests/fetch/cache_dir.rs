//! A place for copies, and the repositories whose copies it holds.

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tidemill_plugin_repo::{PluginRepository, RepositoryConfig};

/// A directory for copies.
pub(crate) struct CacheDir {
    parent: TempDir,
}

impl CacheDir {
    pub(crate) fn new() -> Self {
        Self {
            parent: tempfile::tempdir().unwrap(),
        }
    }

    /// Not there before something is kept.
    pub(crate) fn path(&self) -> PathBuf {
        self.parent.path().join("cache")
    }

    /// A repository as after a start of the server.
    pub(crate) fn open(&self, url: &str) -> PluginRepository {
        self.open_with(url, config())
    }

    pub(crate) fn open_with(&self, url: &str, config: RepositoryConfig) -> PluginRepository {
        PluginRepository::new(url, &self.path(), config).unwrap()
    }
}

/// Limits that no test reaches by chance.
pub(crate) fn config() -> RepositoryConfig {
    RepositoryConfig {
        connect_timeout: Duration::from_mins(1),
        total_timeout: Duration::from_mins(1),
        file_bytes_max: 1000,
    }
}

/// Gives up at once.
pub(crate) fn impatient() -> RepositoryConfig {
    RepositoryConfig {
        total_timeout: Duration::from_millis(50),
        ..config()
    }
}
