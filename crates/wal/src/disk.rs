//! The file operations the log needs, as a trait: tests put a disk that fails and crashes in their place.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::WalError;

const LOCK_NAME: &str = "lock";

/// One directory, whose files are known by their names.
pub trait Disk: Send + Sync {
    /// The path of a file, for error texts; of the directory itself if `name` is empty.
    fn path(&self, name: &str) -> PathBuf;

    /// The names of all files, in any order.
    fn names(&self) -> io::Result<Vec<String>>;

    /// A new file for appending; one that exists under this name is emptied.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// An existing file for reading and appending.
    fn open_append(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// An existing file for reading.
    fn open_read(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, replacing a file that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Handles that are open keep reading it.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals durable.
    fn sync_names(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Reads at most `buffer.len()` bytes; 0 only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all parts, in order, to the end of the file. On an error a part of them may have been written.
    fn append(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()>;

    /// Cuts the file to this length.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// Makes the bytes and the length durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// Fills the buffer, or fails with `UnexpectedEof`.
pub(crate) fn read_fully_at(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    FileBytes { file, offset }.read_exact(buffer)
}

/// A file as a byte stream from an offset on.
pub(crate) struct FileBytes<'a> {
    pub(crate) file: &'a dyn DiskFile,
    pub(crate) offset: u64,
}

impl Read for FileBytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// A directory of the operating system, locked against other processes as long as this value lives.
#[derive(Debug)]
pub struct OsDisk {
    directory: PathBuf,
    /// Open on the directory, to sync it.
    names: File,
    _lock: File,
}

impl OsDisk {
    /// Creates the directory if it is missing (durably) and takes its lock.
    ///
    /// Errors: [`WalError::Locked`] if another process (or another log of this one) holds the directory,
    /// [`WalError::Io`].
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, WalError> {
        let directory = directory.into();
        create_directory_durably(&directory)?;
        let names = File::open(&directory).map_err(WalError::io("open", &directory))?;
        let lock = take_lock(&directory)?;
        Ok(Self {
            directory,
            names,
            _lock: lock,
        })
    }
}

impl Disk for OsDisk {
    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            self.directory.clone()
        } else {
            self.directory.join(name)
        }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        std::fs::read_dir(&self.directory)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let path = self.path(name);
        // Appending keeps the place right after a truncation, so the file is emptied in a step of its own.
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        file.set_len(0)?;
        Ok(Box::new(OsFile(file)))
    }

    fn open_append(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OsFile(
            OpenOptions::new().read(true).append(true).open(self.path(name))?,
        )))
    }

    fn open_read(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OsFile(File::open(self.path(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.names.sync_all()
    }
}

struct OsFile(File);

impl DiskFile for OsFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn append(&mut self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        // Empty parts at the front would make a write of nothing look like a full disk.
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.0.write_vectored(parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut parts, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

fn create_directory_durably(directory: &Path) -> Result<(), WalError> {
    let missing: Vec<&Path> = directory
        .ancestors()
        .take_while(|ancestor| !ancestor.exists())
        .collect();
    std::fs::create_dir_all(directory).map_err(WalError::io("create", directory))?;
    for created in missing.into_iter().rev() {
        let parent = match created.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => continue,
        };
        File::open(parent)
            .and_then(|names| names.sync_all())
            .map_err(WalError::io("sync", parent))?;
    }
    Ok(())
}

fn take_lock(directory: &Path) -> Result<File, WalError> {
    let path = directory.join(LOCK_NAME);
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(WalError::io("open", &path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(WalError::Locked {
                path: directory.to_path_buf(),
                holder: holder_of(&mut lock),
            });
        }
        Err(TryLockError::Error(source)) => return Err(WalError::io("lock", &path)(source)),
    }
    // The process id only makes the other process's error text better; the lock holds without it (full disk).
    let written = lock
        .set_len(0)
        .and_then(|()| lock.write_all(std::process::id().to_string().as_bytes()));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "cannot write the process id into the lock file");
    }
    Ok(lock)
}

fn holder_of(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.seek(SeekFrom::Start(0)).ok()?;
    lock.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
