//! Where plugins are on disk: resolution, validation and replacement of files (engine.md 6.1, 6.2, 6.4).
//!
//! Everything here blocks on the file system; the engine calls it from the blocking pool.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use tidemill_plugin_repo::{RepositoryError, RepositoryErrorKind};
use tidemill_worker_proto::PluginForm;
use uuid::Uuid;

use crate::error::EngineErrorKind;
use crate::file_content::FileContent;

const PACKAGE_FILE: &str = "__init__.py";
/// Files of a directory that is uploaded. Each is written and synced by itself; their bytes are limited by the request.
const DIRECTORY_FILES_MAX: usize = 1_000;

/// Why a plugin cannot be read or written. The texts name what the client gave, never a path of the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginFileError {
    /// There is no plugin directory, and a plugin is to be read.
    #[error("Node not configured with plugin directory")]
    NotConfigured,
    /// There is no plugin directory, and a plugin is to be written.
    #[error("No plugin directory configured")]
    NoPluginDirectory,
    /// The name leads out of the plugin directory.
    #[error(
        "Path traversal detected: plugin filename '{0}' attempts to access files outside the plugin directory"
    )]
    Traversal(String),
    /// There is nothing of that name.
    #[error("reading plugin file: Plugin not found: {0}")]
    NotFound(String),
    /// A directory that is not a Python package.
    #[error("reading plugin file: Multi-file plugin directory must contain __init__.py: {0}")]
    NotAPackage(String),
    /// The file is there and cannot be read.
    #[error("reading plugin file: {0}: {1}")]
    Unreadable(String, io::ErrorKind),
    /// The plugin repository does not have it, or cannot be asked.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A file of the plugin directory was asked for by the name of one in the repository.
    #[error("the plugin of this trigger comes from the plugin repository: {0}")]
    InRepository(String),
    /// A directory was to be written where the trigger's plugin is a single file.
    #[error("the plugin of this trigger is a single file: {0}")]
    IsAFile(String),
    /// A directory with more files than one upload takes.
    #[error("a plugin directory holds at most {DIRECTORY_FILES_MAX} files, this one has {0}")]
    TooManyFiles(usize),
    /// The file system refused to write.
    #[error("writing plugin file: {0}: {1}")]
    Unwritable(String, io::ErrorKind),
}

impl PluginFileError {
    /// The class of this error.
    pub fn kind(&self) -> EngineErrorKind {
        match self {
            Self::NotFound(_) => EngineErrorKind::NotFound,
            Self::Repository(error) => match error.kind() {
                RepositoryErrorKind::Invalid => EngineErrorKind::Invalid,
                RepositoryErrorKind::NotFound => EngineErrorKind::NotFound,
                RepositoryErrorKind::Unavailable => EngineErrorKind::Unavailable,
                RepositoryErrorKind::Internal => EngineErrorKind::Internal,
            },
            Self::Unwritable(..) => EngineErrorKind::Internal,
            _ => EngineErrorKind::Invalid,
        }
    }
}

/// A plugin that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvedPlugin {
    pub(crate) form: PluginForm,
    /// Absolute path of the file, or of the package's directory.
    pub(crate) path: PathBuf,
    /// Absolute path of the plugin directory.
    pub(crate) plugin_dir: PathBuf,
    /// Why an earlier copy is used, where the repository that has the plugin could not be asked.
    pub(crate) outage: Option<RepositoryError>,
}

/// A file of a plugin that is there (engine.md 10.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileOnDisk {
    pub(crate) file_name: String,
    pub(crate) path: PathBuf,
    pub(crate) size_bytes: i64,
    /// Milliseconds since the epoch.
    pub(crate) last_modified_ms: i64,
}

/// The plugin directory.
#[derive(Debug, Clone)]
pub(crate) struct PluginFiles {
    dir: Option<PathBuf>,
}

