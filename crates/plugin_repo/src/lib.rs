//! Plugins from a repository: what `gh:<path>` in a trigger's `plugin_filename` names (engine.md 6.1, 0.20).
//!
//! It **is** the way from such a path to a file on this machine: the path is checked, the file is fetched over `http`,
//! `https` or from a `file` URL, kept in a cache on disk with its SHA-256, and served from there while the repository
//! is down. It **is not** a package manager: it knows single files, no versions and no dependencies. It never runs what
//! it fetches, and knows no trigger, catalog or Python.
//!
//! Invariants:
//! - A path is checked before anything is asked or touched. No path leads out of the repository's base URL, its
//!   directory, or the cache.
//! - A file is handed out only after its checksum was found right: that of the bytes just received, or of the cached
//!   bytes just read.
//! - A file that was handed out keeps its content and its place as long as the server runs: what the repository
//!   changes later gets a place of its own, so that no trigger changes its code in the middle of its life.
//! - A crash leaves the former state or the new one: content is on disk before the index names it.
//! - The cache of one repository is never used for another.
//! - No text of an error names a path of the server or shows credentials of the repository's URL.

mod cache;
mod checksum;
mod config;
mod error;
mod file_source;
mod http_source;
mod plugin_path;
mod repository;
mod repository_url;

pub use checksum::{Checksum, InvalidChecksum};
pub use config::RepositoryConfig;
pub use error::{RepositoryError, RepositoryErrorKind};
pub use repository::{Fetched, PluginRepository};

/// What a `plugin_filename` begins with that names a file of the repository.
pub const PREFIX: &str = "gh:";

/// The repository that is used unless the operator names another (`--plugin-repo`).
pub const DEFAULT_URL: &str = "https://raw.githubusercontent.com/influxdata/influxdb3_plugins/main/";
