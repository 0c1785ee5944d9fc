//! The copies of a repository's files on disk.
//!
//! ```text
//! <cache>/<SHA-256 of the repository's URL>/
//!   <SHA-256 of the path>.json           the index entry of one path: which content it has now
//!   <SHA-256 of the content>/<file name> a content, under the name that tracebacks show
//! ```
//!
//! Content never changes in its place, and an entry is replaced only when its content is on disk: a crash leaves the
//! former entry or the new one. Everything here blocks on the file system.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::Builder;

use crate::Checksum;
use crate::plugin_path::PluginPath;

const ENTRY_ENDING: &str = ".json";

/// The copies of one repository.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
}

/// A copy whose checksum was found right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CachedCopy {
    pub(crate) file: PathBuf,
    pub(crate) checksum: Checksum,
    /// What the repository called this version.
    pub(crate) etag: Option<String>,
}

/// What is wrong with a copy that must not be used. The text names no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damage(String);

/// What is known of one path.
#[derive(Serialize, Deserialize)]
struct Entry {
    path: String,
    sha256: Checksum,
    size_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
}

impl Cache {
    /// The copies of the repository of that identity; nothing needs to be there yet.
    pub(crate) fn new(root: &Path, repository: &str) -> Self {
        let name = Checksum::of(repository.as_bytes()).to_string();
        Self {
            directory: root.join(name),
        }
    }

