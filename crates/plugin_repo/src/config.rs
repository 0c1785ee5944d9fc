//! The limits of a fetch.

use std::time::Duration;

/// Limits of a fetch; the defaults are those of `serve`.
#[derive(Debug, Clone)]
pub struct RepositoryConfig {
    /// Longest time until the repository's server has accepted the connection.
    pub connect_timeout: Duration,
    /// Longest time until the whole file is here, the connection included.
    pub total_timeout: Duration,
    /// Largest file.
    pub file_bytes_max: usize,
}

impl Default for RepositoryConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(30),
            file_bytes_max: 4 * 1024 * 1024,
        }
    }
}
