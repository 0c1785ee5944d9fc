//! The user that plugins' processes run as (`--plugin-user`).

use std::{
    ffi::{CStr, CString, OsStr},
    fmt, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    ptr,
};

use rustix::{
    fs::Access,
    process::{Gid, Uid},
};

/// Room for the texts of an entry of the user database; names and paths are far shorter.
const ENTRY_BYTES: usize = 64 << 10;
/// As many groups as the kernel lets a process be in.
const GROUPS_MAX: usize = 65_536;

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginUser {
    name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    home: PathBuf,
}

/// Why plugins cannot run as the user that was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginUserError {
    /// Only root may start processes as somebody else.
    #[error(
        "plugins can only run as the user {user} if the server is started as root, it runs as user {uid}: \
         start it as root, or without --plugin-user"
    )]
    NotRoot {
        /// As given.
        user: String,
        /// The server's own.
        uid: u32,
    },
    /// There is no such user.
    #[error("--plugin-user {user}: this machine has no such user; make it with useradd, or name another")]
    Unknown {
        /// As given.
        user: String,
    },
    /// The user database cannot be read.
    #[error("--plugin-user {user}: cannot look the user up: {source}")]
    Lookup {
        /// As given.
        user: String,
        /// What the system said.
        source: io::Error,
    },
    /// What plugins need is closed to the user.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// A file or directory is closed to the user of the plugins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "plugins run as the user {user}, which cannot {access} {}{}: change its mode or owner, or move it",
    path.display(),
    Blocker { path, blocker }
)]
pub struct Unreadable {
    /// The user.
    pub user: String,
    /// `read`, `execute` or `write`.
    pub access: &'static str,
    /// What it should have access to.
    pub path: PathBuf,
    /// The file or directory whose mode is in the way.
    pub blocker: PathBuf,
}

struct Blocker<'a> {
    path: &'a Path,
    blocker: &'a Path,
}

impl fmt::Display for Blocker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path == self.blocker {
            return Ok(());
        }
        write!(f, ", since {} is closed to it", self.blocker.display())
    }
}

/// What a user has to be able to do with a file or directory, which includes the way there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Read a file.
    Read,
    /// List a directory and open what is in it, or execute a file.
    Enter,
    /// Change what is in a directory.
    Write,
}

impl Need {
    fn access(self) -> Access {
        match self {
            Self::Read => Access::READ_OK,
            Self::Enter => Access::READ_OK | Access::EXEC_OK,
            Self::Write => Access::READ_OK | Access::EXEC_OK | Access::WRITE_OK,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Enter => "read and enter",
            Self::Write => "write to",
        }
    }
}

impl PluginUser {
    /// Looks a user up by name or number, and checks that this process may start others as that user.
    pub fn find(user: &str) -> Result<Self, PluginUserError> {
        let found = Self::look_up(user).map_err(|source| PluginUserError::Lookup {
            user: user.to_owned(),
            source,
        })?;
        let found = found.ok_or_else(|| PluginUserError::Unknown {
            user: user.to_owned(),
        })?;
        if !rustix::process::geteuid().is_root() {
            return Err(PluginUserError::NotRoot {
                user: user.to_owned(),
                uid: rustix::process::geteuid().as_raw(),
            });
        }
        Ok(found)
    }