impl PluginFiles {
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        Self { dir }
    }

    /// Finds the plugin that a trigger names and checks that it can be read.
    pub(crate) fn resolve(&self, plugin_filename: &str) -> Result<ResolvedPlugin, PluginFileError> {
        let dir = self.dir.as_deref().ok_or(PluginFileError::NotConfigured)?;
        let path = path_inside(dir, plugin_filename)?;
        let plugin_dir = self.directory(plugin_filename)?;
        let metadata = fs::metadata(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PluginFileError::NotFound(plugin_filename.to_owned()),
            _ => unreadable(plugin_filename, &error),
        })?;
        let form = if metadata.is_dir() {
            if !path.join(PACKAGE_FILE).is_file() {
                return Err(PluginFileError::NotAPackage(plugin_filename.to_owned()));
            }
            PluginForm::Package
        } else {
            // Opening says whether it is readable; it need not have a `.py` name.
            fs::File::open(&path).map_err(|error| unreadable(plugin_filename, &error))?;
            PluginForm::SingleFile
        };
        Ok(ResolvedPlugin {
            form,
            path,
            plugin_dir,
            outage: None,
        })
    }

    /// Absolute path of the plugin directory.
    pub(crate) fn directory(&self, plugin_filename: &str) -> Result<PathBuf, PluginFileError> {
        let dir = self.dir.as_deref().ok_or(PluginFileError::NotConfigured)?;
        fs::canonicalize(dir).map_err(|error| unreadable(plugin_filename, &error))
    }

    /// Writes a file below the plugin directory; directories above it are made.
    pub(crate) fn upload(&self, name: &str, content: &[u8]) -> Result<(), PluginFileError> {
        let dir = self.dir.as_deref().ok_or(PluginFileError::NoPluginDirectory)?;
        let path = path_inside(dir, name)?;
        if path.is_dir() {
            return Err(PluginFileError::Unwritable(
                name.to_owned(),
                io::ErrorKind::IsADirectory,
            ));
        }
        write_with_parents(&path, content).map_err(|error| unwritable(name, &error))
    }

    /// Replaces the file of a trigger's plugin, or the `__init__.py` of its package.
    pub(crate) fn update(&self, plugin_filename: &str, content: &[u8]) -> Result<(), PluginFileError> {
        let dir = self.dir.as_deref().ok_or(PluginFileError::NoPluginDirectory)?;
        let mut path = path_inside(dir, plugin_filename)?;
        if path.is_dir() {
            path.push(PACKAGE_FILE);
        }
        write_with_parents(&path, content).map_err(|error| unwritable(plugin_filename, &error))
    }

    /// Puts a directory into its place in one step: afterwards it holds these files and no others.
    pub(crate) fn replace_directory(
        &self,
        plugin_filename: &str,
        files: &[(String, FileContent)],
    ) -> Result<(), PluginFileError> {
        if files.len() > DIRECTORY_FILES_MAX {
            return Err(PluginFileError::TooManyFiles(files.len()));
        }
        let dir = self.dir.as_deref().ok_or(PluginFileError::NoPluginDirectory)?;
        let target = path_inside(dir, plugin_filename)?;
        if target.is_file() {
            return Err(PluginFileError::IsAFile(plugin_filename.to_owned()));
        }
        if !files
            .iter()
            .any(|(relative_path, _)| relative_path == PACKAGE_FILE)
        {
            return Err(PluginFileError::NotAPackage(plugin_filename.to_owned()));
        }
        let staging = sibling(&target);
        let replaced = fill_directory(&staging, files).and_then(|()| {
            exchange_directories(&staging, &target).map_err(|error| unwritable(plugin_filename, &error))
        });
        // Holds the former files after the exchange, or what was written before a failure.
        if let Err(error) = fs::remove_dir_all(&staging)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(directory = %staging.display(), %error, "could not remove a replaced plugin directory");
        }
        replaced
    }

    /// The files of a trigger's plugin; empty where there is none.
    pub(crate) fn list(&self, plugin_filename: &str) -> Vec<FileOnDisk> {
        let Ok(plugin) = self.resolve(plugin_filename) else {
            return Vec::new();
        };
        let mut files = Vec::new();
        match plugin.form {
            PluginForm::SingleFile => files.extend(file_on_disk(plugin_filename.to_owned(), plugin.path)),
            PluginForm::Package => collect_python_files(&plugin.path, &plugin.plugin_dir, &mut files),
        }
        files
    }
}

/// The absolute path of `name` below `dir`, whether or not it exists. Links may lead anywhere inside `dir`.
fn path_inside(dir: &Path, name: &str) -> Result<PathBuf, PluginFileError> {
    if name.starts_with(tidemill_plugin_repo::PREFIX) {
        return Err(PluginFileError::InRepository(name.to_owned()));
    }
    let traversal = || PluginFileError::Traversal(name.to_owned());
    let relative = Path::new(name.trim_end_matches('/'));
    let harmless = |component| matches!(component, Component::Normal(_) | Component::CurDir);
    if name.starts_with('/') || name.contains('\0') || !relative.components().all(harmless) {
        return Err(traversal());
    }
    let root = fs::canonicalize(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PluginFileError::NotFound(name.to_owned()),
        _ => unreadable(name, &error),
    })?;
    let mut existing = root.join(relative);
    let mut missing: Vec<OsString> = Vec::new();
    let resolved = loop {
        match fs::canonicalize(&existing) {
            Ok(resolved) => break resolved,
            // A link that leads nowhere: what it names cannot be checked.
            Err(_) if existing.is_symlink() => return Err(traversal()),
            Err(_) => match (existing.file_name(), existing.parent()) {
                (Some(last), Some(parent)) => {
                    missing.push(last.to_owned());
                    existing = parent.to_owned();
                }
                _ => return Err(traversal()),
            },
        }
    };
    if !resolved.starts_with(&root) {
        return Err(traversal());
    }
    Ok(missing
        .into_iter()
        .rev()
        .fold(resolved, |path, part| path.join(part)))
}

