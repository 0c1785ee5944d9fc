//! Plugins on this machine that are to be sent to the server.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tidemill_client::PluginFile;

use crate::failure::CommandError;

/// A plugin read from disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PluginSource {
    /// A single file.
    File {
        /// Its name without folders.
        name: String,
        content: String,
    },
    /// A folder with `__init__.py`.
    Package {
        /// Name of the folder.
        name: String,
        /// Its Python files.
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
            let content = fs::read_to_string(path).map_err(CommandError::file(path))?;
            return Ok(Self::File { name, content });
        }
        let mut paths = Vec::new();
        collect_python_files(path, &mut paths)?;
        paths.sort();
        if paths.is_empty() {
            return Err(CommandError::message("No Python files found in directory"));
        }
        let files = paths
            .iter()
            .map(|file| read_file(path, file))
            .collect::<Result<_, _>>()?;
        Ok(Self::Package { name, files })
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

fn collect_python_files(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), CommandError> {
    for entry in fs::read_dir(directory).map_err(CommandError::file(directory))? {
        let entry = entry.map_err(CommandError::file(directory))?;
        let path = entry.path();
        let file_type = entry.file_type().map_err(CommandError::file(&path))?;
        // Links are neither: they are not followed.
        if file_type.is_dir() && entry.file_name() != "__pycache__" {
            collect_python_files(&path, files)?;
        } else if file_type.is_file() && path.extension().is_some_and(|extension| extension == "py") {
            files.push(path);
        }
    }
    Ok(())
}

fn read_file(directory: &Path, file: &Path) -> Result<PluginFile, CommandError> {
    let relative = file
        .strip_prefix(directory)
        .expect("files are collected under the directory");
    let relative_path = relative
        .to_str()
        .ok_or_else(|| CommandError::message(format!("{} has a name that is not UTF-8", file.display())))?;
    Ok(PluginFile {
        relative_path: relative_path.to_owned(),
        content: fs::read_to_string(file).map_err(CommandError::file(file))?,
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
            content: "pass".into(),
        };
        assert_eq!(PluginSource::read(&path).unwrap(), expected);
        let error = PluginSource::read(&dir.path().join("none.py")).unwrap_err();
        assert!(error.to_string().starts_with("File not found: "), "{error}");
        let error = PluginSource::read_update(&dir.path().join("none.py")).unwrap_err();
        assert!(error.to_string().starts_with("Path does not exist: "), "{error}");
    }

    #[test]
    fn a_folder_gives_its_python_files() {
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
        std::os::unix::fs::symlink(package.join("__init__.py"), package.join("link.py")).unwrap();
        let PluginSource::Package { name, files } = PluginSource::read(&package.join("")).unwrap() else {
            panic!("a folder is a package");
        };
        assert_eq!(name, "pack");
        let paths: Vec<&str> = files.iter().map(|file| file.relative_path.as_str()).collect();
        assert_eq!(paths, ["__init__.py", "inner/helper.py"]);
    }
}
