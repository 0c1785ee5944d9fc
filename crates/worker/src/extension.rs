//! Where the extension module of the workers lies.

use std::{
    env, io,
    path::{Path, PathBuf},
};

const FILE_NAMES: [&str; 2] = ["libtidemill_worker.so", "tidemill_worker.abi3.so"];

/// The extension module is in none of the places where an installation or a build has it.
#[derive(Debug, thiserror::Error)]
pub enum ExtensionNotFound {
    /// The path of the running program is unknown.
    #[error("cannot tell where this program lies: {0}")]
    NoExecutable(#[from] io::Error),
    /// It is not beside the program.
    #[error(
        "the Python extension module {} was not found in {}: install it beside the program or in ../lib/tidemill, \
         or build it with `cargo build --release -p tidemill-worker-py`",
        FILE_NAMES[0],
        listed(searched)
    )]
    Missing {
        /// The directories that were searched.
        searched: Vec<PathBuf>,
    },
}

fn listed(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

/// Finds the extension module that belongs to the running program: beside it, in `../lib/tidemill` of an installation,
/// or, for tests, in the build directory that holds the `deps` they lie in.
pub fn extension_path() -> Result<PathBuf, ExtensionNotFound> {
    let executable = env::current_exe()?;
    let directory = executable.parent().unwrap_or(Path::new("/"));
    find_in(&search_directories(directory))
}

fn search_directories(executable_dir: &Path) -> Vec<PathBuf> {
    let mut directories = vec![executable_dir.to_owned()];
    if let Some(parent) = executable_dir.parent() {
        if executable_dir.ends_with("deps") {
            directories.push(parent.to_owned());
        }
        directories.push(parent.join("lib/tidemill"));
    }
    directories
}

fn find_in(directories: &[PathBuf]) -> Result<PathBuf, ExtensionNotFound> {
    directories
        .iter()
        .flat_map(|directory| FILE_NAMES.iter().map(move |name| directory.join(name)))
        .find(|path| path.is_file())
        .ok_or_else(|| ExtensionNotFound::Missing {
            searched: directories.to_vec(),
        })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn it_is_found_in_an_installation_and_in_a_build() {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        let installed = root.path().join("lib/tidemill");
        fs::create_dir_all(&installed).unwrap();
        let error = find_in(&search_directories(&bin)).unwrap_err().to_string();
        assert!(error.contains(bin.to_str().unwrap()), "{error}");
        assert!(error.contains(installed.to_str().unwrap()), "{error}");

        fs::write(installed.join(FILE_NAMES[1]), "").unwrap();
        let found = find_in(&search_directories(&bin)).unwrap();
        assert_eq!(found, installed.join("tidemill_worker.abi3.so"));

        let built = root.path().join("libtidemill_worker.so");
        fs::write(&built, "").unwrap();
        let found = find_in(&search_directories(&root.path().join("deps"))).unwrap();
        assert_eq!(found, built);
    }
}