fn unreadable(name: &str, error: &io::Error) -> PluginFileError {
    PluginFileError::Unreadable(name.to_owned(), error.kind())
}

fn unwritable(name: &str, error: &io::Error) -> PluginFileError {
    PluginFileError::Unwritable(name.to_owned(), error.kind())
}

/// A name beside `path` that nobody else uses and that no plugin is looked for under.
fn sibling(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", Uuid::new_v4().simple()))
}

fn write_with_parents(path: &Path, content: &[u8]) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(parent)?;
    let staging = sibling(path);
    let written = write_durably(&staging, content).and_then(|()| fs::rename(&staging, path));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&staging);
    }
    written?;
    sync_directory(parent)
}

fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create_new(path)?;
    file.write_all(content)?;
    file.sync_data()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

fn fill_directory(directory: &Path, files: &[(String, FileContent)]) -> Result<(), PluginFileError> {
    fs::create_dir_all(directory).map_err(|error| unwritable("plugin directory", &error))?;
    for (relative_path, FileContent(content)) in files {
        let path = path_inside(directory, relative_path)?;
        if path == directory || path.is_dir() {
            return Err(PluginFileError::Unwritable(
                relative_path.clone(),
                io::ErrorKind::IsADirectory,
            ));
        }
        write_with_parents(&path, content).map_err(|error| unwritable(relative_path, &error))?;
    }
    Ok(())
}

/// Puts `staging` in the place of `target` and, where that exists, `target` in the place of `staging`, in one step.
fn exchange_directories(staging: &Path, target: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    if target.exists() {
        match renameat_with(CWD, staging, CWD, target, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            // Not every file system can exchange; then there is a moment without the directory.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                let former = sibling(target);
                fs::rename(target, &former)?;
                fs::rename(staging, target)?;
                fs::rename(&former, staging)?;
            }
            Err(error) => return Err(error.into()),
        }
    } else {
        fs::rename(staging, target)?;
    }
    target.parent().map_or(Ok(()), sync_directory)
}

