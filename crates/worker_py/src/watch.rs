//! Notices edits: the files that a loaded plugin consists of, and how they looked when they were read.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use parking_lot::Mutex;
use pyo3::prelude::*;

/// The list that the loader fills while it loads, and the executors ask before each run.
#[pyclass(frozen)]
#[derive(Default)]
pub(crate) struct Watch {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    files: Vec<(PathBuf, Stamp)>,
    folders: Vec<Folder>,
    checked: Option<Instant>,
}

/// What tells one content of a path from another without reading it; `None` if there is nothing at the path.
type Stamp = Option<(i64, i64, u64, u64)>;

/// A folder in which a new source file may change what an import finds.
struct Folder {
    path: PathBuf,
    stamp: Stamp,
    sources: Vec<OsString>,
}

impl Watch {
    /// Whether something changed since it was read, as far as anybody could tell at `moment`. Costs a system call a file,
    /// but none if the last answer is younger than `moment`.
    pub(crate) fn changed_before(&self, moment: Instant) -> bool {
        let mut state = self.state.lock();
        if state.checked.is_some_and(|checked| checked >= moment) {
            return false;
        }
        let now = Instant::now();
        let changed = state.is_changed();
        if !changed {
            state.checked = Some(now);
        }
        changed
    }
}

#[pymethods]
impl Watch {
    fn add_file(&self, path: PathBuf) {
        let stamp = stamp_of(&path);
        let mut state = self.state.lock();
        if state.files.iter().all(|(known, _)| *known != path) {
            state.files.push((path, stamp));
        }
    }

    fn add_folder(&self, path: PathBuf) {
        let mut state = self.state.lock();
        if state.folders.iter().any(|known| known.path == path) {
            return;
        }
        state.folders.push(Folder {
            stamp: stamp_of(&path),
            sources: sources_in(&path),
            path,
        });
    }

    fn clear(&self) {
        *self.state.lock() = State::default();
    }

    fn changed(&self) -> bool {
        self.state.lock().is_changed()
    }
}

impl State {
    /// A plugin that is gone is not changed: what was loaded runs on (`spec/engine.md` 6.3), also while its files are
    /// being replaced one by one.
    fn is_changed(&mut self) -> bool {
        let is_gone = self
            .files
            .first()
            .is_some_and(|(main, _)| stamp_of(main).is_none());
        if is_gone {
            return false;
        }
        self.files.iter().any(|(path, stamp)| stamp_of(path) != *stamp)
            || self.folders.iter_mut().any(Folder::has_other_sources)
    }
}

impl Folder {
    /// A plugin may keep files of its own beside its source: only source files that come or go count.
    fn has_other_sources(&mut self) -> bool {
        let stamp = stamp_of(&self.path);
        if stamp == self.stamp {
            return false;
        }
        if sources_in(&self.path) != self.sources {
            return true;
        }
        self.stamp = stamp;
        false
    }
}

fn stamp_of(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.size(),
        metadata.ino(),
    ))
}

fn sources_in(folder: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<OsString> = entries
        .map(|entry| entry.file_name())
        .filter(|name| {
            Path::new(name)
                .extension()
                .is_some_and(|extension| extension == "py")
        })
        .collect();
    names.sort_unstable();
    names
}
