//! Which places are hidden and which stay open, with symbolic links resolved.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::mounts::Mounts;
use crate::profile::Nested;

/// As many links as the kernel follows.
const LINKS_MAX: usize = 40;

/// Hidden and visible places. All paths in it are absolute and lead over no symbolic link, as far as they exist.
pub(crate) struct Layout {
    hidden: BTreeSet<PathBuf>,
    visible: BTreeSet<PathBuf>,
}

/// What is to become of a directory or file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It is open with all below it.
    Open,
    /// It is closed with all below it.
    Closed,
    /// Something below it is hidden: its entries are open, but for those that have an answer of their own, which are among these.
    Spine(BTreeSet<OsString>),
    /// Something below it is open: its entries are closed, but for these names.
    ClosedExcept(BTreeSet<OsString>),
}

impl Layout {
    pub(crate) fn new(hidden_paths: &[PathBuf], visible_paths: &[PathBuf]) -> Self {
        Self::with_mounts(hidden_paths, visible_paths, &Mounts::of_this_process())
    }

    fn with_mounts(hidden_paths: &[PathBuf], visible_paths: &[PathBuf], mounts: &Mounts) -> Self {
        let mut hidden: BTreeSet<PathBuf> = hidden_paths.iter().flat_map(|path| locations(path)).collect();
        // Of two equal marks the hiding one counts.
        let visible: BTreeSet<PathBuf> = visible_paths
            .iter()
            .filter_map(|path| fs::canonicalize(path).ok())
            .filter(|path| !hidden.contains(path))
            .collect();
        // But a part of the data directory that is mounted as the plugin directory is meant to be seen there.
        let aliases: Vec<PathBuf> = hidden
            .iter()
            .flat_map(|path| mounts.aliases(path))
            .filter(|alias| !visible.contains(alias))
            .collect();
        hidden.extend(aliases);
        Self { hidden, visible }
    }

    /// Decides about one path; the innermost mark above it counts, and unmarked paths are open.
    pub(crate) fn access(&self, path: &Path) -> Access {
        if self.is_open(path) {
            let mut marked = next_names(&self.hidden, path);
            if marked.is_empty() {
                return Access::Open;
            }
            // They must be reached also where the directory cannot be listed.
            marked.extend(next_names(&self.visible, path));
            Access::Spine(marked)
        } else {
            let marked = next_names(&self.visible, path);
            if marked.is_empty() {
                return Access::Closed;
            }
            Access::ClosedExcept(marked)
        }
    }

    fn is_open(&self, path: &Path) -> bool {
        for place in path.ancestors() {
            if self.hidden.contains(place) {
                return false;
            }
            if self.visible.contains(place) {
                return true;
            }
        }
        true
    }

    /// Places that no rule may open by another name of theirs: the hidden ones and all directories above them. None of them
    /// is [`Access::Open`].
    pub(crate) fn guarded(&self) -> BTreeSet<&Path> {
        self.hidden.iter().flat_map(|path| path.ancestors()).collect()
    }

    /// A layout that leaves everything open.
    pub(crate) fn open() -> Self {
        Self {
            hidden: BTreeSet::new(),
            visible: BTreeSet::new(),
        }
    }

    pub(crate) fn hides_everything(&self) -> bool {
        self.hidden.contains(Path::new("/"))
    }

    pub(crate) fn nested(&self) -> Vec<Nested> {
        let mut nested = Vec::new();
        for visible in &self.visible {
            for hidden in self.hidden.iter().filter(|hidden| hidden.starts_with(visible)) {
                nested.push(Nested {
                    visible: visible.clone(),
                    hidden: hidden.clone(),
                });
            }
        }
        nested
    }
}

/// The entries of `directory` through which marks below it are reached.
fn next_names(marks: &BTreeSet<PathBuf>, directory: &Path) -> BTreeSet<OsString> {
    let below = marks.iter().filter_map(|mark| mark.strip_prefix(directory).ok());
    below
        .filter_map(|rest| rest.iter().next().map(OsStr::to_owned))
        .collect()
}

