//! The directories of a local store: that the names in them survive a crash.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

/// A directory could not be synced.
#[derive(Debug)]
pub(crate) struct SyncFailed {
    pub(crate) directory: PathBuf,
    pub(crate) source: io::Error,
}

/// All directories below one. Whoever asks for a sync while another one runs shares the next one with everybody else who
/// asks meanwhile, so that many new names in one directory cost few syncs.
#[derive(Debug)]
pub(crate) struct Directories {
    root: PathBuf,
    /// By path; those that were asked for.
    known: Mutex<HashMap<PathBuf, Arc<Directory>>>,
    sync: fn(&Path) -> io::Result<()>,
}

#[derive(Debug, Default)]
struct Directory {
    /// Its own name is known to survive a crash, and those of all directories above it.
    is_durable: AtomicBool,
    /// How many syncs were asked for.
    asked: AtomicU64,
    /// How many of them are served, the first ones: held during a sync.
    served: Mutex<u64>,
}

impl Directories {
    /// Those below `root`, which itself must be there.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self::with_sync(root, sync_directory)
    }

    fn with_sync(root: PathBuf, sync: fn(&Path) -> io::Result<()>) -> Self {
        Self {
            root,
            known: Mutex::default(),
            sync,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the names in the directory of `path` durable, and its own name.
    pub(crate) fn sync_parent(&self, path: &Path) -> Result<(), SyncFailed> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        self.sync(parent)?;
        // At the first use since the start, whoever made the directories may not have synced them. One beyond the root is
        // included, for the root itself may be new.
        let mut named = Vec::new();
        for path in parent
            .ancestors()
            .take_while(|ancestor| ancestor.starts_with(&self.root))
        {
            let directory = self.directory(path);
            if directory.is_durable.load(Ordering::Acquire) {
                break;
            }
            path.parent().map_or(Ok(()), |above| self.sync(above))?;
            named.push(directory);
        }
        for directory in named {
            directory.is_durable.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Makes the names in a directory durable that are there now.
    fn sync(&self, path: &Path) -> Result<(), SyncFailed> {
        let directory = self.directory(path);
        let place = directory.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut served = directory.served.lock();
        if *served >= place {
            // One that began after the name was made.
            return Ok(());
        }
        let through = directory.asked.load(Ordering::Acquire);
        (self.sync)(path).map_err(|source| SyncFailed {
            directory: path.to_owned(),
            source,
        })?;
        *served = through;
        Ok(())
    }

    fn directory(&self, path: &Path) -> Arc<Directory> {
        let mut known = self.known.lock();
        if let Some(directory) = known.get(path) {
            return Arc::clone(directory);
        }
        Arc::clone(known.entry(path.to_owned()).or_default())
    }
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Directories cannot be synced here; the file system journals names by itself.
#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        static SYNCED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    /// Notes the directory; one called `broken` cannot be synced.
    fn note(path: &Path) -> io::Result<()> {
        SYNCED.with_borrow_mut(|synced| synced.push(path.display().to_string()));
        match path.file_name() {
            Some(name) if name == "broken" => Err(io::Error::other("no")),
            _ => Ok(()),
        }
    }

    fn synced() -> Vec<String> {
        SYNCED.take()
    }

    #[test]
    fn directories_above_are_synced_until_they_are_known_to_be_durable() {
        let directories = Directories::with_sync("/data/root".into(), note);
        directories.sync_parent(Path::new("/data/root/n/1/file")).unwrap();
        assert_eq!(
            synced(),
            ["/data/root/n/1", "/data/root/n", "/data/root", "/data"]
        );
        directories
            .sync_parent(Path::new("/data/root/n/1/other"))
            .unwrap();
        assert_eq!(synced(), ["/data/root/n/1"]);
        directories.sync_parent(Path::new("/data/root/n/2/file")).unwrap();
        assert_eq!(synced(), ["/data/root/n/2", "/data/root/n"]);
    }

    #[test]
    fn a_sync_that_failed_makes_nothing_durable() {
        let directories = Directories::with_sync("/root".into(), note);
        let failed = directories
            .sync_parent(Path::new("/root/broken/1/file"))
            .unwrap_err();
        assert_eq!(failed.directory, Path::new("/root/broken"));
        assert_eq!(synced(), ["/root/broken/1", "/root/broken"]);
        directories
            .sync_parent(Path::new("/root/broken/1/file"))
            .unwrap_err();
        assert_eq!(synced(), ["/root/broken/1", "/root/broken"]);
    }

    #[test]
    fn those_who_ask_during_a_sync_share_the_next_one() {
        use std::sync::mpsc::{Receiver, Sender, channel};
        static BEGUN: Mutex<Option<Sender<()>>> = Mutex::new(None);
        static LET_GO: Mutex<Option<Receiver<()>>> = Mutex::new(None);
        fn held(_: &Path) -> io::Result<()> {
            let begun = BEGUN.lock().clone();
            begun.map_or(Ok(()), |begun| begun.send(())).unwrap();
            let let_go = LET_GO.lock();
            let_go
                .as_ref()
                .map_or(Ok(()), Receiver::recv)
                .map_err(io::Error::other)
        }
        let ((begun, has_begun), (let_go, is_let_go)) = (channel(), channel());
        (*BEGUN.lock(), *LET_GO.lock()) = (Some(begun), Some(is_let_go));
        let directories = Directories::with_sync("/root".into(), held);
        let asked = || {
            directories
                .directory(Path::new("/root"))
                .asked
                .load(Ordering::Acquire)
        };
        std::thread::scope(|scope| {
            let ask = || scope.spawn(|| directories.sync(Path::new("/root")).unwrap());
            let first = ask();
            has_begun.recv().unwrap();
            let others: Vec<_> = (0..5).map(|_| ask()).collect();
            while asked() < 6 {
                std::thread::yield_now();
            }
            let_go.send(()).unwrap();
            first.join().unwrap();
            has_begun.recv().unwrap();
            let_go.send(()).unwrap();
            for other in others {
                other.join().unwrap();
            }
            // One for the first, and one for all others.
            assert!(has_begun.try_recv().is_err());
        });
    }
}