    fn look_up(user: &str) -> io::Result<Option<Self>> {
        let Ok(name) = CString::new(user) else {
            return Ok(None);
        };
        let mut texts = vec![0; ENTRY_BYTES];
        let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
        let mut found = ptr::null_mut();
        // A name that consists of digits is a number, as other tools have it.
        let error = if let Ok(uid) = user.parse::<libc::uid_t>() {
            // SAFETY: the pointers are to places that live until the call returns, with the length that is said.
            unsafe {
                libc::getpwuid_r(
                    uid,
                    entry.as_mut_ptr(),
                    texts.as_mut_ptr(),
                    texts.len(),
                    &raw mut found,
                )
            }
        } else {
            // SAFETY: as above, and the name ends with a zero.
            unsafe {
                libc::getpwnam_r(
                    name.as_ptr(),
                    entry.as_mut_ptr(),
                    texts.as_mut_ptr(),
                    texts.len(),
                    &raw mut found,
                )
            }
        };
        if found.is_null() {
            return match error {
                // The ways in which systems say that there is no entry.
                0 | libc::ENOENT | libc::ESRCH | libc::EPERM => Ok(None),
                error => Err(io::Error::from_raw_os_error(error)),
            };
        }
        // SAFETY: an entry was found, so it is initialised, and its texts are in `texts`, which is alive.
        let (entry, name, home) = unsafe {
            let entry = entry.assume_init();
            (entry, CStr::from_ptr(entry.pw_name), CStr::from_ptr(entry.pw_dir))
        };
        Ok(Some(Self {
            name: name.to_string_lossy().into_owned(),
            uid: Uid::from_raw(entry.pw_uid),
            gid: Gid::from_raw(entry.pw_gid),
            groups: groups_of(name, entry.pw_gid)?,
            home: OsStr::from_bytes(home.to_bytes()).into(),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// Its home directory, which need not exist.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Gives a file or directory to the user.
    pub(crate) fn own(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::chown(path, Some(self.uid), Some(self.gid))?)
    }

    /// Checks that the user has access to all these paths, by asking the kernel as that user.
    pub fn check(&self, needs: &[(PathBuf, Need)]) -> Result<(), Unreadable> {
        // Links are followed by the server, which can.
        let needs: Vec<(PathBuf, PathBuf, Need)> = needs
            .iter()
            .map(|(path, need)| {
                let real = path.canonicalize().unwrap_or_else(|_| path.clone());
                (path.clone(), real, *need)
            })
            .collect();
        let checked = std::thread::scope(|scope| {
            let checking = scope.spawn(|| {
                // The kernel has users by thread, and this one ends here.
                self.become_it().map_err(io::Error::from)?;
                Ok(needs
                    .iter()
                    .find_map(|(path, real, need)| self.denied(path, real, *need)))
            });
            checking
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        // What a process may be looked into by follows the users of its threads.
        let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable);
        match checked {
            Ok(None) => Ok(()),
            Ok(Some(unreadable)) => Err(unreadable),
            Err(error) => {
                // Workers and tools report it with the file that they then cannot open.
                let error: io::Error = error;
                tracing::warn!(user = self.name, %error, "cannot check what the user of plugins may read");
                Ok(())
            }
        }
    }

    /// Run as the user: what keeps it from `path`, if anything.
    fn denied(&self, path: &Path, real: &Path, need: Need) -> Option<Unreadable> {
        let may = |path: &Path, access: Access| {
            let flags = rustix::fs::AtFlags::EACCESS;
            rustix::fs::accessat(rustix::fs::CWD, path, access, flags)
        };
        let mut above: Vec<&Path> = real.ancestors().skip(1).collect();
        above.reverse();
        let closed = above
            .into_iter()
            .find(|directory| may(directory, Access::EXEC_OK) == Err(rustix::io::Errno::ACCESS));
        let blocker = match closed {
            Some(directory) => directory,
            None if may(real, need.access()) == Err(rustix::io::Errno::ACCESS) => real,
            None => return None,
        };
        Some(Unreadable {
            user: self.name.clone(),
            access: need.name(),
            path: path.to_owned(),
            blocker: blocker.to_owned(),
        })
    }

    /// Makes the calling thread the user's, for ever. Async-signal-safe. To be called by root.
    pub(crate) fn become_it(&self) -> rustix::io::Result<()> {
        rustix::thread::set_thread_groups(&self.groups)?;
        rustix::thread::set_thread_res_gid(self.gid, self.gid, self.gid)?;
        rustix::thread::set_thread_res_uid(self.uid, self.uid, self.uid)
    }
}

/// All groups of a user.
fn groups_of(name: &CStr, gid: libc::gid_t) -> io::Result<Vec<Gid>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut count = groups.len() as libc::c_int;
        // SAFETY: the name ends with a zero, and there is room for `count` groups.
        let result = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        if result >= 0 {
            groups.truncate(count as usize);
            return Ok(groups.into_iter().map(Gid::from_raw).collect());
        }
        if groups.len() >= GROUPS_MAX {
            return Err(io::Error::other("it is in too many groups"));
        }
        groups.resize(groups.len() * 4, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let by_name = PluginUser::look_up("root").unwrap().unwrap();
        let by_number = PluginUser::look_up("0").unwrap().unwrap();
        assert_eq!(by_name, by_number);
        assert_eq!((by_name.name(), by_name.uid()), ("root", 0));
        assert!(by_name.groups.contains(&Gid::ROOT));
        for unknown in ["no-such-user", "4242424242", "", "a\0b"] {
            assert_eq!(PluginUser::look_up(unknown).unwrap(), None, "{unknown:?}");
        }
        let error = PluginUser::find("no-such-user").unwrap_err().to_string();
        assert!(error.contains("no such user"), "{error}");
    }

    #[test]
    fn only_root_may_choose() {
        let found = PluginUser::find("root");
        if rustix::process::geteuid().is_root() {
            found.unwrap();
        } else {
            let error = found.unwrap_err().to_string();
            assert!(error.contains("started as root"), "{error}");
        }
    }

    #[test]
    fn what_is_closed_is_named_with_what_closes_it() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let nobody = PluginUser::find("nobody").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let file = root.join("inner/file");
        fs::create_dir(root.join("inner")).unwrap();
        fs::write(&file, "").unwrap();
        let check = |need| nobody.check(&[(file.clone(), need)]);
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();

        mode(&root, 0o711);
        mode(&root.join("inner"), 0o700);
        let unreadable = check(Need::Read).unwrap_err();
        assert_eq!(unreadable.blocker, root.join("inner"));
        let text = unreadable.to_string();
        assert!(text.contains("the user nobody, which cannot read"), "{text}");
        assert!(text.contains("inner is closed to it"), "{text}");
        mode(&root.join("inner"), 0o711);
        assert_eq!(check(Need::Read), Ok(()));
        assert_eq!(check(Need::Write).unwrap_err().blocker, file);
        nobody.own(&file).unwrap();
        mode(&file, 0o700);
        assert_eq!(check(Need::Write), Ok(()));
        // This thread is still root's.
        assert!(rustix::process::geteuid().is_root());
    }
}
