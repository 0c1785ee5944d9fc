//! What is taken from the processes of plugins.

use std::fmt;
use std::path::{Path, PathBuf};

use tidemill_sandbox::{Level, Profile};

/// Why the data directory is left open to plugins: hiding it would take a directory from them that they need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The directory that they need: the plugin directory, the virtual environment or that for temporary files.
    pub needed: PathBuf,
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the data directory {} is not hidden from plugins, since it lies in {}, which they use; keep it elsewhere to have \
             it hidden",
            self.data_dir.display(),
            self.needed.display()
        )
    }
}

/// The profile for worker processes, which hides `data_dir` if there is one. Where one of the `needed` directories is or
/// contains the data directory, nothing can be hidden: no file that is new in such a directory could be opened.
pub fn worker_sandbox(
    level: Level,
    data_dir: Option<&Path>,
    needed: impl IntoIterator<Item = PathBuf>,
) -> (Profile, Option<Exposed>) {
    let open = Profile {
        level,
        ..Profile::default()
    };
    let Some(data_dir) = data_dir.filter(|_| level != Level::Off) else {
        return (open, None);
    };
    let profile = Profile {
        hidden_paths: vec![absolute(data_dir)],
        visible_paths: needed.into_iter().map(|path| absolute(&path)).collect(),
        ..open.clone()
    };
    let same = profile
        .visible_paths
        .iter()
        .find(|path| resolved(path) == resolved(data_dir))
        .cloned();
    let containing = || profile.nested().into_iter().next().map(|nested| nested.visible);
    match same.or_else(containing) {
        Some(needed) => {
            let data_dir = absolute(data_dir);
            (open, Some(Exposed { data_dir, needed }))
        }
        None => (profile, None),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Without symbolic links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| absolute(path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Folders(tempfile::TempDir);

    impl Folders {
        fn new(names: &[&str]) -> Self {
            let root = tempfile::tempdir().unwrap();
            for name in names {
                fs::create_dir_all(root.path().join(name)).unwrap();
            }
            Self(root)
        }

        /// What is hidden, and in which needed directory the data lies.
        fn check(&self, data_dir: &str, needed: &[&str]) -> (Vec<PathBuf>, Option<PathBuf>) {
            let path = |name: &&str| self.0.path().join(name);
            let (profile, exposed) = worker_sandbox(
                Level::Standard,
                Some(&self.0.path().join(data_dir)),
                needed.iter().map(path),
            );
            assert_eq!(profile.level, Level::Standard);
            let relative = |path: &Path| path.strip_prefix(self.0.path()).unwrap().to_owned();
            (
                profile.hidden_paths.iter().map(|path| relative(path)).collect(),
                exposed.map(|exposed| relative(&exposed.needed)),
            )
        }
    }

    #[test]
    fn data_beside_or_around_the_plugins_is_hidden() {
        let folders = Folders::new(&["home/data/plugins", "home/plugins", "tmp"]);
        let hidden = (vec![PathBuf::from("home/data")], None);
        assert_eq!(folders.check("home/data", &["home/plugins", "tmp"]), hidden);
        assert_eq!(folders.check("home/data", &["home/data/plugins", "tmp"]), hidden);
        assert_eq!(folders.check("home/data", &["home/not-yet"]), hidden);
    }

    #[test]
    fn data_in_what_plugins_use_is_not() {
        let folders = Folders::new(&["plugins/data", "tmp/data"]);
        symlink("plugins", folders.0.path().join("link")).unwrap();
        let exposed = |needed: &str| (vec![], Some(PathBuf::from(needed)));
        assert_eq!(
            folders.check("plugins/data", &["plugins", "tmp"]),
            exposed("plugins")
        );
        assert_eq!(folders.check("plugins", &["plugins"]), exposed("plugins"));
        assert_eq!(folders.check("plugins", &["link"]), exposed("link"));
        assert_eq!(folders.check("link/data", &["plugins"]), exposed("plugins"));
        assert_eq!(folders.check("tmp/data", &["plugins", "tmp"]), exposed("tmp"));
    }

    #[test]
    fn without_a_sandbox_and_without_files_there_is_nothing_to_hide() {
        let (profile, exposed) = worker_sandbox(Level::Off, Some(Path::new("/data")), []);
        assert_eq!((profile.level, exposed), (Level::Off, None));
        assert!(profile.hidden_paths.is_empty());
        let (profile, exposed) = worker_sandbox(Level::Strict, None, ["/plugins".into()]);
        assert_eq!((profile.level, exposed), (Level::Strict, None));
        assert!(profile.hidden_paths.is_empty());
    }
}
