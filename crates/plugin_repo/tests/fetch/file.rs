//! Repositories that are a directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use tempfile::TempDir;
use tidemill_plugin_repo::{PluginRepository, RepositoryError, RepositoryErrorKind};

use crate::cache_dir::{CacheDir, config};

struct Directory {
    parent: TempDir,
}

impl Directory {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir_all(parent.path().join("repository/me")).unwrap();
        fs::write(parent.path().join("secret.py"), "secret").unwrap();
        Self { parent }
    }

    fn path(&self) -> PathBuf {
        self.parent.path().join("repository")
    }

    fn url(&self) -> String {
        format!("file://{}", self.path().display())
    }
}

#[tokio::test]
async fn files_are_copied_into_the_cache_and_outlive_the_directory() {
    let directory = Directory::new();
    let cache = CacheDir::new();
    let repository = cache.open(&directory.url());
    let original = directory.path().join("me/x.py");
    fs::write(&original, "x = 1").unwrap();
    let former = repository.fetch("me/x.py").await.unwrap();
    assert!(former.file.starts_with(cache.path()) && !former.from_cache);

    fs::write(&original, "x = 2").unwrap();
    let fetched = repository.fetch("me/x.py").await.unwrap();
    assert_eq!(fs::read_to_string(&fetched.file).unwrap(), "x = 2");
    // A trigger that was started with it keeps its code.
    assert_eq!(fs::read_to_string(&former.file).unwrap(), "x = 1");

    fs::rename(directory.path(), directory.path().with_extension("unmounted")).unwrap();
    let copy = cache.open(&directory.url()).fetch("me/x.py").await.unwrap();
    assert_eq!((&copy.file, copy.checksum), (&fetched.file, fetched.checksum));
    assert!(copy.from_cache && copy.outage.is_some());
    let error = repository.fetch("new.py").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "error getting plugin from repository: entity not found"
    );
}

#[tokio::test]
async fn texts_show_no_directory_of_the_server() {
    let directory = Directory::new();
    let cache = CacheDir::new();
    fs::write(
        directory.path().join("large.py"),
        "x".repeat(config().file_bytes_max + 1),
    )
    .unwrap();
    symlink("../secret.py", directory.path().join("out.py")).unwrap();
    symlink("..", directory.path().join("up")).unwrap();
    let _socket = UnixListener::bind(directory.path().join("socket")).unwrap();
    for (path, kind, text) in [
        (
            "me/nope.py",
            RepositoryErrorKind::NotFound,
            "error fetching plugin from repository: 404 Not Found gh:me/nope.py",
        ),
        (
            "large.py/nope.py",
            RepositoryErrorKind::NotFound,
            "error fetching plugin from repository: 404 Not Found gh:large.py/nope.py",
        ),
        (
            "large.py",
            RepositoryErrorKind::Invalid,
            "plugin gh:large.py is larger than the 1000 bytes that a plugin of a repository may have",
        ),
        (
            "me",
            RepositoryErrorKind::Invalid,
            "invalid plugin filename 'gh:me': a repository serves single files, not directories",
        ),
        (
            "socket",
            RepositoryErrorKind::Invalid,
            "invalid plugin filename 'gh:socket': a repository serves single files, not directories",
        ),
        (
            "out.py",
            RepositoryErrorKind::Invalid,
            "Path traversal detected: plugin filename 'gh:out.py' attempts to access files outside the plugin directory",
        ),
        (
            "up/secret.py",
            RepositoryErrorKind::Invalid,
            "Path traversal detected: plugin filename 'gh:up/secret.py' attempts to access files outside the plugin directory",
        ),
    ] {
        let error = cache.open(&directory.url()).fetch(path).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
    }
    assert!(!cache.path().exists());
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_is_this_servers_failure() {
    let directory = Directory::new();
    fs::write(directory.path().join("x.py"), "x = 1").unwrap();
    // A file where the cache's directory should be made.
    let not_a_directory = directory.parent.path().join("secret.py");
    let repository = PluginRepository::new(&directory.url(), &not_a_directory, config()).unwrap();
    let error = repository.fetch("x.py").await.unwrap_err();
    assert!(matches!(error, RepositoryError::Cache { .. }), "{error}");
    assert_eq!(error.kind(), RepositoryErrorKind::Internal);
    assert_eq!(
        error.to_string(),
        "cannot keep plugin gh:x.py in the cache: not a directory"
    );
}