fn collect_python_files(directory: &Path, plugin_dir: &Path, files: &mut Vec<FileOnDisk>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        let name = path.file_name().unwrap_or_default();
        if metadata.is_dir() {
            if name != "__pycache__" {
                collect_python_files(&path, plugin_dir, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "py") {
            let relative = path
                .strip_prefix(plugin_dir)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            files.extend(file_on_disk(relative, path));
        }
    }
}

fn file_on_disk(file_name: String, path: PathBuf) -> Option<FileOnDisk> {
    let metadata = fs::metadata(&path).ok()?;
    let modified = metadata
        .modified()
        .ok()?
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Some(FileOnDisk {
        file_name,
        path,
        size_bytes: i64::try_from(metadata.len()).unwrap_or(i64::MAX),
        last_modified_ms: i64::try_from(modified.as_millis()).unwrap_or(i64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugins() -> (tempfile::TempDir, PluginFiles) {
        let dir = tempfile::tempdir().unwrap();
        let files = PluginFiles::new(Some(dir.path().join("plugins")));
        fs::create_dir(dir.path().join("plugins")).unwrap();
        fs::write(dir.path().join("secret.py"), "").unwrap();
        (dir, files)
    }

    #[test]
    fn resolution_tells_files_packages_and_what_is_neither() {
        let (dir, files) = plugins();
        files.upload("one.py", b"x = 1").unwrap();
        files.upload("deep/pack/__init__.py", b"").unwrap();
        files.upload("empty/readme", b"").unwrap();
        let root = fs::canonicalize(dir.path().join("plugins")).unwrap();

        let resolved = files.resolve("one.py").unwrap();
        assert_eq!(
            (resolved.form, resolved.path),
            (PluginForm::SingleFile, root.join("one.py"))
        );
        let resolved = files.resolve("deep/pack/").unwrap();
        assert_eq!(
            (resolved.form, resolved.path),
            (PluginForm::Package, root.join("deep/pack"))
        );
        assert_eq!(files.resolve("./one.py").unwrap().path, root.join("one.py"));

        for (name, message) in [
            ("nope.py", "reading plugin file: Plugin not found: nope.py"),
            (
                "empty",
                "reading plugin file: Multi-file plugin directory must contain __init__.py: empty",
            ),
            (
                "../secret.py",
                "Path traversal detected: plugin filename '../secret.py' attempts to access files outside the plugin directory",
            ),
        ] {
            assert_eq!(files.resolve(name).unwrap_err().to_string(), message);
        }
        assert_eq!(
            PluginFiles::new(None).resolve("x").unwrap_err().to_string(),
            "Node not configured with plugin directory"
        );
        for refused in [
            files.resolve("gh:x/y.py").map(|_| ()),
            files.update("gh:x.py", b""),
        ] {
            assert!(matches!(refused, Err(PluginFileError::InRepository(_))));
        }
    }

    #[test]
    fn no_name_leads_out_of_the_plugin_directory() {
        let (dir, files) = plugins();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("plugins/out")).unwrap();
        std::os::unix::fs::symlink("/nowhere/at/all", dir.path().join("plugins/dangling")).unwrap();
        for name in [
            "../x.py",
            "a/../../x.py",
            "/etc/passwd",
            "out/secret.py",
            "out/new.py",
            "dangling",
            "dangling/x",
            "a\0b",
        ] {
            assert!(
                matches!(files.upload(name, b""), Err(PluginFileError::Traversal(_))),
                "{name}"
            );
            assert!(
                matches!(files.resolve(name), Err(PluginFileError::Traversal(_))),
                "{name}"
            );
        }
        assert_eq!(fs::read_to_string(dir.path().join("secret.py")).unwrap(), "");
    }

    #[test]
    fn files_are_replaced_whole() {
        let (dir, files) = plugins();
        files.upload("one.py", b"first").unwrap();
        files.update("one.py", b"second").unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join("plugins/one.py")).unwrap(),
            "second"
        );
        files.upload("pack/__init__.py", b"old").unwrap();
        files.update("pack", b"new").unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join("plugins/pack/__init__.py")).unwrap(),
            "new"
        );
        let left: Vec<_> = fs::read_dir(dir.path().join("plugins"))
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(left.len(), 2, "no temporary file stays: {left:?}");
    }

    #[test]
    fn a_directory_of_too_many_files_is_refused() {
        let (dir, files) = plugins();
        let many: Vec<_> = (0..=DIRECTORY_FILES_MAX)
            .map(|number| (format!("{number}.py"), FileContent::from("")))
            .collect();
        let error = files.replace_directory("pack", &many).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a plugin directory holds at most 1000 files, this one has 1001"
        );
        assert!(!dir.path().join("plugins/pack").exists());
    }

    #[test]
    fn a_directory_is_replaced_with_all_its_files_or_not_at_all() {
        let (dir, files) = plugins();
        files.upload("pack/__init__.py", b"1").unwrap();
        files.upload("pack/gone.py", b"1").unwrap();
        let entry = |name: &str, content: &str| (name.to_owned(), FileContent::from(content));
        files
            .replace_directory("pack", &[entry("__init__.py", "2"), entry("sub/new.py", "2")])
            .unwrap();
        let pack = dir.path().join("plugins/pack");
        assert_eq!(fs::read_to_string(pack.join("__init__.py")).unwrap(), "2");
        assert!(pack.join("sub/new.py").is_file() && !pack.join("gone.py").exists());

        for bad in [
            vec![entry("__init__.py", "3"), entry("../x.py", "")],
            vec![entry("other.py", "3")],
        ] {
            assert!(files.replace_directory("pack", &bad).is_err());
            assert_eq!(fs::read_to_string(pack.join("__init__.py")).unwrap(), "2");
        }
        files.upload("one.py", b"").unwrap();
        assert!(matches!(
            files.replace_directory("one.py", &[]),
            Err(PluginFileError::IsAFile(_))
        ));
        let names: Vec<String> = files
            .list("pack")
            .into_iter()
            .map(|file| file.file_name)
            .collect();
        assert_eq!(names, ["pack/__init__.py", "pack/sub/new.py"]);
        let left = fs::read_dir(dir.path().join("plugins")).unwrap().count();
        assert_eq!(left, 2, "no staging directory stays");
    }
}
