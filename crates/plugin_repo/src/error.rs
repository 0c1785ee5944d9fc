//! Why a plugin could not be had.

use std::error::Error;

/// Classes of [`RepositoryError`]: what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepositoryErrorKind {
    /// The request is wrong and will be wrong again.
    Invalid,
    /// The repository has no such file.
    NotFound,
    /// It may work later.
    Unavailable,
    /// This machine failed.
    Internal,
}

/// Why a plugin could not be had. The texts are shown to clients as they are (engine.md 6.1, 6.2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// The repository's URL cannot be used. The URL is left out, since it may hold credentials.
    #[error(
        "invalid plugin repository URL: {0}; expected something like https://example.org/plugins/ or file:///srv/plugins/"
    )]
    InvalidUrl(String),
    /// The directory for the cache has no absolute path.
    #[error("invalid directory for plugins from a repository: {0}")]
    CacheDirectory(String),
    /// The path leads, or may lead, out of the repository.
    #[error(
        "Path traversal detected: plugin filename 'gh:{0}' attempts to access files outside the plugin directory"
    )]
    Traversal(String),
    /// The path cannot be that of a file in a repository.
    #[error("invalid plugin filename 'gh:{path}': {reason}")]
    InvalidPath {
        /// As given, without `gh:`.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The repository answered that it has no such file. An earlier copy is not used.
    #[error("error fetching plugin from repository: {status} {location}")]
    NotFound {
        /// Code and reason, such as `404 Not Found`.
        status: String,
        /// The file's URL; `gh:<path>` where the repository is a directory of the server.
        location: String,
    },
    /// The repository answered with another error, and there is no earlier copy.
    #[error("error fetching plugin from repository: {status} {location}")]
    Status {
        /// Code and reason, such as `500 Internal Server Error`.
        status: String,
        /// The file's URL.
        location: String,
    },
    /// The repository gave no answer, or one that broke off, and there is no earlier copy.
    #[error("error getting plugin from repository: {0}")]
    Unreachable(String),
    /// The repository could not be asked, and the earlier copy must not be used.
    #[error("{outage}; the cached copy of gh:{path} is damaged and cannot replace it: {damage}")]
    Damaged {
        /// As given, without `gh:`.
        path: String,
        /// What is wrong with the copy.
        damage: String,
        /// Why there is no other.
        outage: Box<RepositoryError>,
    },
    /// The file is larger than the limit.
    #[error("plugin gh:{path} is larger than the {limit_bytes} bytes that a plugin of a repository may have")]
    TooLarge {
        /// As given, without `gh:`.
        path: String,
        /// The limit.
        limit_bytes: usize,
    },
    /// The file system refused to keep the file.
    #[error("cannot keep plugin gh:{path} in the cache: {reason}")]
    Cache {
        /// As given, without `gh:`.
        path: String,
        /// What the file system said.
        reason: String,
    },
}

impl RepositoryError {
    /// The class of this error.
    pub fn kind(&self) -> RepositoryErrorKind {
        match self {
            Self::InvalidUrl(_)
            | Self::CacheDirectory(_)
            | Self::Traversal(_)
            | Self::InvalidPath { .. }
            | Self::TooLarge { .. } => RepositoryErrorKind::Invalid,
            Self::NotFound { .. } => RepositoryErrorKind::NotFound,
            Self::Status { .. } | Self::Unreachable(_) | Self::Damaged { .. } => {
                RepositoryErrorKind::Unavailable
            }
            Self::Cache { .. } => RepositoryErrorKind::Internal,
        }
    }
}

/// The innermost cause: what lies around it says in several ways that there was no answer, and may show the URL.
pub(crate) fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