    /// The copy of a file, if there is one and it is what was kept.
    pub(crate) fn find(&self, path: &PluginPath) -> Result<Option<CachedCopy>, Damage> {
        let entry = match fs::read(self.entry_file(path)) {
            Ok(entry) => entry,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Damage(format!(
                    "its index entry cannot be read: {}",
                    error.kind()
                )));
            }
        };
        let entry: Entry = serde_json::from_slice(&entry)
            .map_err(|error| Damage(format!("its index entry cannot be understood: {error}")))?;
        if entry.path != path.as_str() {
            return Err(Damage("its index entry is that of another path".to_owned()));
        }
        let file = self.content_file(path, entry.sha256);
        let unreadable = |error: io::Error| Damage(format!("its file cannot be read: {}", error.kind()));
        // First, so that not more is read than was once kept.
        let size_bytes = fs::metadata(&file).map_err(unreadable)?.len();
        if size_bytes != entry.size_bytes {
            return Err(Damage(format!(
                "it has {size_bytes} bytes instead of {}",
                entry.size_bytes
            )));
        }
        let checksum = Checksum::of(&fs::read(&file).map_err(unreadable)?);
        if checksum != entry.sha256 {
            return Err(Damage(format!(
                "its checksum is {checksum} instead of {}",
                entry.sha256
            )));
        }
        Ok(Some(CachedCopy {
            file,
            checksum,
            etag: entry.etag,
        }))
    }

    /// Keeps the content of a file; afterwards it is what [`Cache::find`] finds, also after a crash.
    pub(crate) fn keep(
        &self,
        path: &PluginPath,
        content: &[u8],
        etag: Option<String>,
    ) -> io::Result<CachedCopy> {
        let checksum = Checksum::of(content);
        let file = self.content_file(path, checksum);
        let entry = Entry {
            path: path.as_str().to_owned(),
            sha256: checksum,
            size_bytes: content.len() as u64,
            etag: etag.clone(),
        };
        fs::create_dir_all(self.content_directory(checksum))?;
        // A worker watches the file that it has loaded: what is there and right is not touched.
        if fs::read(&file).is_ok_and(|present| present == content) {
            tracing::trace!(path = path.as_str(), "content is in the cache already");
        } else {
            self.write(&file, content)?;
        }
        self.write(&self.entry_file(path), &serde_json::to_vec_pretty(&entry)?)?;
        Ok(CachedCopy { file, checksum, etag })
    }

    /// Removes contents that no entry names any more and what a crash left half written. Nothing may be running from
    /// this cache.
    pub(crate) fn prune(&self) -> io::Result<()> {
        let mut others = Vec::new();
        let mut named: HashSet<OsString> = HashSet::new();
        let children = match fs::read_dir(&self.directory) {
            Ok(children) => children,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for child in children {
            let child = child?;
            if child.file_name().to_string_lossy().ends_with(ENTRY_ENDING) {
                let entry = serde_json::from_slice::<Entry>(&fs::read(child.path())?);
                // A damaged one is replaced at the next fetch; until then it explains why there is no copy.
                named.extend(entry.map(|entry| entry.sha256.to_string().into()));
            } else {
                others.push(child);
            }
        }
        for child in others {
            if named.contains(&child.file_name()) {
                continue;
            }
            if child.file_type()?.is_dir() {
                fs::remove_dir_all(child.path())?;
            } else {
                fs::remove_file(child.path())?;
            }
        }
        Ok(())
    }

    fn entry_file(&self, path: &PluginPath) -> PathBuf {
        let name = Checksum::of(path.as_str().as_bytes());
        self.directory.join(format!("{name}{ENTRY_ENDING}"))
    }

    fn content_directory(&self, checksum: Checksum) -> PathBuf {
        self.directory.join(checksum.to_string())
    }

    fn content_file(&self, path: &PluginPath, checksum: Checksum) -> PathBuf {
        self.content_directory(checksum).join(path.file_name())
    }

    /// Writes a file whole or not at all, and makes it last.
    fn write(&self, file: &Path, content: &[u8]) -> io::Result<()> {
        // Plugins may run as another user, who has to read it.
        let mut staged = Builder::new()
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&self.directory)?;
        staged.write_all(content)?;
        staged.as_file().sync_all()?;
        staged.persist(file)?;
        let directories = file.ancestors().skip(1);
        // From the file's directory up to the cache itself, whose own name may be new too.
        for directory in directories.take_while(|directory| directory.starts_with(&self.directory)) {
            File::open(directory)?.sync_all()?;
        }
        self.directory
            .parent()
            .map_or(Ok(()), |root| File::open(root)?.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> PluginPath {
        PluginPath::parse(path).unwrap()
    }

    fn cache() -> (tempfile::TempDir, Cache) {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path(), "https://example.org");
        (root, cache)
    }

    #[test]
    fn what_was_kept_is_found_under_its_name() {
        let (_root, cache) = cache();
        assert_eq!(cache.find(&path("a/x.py")), Ok(None));
        let kept = cache
            .keep(&path("a/x.py"), b"x = 1", Some("\"1\"".to_owned()))
            .unwrap();
        assert_eq!(cache.find(&path("a/x.py")), Ok(Some(kept.clone())));
        assert_eq!(kept.file.file_name().unwrap(), "x.py");
        assert_eq!(fs::read(&kept.file).unwrap(), b"x = 1");
        assert_eq!(cache.find(&path("b/x.py")), Ok(None));
    }

    #[test]
    fn a_new_content_leaves_the_former_in_its_place_until_it_is_pruned() {
        let (_root, cache) = cache();
        let first = cache.keep(&path("x.py"), b"1", None).unwrap();
        let second = cache.keep(&path("x.py"), b"2", None).unwrap();
        assert_eq!(fs::read(&first.file).unwrap(), b"1");
        fs::write(cache.directory.join(".tmpHalf"), "").unwrap();

        cache.prune().unwrap();
        assert!(!first.file.exists());
        assert_eq!(cache.find(&path("x.py")), Ok(Some(second)));
        assert_eq!(fs::read_dir(&cache.directory).unwrap().count(), 2);
    }

    #[test]
    fn the_same_content_is_not_written_again() {
        let (_root, cache) = cache();
        let inode =
            |copy: &CachedCopy| std::os::unix::fs::MetadataExt::ino(&fs::metadata(&copy.file).unwrap());
        let first = cache.keep(&path("x.py"), b"1", None).unwrap();
        let before = inode(&first);
        let second = cache.keep(&path("x.py"), b"1", Some("new".to_owned())).unwrap();
        assert_eq!(inode(&second), before);
        assert_eq!(cache.find(&path("x.py")).unwrap().unwrap().etag.unwrap(), "new");
    }

    #[test]
    fn every_damage_is_found_named_and_mended_by_keeping_anew() {
        let (_root, cache) = cache();
        let path = path("x.py");
        let kept = cache.keep(&path, b"12345", None).unwrap();
        let entry = cache.entry_file(&path);
        let other_entry = fs::read_to_string(&entry).unwrap().replace("x.py", "y.py");
        let no_checksum = r#"{"path": "x.py", "sha256": "../..", "size_bytes": 5}"#;
        let damages: [(&Path, &[u8], &str); 5] = [
            (&kept.file, b"12x45", "its checksum is "),
            (&kept.file, b"1234", "it has 4 bytes instead of 5"),
            (&entry, b"{", "its index entry cannot be understood: "),
            (
                &entry,
                no_checksum.as_bytes(),
                "its index entry cannot be understood: ",
            ),
            (
                &entry,
                other_entry.as_bytes(),
                "its index entry is that of another path",
            ),
        ];
        for (file, content, text) in damages {
            fs::write(file, content).unwrap();
            let damage = cache.find(&path).unwrap_err().to_string();
            assert!(damage.starts_with(text), "{damage}");
            assert_eq!(cache.keep(&path, b"12345", None).unwrap(), kept);
            assert_eq!(cache.find(&path), Ok(Some(kept.clone())));
        }
        fs::remove_file(&kept.file).unwrap();
        let damage = cache.find(&path).unwrap_err().to_string();
        assert_eq!(damage, "its file cannot be read: entity not found");
    }

    #[test]
    fn repositories_share_nothing() {
        let root = tempfile::tempdir().unwrap();
        let one = Cache::new(root.path(), "https://example.org/one");
        let other = Cache::new(root.path(), "https://example.org/other");
        one.keep(&path("x.py"), b"1", None).unwrap();
        assert_eq!(other.find(&path("x.py")), Ok(None));
    }

    #[test]
    fn pruning_what_is_not_there_is_no_error() {
        let (_root, cache) = cache();
        cache.prune().unwrap();
        assert!(!cache.directory.exists());
    }
}
