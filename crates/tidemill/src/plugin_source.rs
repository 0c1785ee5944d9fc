//! Plugins on this machine that are to be sent to the server.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tidemill_client::{FileContent, PluginFile};

use crate::failure::CommandError;

/// The most files and bytes of a plugin. More belongs into the plugin directory by other means, or is there by mistake.
const FILES_MAX: usize = 1_000;
const BYTES_MAX: u64 = 64 << 20;

/// A plugin read from disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PluginSource {
    /// A single file.
    File {
        /// Its name without folders.
        name: String,
        content: FileContent,
    },
    /// A folder with `__init__.py`.
    Package {
        /// Name of the folder.
        name: String,
        /// Its files, also those that are not Python.
        files: Vec<PluginFile>,
    },
}

impl PluginSource {
    /// Reads a plugin that is to be created.
    pub(crate) fn read(path: &Path) -> Result<Self, CommandError> {
        if !path.exists() {
            return Err(CommandError::message(format!(
                "File not found: {}",
                path.display()
            )));
        }
        if path.is_dir() && !path.join("__init__.py").is_file() {
            return Err(CommandError::message(format!(
                "Multi-file plugin directory must contain __init__.py: {}",
                path.display()
            )));
        }
        Self::read_any(path)
    }

    /// Reads a plugin that is to replace an existing one.
    pub(crate) fn read_update(path: &Path) -> Result<Self, CommandError> {
        if !path.exists() {
            return Err(CommandError::message(format!(
                "Path does not exist: {}",
                path.display()
            )));
        }
        Self::read_any(path)
    }

    fn read_any(path: &Path) -> Result<Self, CommandError> {
        let name = base_name(path)?;
        if !path.is_dir() {
            let mut budget = Budget::new(path);
            let content = budget.read(path)?;
            return Ok(Self::File { name, content });
        }
        let mut paths = Vec::new();
        collect_files(path, &mut paths)?;
        paths.sort();
        if !paths.iter().any(|path| has_extension(path, "py")) {
            return Err(CommandError::message("No Python files found in directory"));
        }
        let mut budget = Budget::new(path);
        let files = paths
            .iter()
            .map(|file| read_file(path, file, &mut budget))
            .collect::<Result<_, _>>()?;
        Ok(Self::Package { name, files })
    }
}

/// What may still be read of a plugin.
struct Budget<'a> {
    plugin: &'a Path,
    files: usize,
    bytes: u64,
}

impl<'a> Budget<'a> {
    fn new(plugin: &'a Path) -> Self {
        Self {
            plugin,
            files: 0,
            bytes: 0,
        }
    }

    fn read(&mut self, file: &Path) -> Result<FileContent, CommandError> {
        let too_large = |what: String| {
            Err(CommandError::message(format!(
                "{} has more than {what}; leave out what is no part of the plugin, or copy it to the plugin directory of the \
                 server",
                self.plugin.display()
            )))
        };
        self.files += 1;
        self.bytes += fs::metadata(file).map_err(CommandError::file(file))?.len();
        if self.files > FILES_MAX {
            return too_large(format!("{FILES_MAX} files"));
        }
        if self.bytes > BYTES_MAX {
            return too_large(format!("{} MiB", BYTES_MAX >> 20));
        }
        fs::read(file)
            .map(FileContent::from)
            .map_err(CommandError::file(file))
    }
}

/// The last component, also of `.` and of paths that end with a slash.
fn base_name(path: &Path) -> Result<String, CommandError> {
    let absolute = path.canonicalize().map_err(CommandError::file(path))?;
    // What the link is called, not where it points to.
    let name = path.file_name().or_else(|| absolute.file_name());
    let name = name.and_then(|name| name.to_str());
    name.map(str::to_owned)
        .ok_or_else(|| CommandError::message(format!("{} has no usable name", path.display())))
}