/// What has to be out of reach for `path` to be: every symbolic link on the way to it, or somebody could put another in its
/// place, and what it leads to, even if that does not exist yet.
fn locations(path: &Path) -> Vec<PathBuf> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut locations = Vec::new();
    let mut resolved = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = absolute.iter().map(OsStr::to_owned).collect();
    while let Some(name) = ahead.pop_front() {
        match Path::new(&name).components().next() {
            Some(Component::RootDir) => resolved = PathBuf::from("/"),
            Some(Component::ParentDir) => drop(resolved.pop()),
            Some(Component::Normal(name)) => {
                resolved.push(name);
                if locations.len() < LINKS_MAX
                    && let Ok(target) = fs::read_link(&resolved)
                {
                    locations.push(resolved.clone());
                    resolved.pop();
                    for name in target.iter().rev() {
                        ahead.push_front(name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    locations.push(resolved);
    locations
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(names: &[&str]) -> BTreeSet<OsString> {
        names.iter().map(OsString::from).collect()
    }

    fn layout(hidden: &[&str], visible: &[&str]) -> Layout {
        let paths = |texts: &[&str]| texts.iter().map(PathBuf::from).collect();
        Layout {
            hidden: paths(hidden),
            visible: paths(visible),
        }
    }

    #[test]
    fn nothing_hidden_leaves_the_root_open() {
        assert_eq!(layout(&[], &[]).access(Path::new("/")), Access::Open);
        assert_eq!(layout(&[], &["/plugins"]).access(Path::new("/")), Access::Open);
    }

    #[test]
    fn siblings_along_the_way_are_open() {
        let layout = layout(&["/var/lib/data", "/var/token"], &[]);
        assert_eq!(layout.access(Path::new("/")), Access::Spine(names(&["var"])));
        assert_eq!(
            layout.access(Path::new("/var")),
            Access::Spine(names(&["lib", "token"]))
        );
        assert_eq!(
            layout.access(Path::new("/var/lib")),
            Access::Spine(names(&["data"]))
        );
        assert_eq!(layout.access(Path::new("/var/lib/data")), Access::Closed);
        assert_eq!(layout.access(Path::new("/var/lib/data/x")), Access::Closed);
        assert_eq!(layout.access(Path::new("/var/lib/database")), Access::Open);
        assert_eq!(layout.access(Path::new("/usr")), Access::Open);
    }

    #[test]
    fn the_innermost_mark_counts() {
        let layout = layout(&["/data", "/data/plugins/secret"], &["/data/plugins"]);
        assert_eq!(
            layout.access(Path::new("/data")),
            Access::ClosedExcept(names(&["plugins"]))
        );
        assert_eq!(
            layout.access(Path::new("/data/plugins")),
            Access::Spine(names(&["secret"]))
        );
        assert_eq!(layout.access(Path::new("/data/plugins/secret")), Access::Closed);
        assert_eq!(layout.access(Path::new("/data/plugins/code.py")), Access::Open);
        assert_eq!(layout.access(Path::new("/data/wal")), Access::Closed);
        assert_eq!(
            layout.nested(),
            [Nested {
                visible: "/data/plugins".into(),
                hidden: "/data/plugins/secret".into(),
            }]
        );
    }

    #[test]
    fn an_open_directory_in_a_hidden_one_is_not_guarded() {
        let layout = layout(&["/srv/data"], &["/srv/data/plugins"]);
        let guarded: Vec<&Path> = layout.guarded().into_iter().collect();
        assert_eq!(
            guarded,
            [Path::new("/"), Path::new("/srv"), Path::new("/srv/data")]
        );
        assert_eq!(layout.nested(), []);
    }

    #[test]
    fn links_are_hidden_with_what_they_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("disk/store")).unwrap();
        symlink("disk", root.join("link")).unwrap();
        symlink(root.join("link/store"), root.join("data")).unwrap();
        assert_eq!(
            locations(&root.join("data")),
            [root.join("data"), root.join("link"), root.join("disk/store")]
        );
        assert_eq!(
            locations(&root.join("link/store/../new/file")),
            [root.join("link"), root.join("disk/new/file")]
        );
    }

    #[test]
    fn a_link_to_itself_ends() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let places: BTreeSet<PathBuf> = locations(&root.join("loop")).into_iter().collect();
        assert_eq!(places, BTreeSet::from([root.join("loop")]));
    }

    #[test]
    fn a_missing_path_is_hidden_where_it_would_be() {
        assert_eq!(
            locations(Path::new("/nowhere/at/all")),
            [PathBuf::from("/nowhere/at/all")]
        );
    }

    #[test]
    fn a_mounted_part_of_the_data_directory_may_be_the_plugin_directory() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        for name in ["plugins", "copy"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        let mount = |inside: &str, point: &str| format!("2 1 8:1 {inside} {}/{point} rw\n", root.display());
        let table = [
            mount("/", "data"),
            mount("/plugins", "plugins"),
            mount("/wal", "copy"),
        ]
        .concat();
        let mounts = Mounts::parse(table.as_bytes());
        let layout = Layout::with_mounts(&[root.join("data")], &[root.join("plugins")], &mounts);
        assert_eq!(layout.access(&root.join("plugins")), Access::Open);
        assert_eq!(layout.access(&root.join("copy")), Access::Closed);
        assert_eq!(layout.access(&root.join("data")), Access::Closed);
    }

    #[test]
    fn of_equal_marks_the_hiding_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let both = [root.clone()];
        assert_eq!(Layout::new(&both, &both).access(&root), Access::Closed);
    }
}
