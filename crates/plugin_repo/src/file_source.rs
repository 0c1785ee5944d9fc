//! Reading from a repository that is a directory.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::plugin_path::PluginPath;
use crate::{PREFIX, RepositoryError};

/// The content of a file below `directory`. Links may lead anywhere inside it. Blocks on the file system.
pub(crate) fn read(
    directory: &Path,
    path: &PluginPath,
    bytes_max: usize,
) -> Result<Vec<u8>, RepositoryError> {
    let unreachable = |error: io::Error| RepositoryError::Unreachable(error.kind().to_string());
    // Without its directory the repository is down, say not mounted; that says nothing about the file.
    let root = fs::canonicalize(directory).map_err(unreachable)?;
    let file = fs::canonicalize(root.join(path.as_str())).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => RepositoryError::NotFound {
            status: "404 Not Found".to_owned(),
            location: format!("{PREFIX}{}", path.as_str()),
        },
        _ => unreachable(error),
    })?;
    if !file.starts_with(&root) {
        return Err(RepositoryError::Traversal(path.as_str().to_owned()));
    }
    // Looked at before it is opened: opening a pipe waits for its other end.
    if !fs::metadata(&file).map_err(unreachable)?.is_file() {
        return Err(RepositoryError::InvalidPath {
            path: path.as_str().to_owned(),
            reason: "a repository serves single files, not directories",
        });
    }
    let mut content = Vec::new();
    let just_too_many = bytes_max as u64 + 1;
    File::open(&file)
        .and_then(|file| file.take(just_too_many).read_to_end(&mut content))
        .map_err(unreachable)?;
    if content.len() > bytes_max {
        return Err(RepositoryError::TooLarge {
            path: path.as_str().to_owned(),
            limit_bytes: bytes_max,
        });
    }
    Ok(content)
}