/// Collects what belongs to a plugin: not what is hidden, compiled or linked, nor virtual environments.
fn collect_files(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), CommandError> {
    for entry in fs::read_dir(directory).map_err(CommandError::file(directory))? {
        let entry = entry.map_err(CommandError::file(directory))?;
        let path = entry.path();
        let file_type = entry.file_type().map_err(CommandError::file(&path))?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // Links are neither: they are not followed.
        if file_type.is_dir() {
            if name != "__pycache__" && !path.join("pyvenv.cfg").exists() {
                collect_files(&path, files)?;
            }
        } else if file_type.is_file() && !has_extension(&path, "pyc") {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            // Enough to be refused; a folder chosen by mistake may have millions.
            break;
        }
    }
    Ok(())
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}

fn read_file(directory: &Path, file: &Path, budget: &mut Budget<'_>) -> Result<PluginFile, CommandError> {
    let relative = file
        .strip_prefix(directory)
        .expect("files are collected under the directory");
    let relative_path = relative
        .to_str()
        .ok_or_else(|| CommandError::message(format!("{} has a name that is not UTF-8", file.display())))?;
    Ok(PluginFile {
        relative_path: relative_path.to_owned(),
        content: budget.read(file)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alert.py");
        fs::write(&path, "pass").unwrap();
        let expected = PluginSource::File {
            name: "alert.py".into(),
            content: FileContent::Text("pass".into()),
        };
        assert_eq!(PluginSource::read(&path).unwrap(), expected);
        let error = PluginSource::read(&dir.path().join("none.py")).unwrap_err();
        assert!(error.to_string().starts_with("File not found: "), "{error}");
        let error = PluginSource::read_update(&dir.path().join("none.py")).unwrap_err();
        assert!(error.to_string().starts_with("Path does not exist: "), "{error}");
    }

    #[test]
    fn a_folder_gives_what_belongs_to_the_plugin() {
        let dir = tempfile::tempdir().unwrap();
        let package = dir.path().join("pack");
        fs::create_dir_all(package.join("inner/__pycache__")).unwrap();
        fs::write(package.join("data.json"), "{}").unwrap();
        let error = PluginSource::read_update(&package).unwrap_err();
        assert_eq!(error.to_string(), "No Python files found in directory");
        let error = PluginSource::read(&package).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("Multi-file plugin directory must contain __init__.py: "),
            "{error}"
        );

        fs::write(package.join("__init__.py"), "a").unwrap();
        fs::write(package.join("inner/helper.py"), "b").unwrap();
        fs::write(package.join("inner/__pycache__/cached.py"), "c").unwrap();
        fs::write(package.join("inner/old.pyc"), "c").unwrap();
        fs::write(package.join("logo.png"), [0, 255]).unwrap();
        fs::create_dir_all(package.join(".git")).unwrap();
        fs::write(package.join(".git/config"), "").unwrap();
        fs::write(package.join(".env"), "SECRET=1").unwrap();
        fs::create_dir_all(package.join("env/lib")).unwrap();
        fs::write(package.join("env/pyvenv.cfg"), "").unwrap();
        fs::write(package.join("env/lib/other.py"), "").unwrap();
        std::os::unix::fs::symlink(package.join("__init__.py"), package.join("link.py")).unwrap();
        let PluginSource::Package { name, files } = PluginSource::read(&package.join("")).unwrap() else {
            panic!("a folder is a package");
        };
        assert_eq!(name, "pack");
        let paths: Vec<&str> = files.iter().map(|file| file.relative_path.as_str()).collect();
        assert_eq!(paths, ["__init__.py", "data.json", "inner/helper.py", "logo.png"]);
        assert_eq!(files[1].content, FileContent::Text("{}".into()));
        assert_eq!(files[3].content, FileContent::Binary(vec![0, 255]));
    }

    #[test]
    fn a_folder_chosen_by_mistake_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("__init__.py"), "").unwrap();
        for number in 0..FILES_MAX {
            fs::write(dir.path().join(number.to_string()), "").unwrap();
        }
        let error = PluginSource::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("has more than 1000 files"), "{error}");

        let large = dir.path().join("large.py");
        let file = fs::File::create(&large).unwrap();
        file.set_len(BYTES_MAX + 1).unwrap();
        let error = PluginSource::read(&large).unwrap_err().to_string();
        assert!(error.contains("has more than 64 MiB"), "{error}");
    }
}
