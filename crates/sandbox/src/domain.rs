//! Landlock: the domain that the process enters, and the rules that leave open whatever is not hidden.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fmt, io, ptr};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::applied::{Outcome, State};
use crate::layout::{Access, Layout};
use crate::profile::{Level, Profile};

/// As many entries of a directory on the spine are opened; the rest stays closed.
pub const ENTRIES_MAX: usize = 65_536;

/// The first version that can let files be linked and renamed between directories.
const ABI_WITH_REFER: u32 = 2;
/// The first version that has something to say about signals.
const ABI_WITH_SCOPES: u32 = 6;

/// What has become of the measures that Landlock stands for.
pub(crate) struct Domain {
    pub(crate) hidden_paths: Outcome,
    pub(crate) other_processes: Outcome,
    pub(crate) signals: Outcome,
    /// The version of Landlock in force. `None`: there is no domain.
    pub(crate) landlock_abi: Option<u32>,
}

impl Domain {
    /// Without a domain all that is wanted has the same fate.
    fn none(hides: bool, outcome: Outcome) -> Self {
        Self {
            hidden_paths: if hides {
                outcome.clone()
            } else {
                Outcome::not_requested()
            },
            other_processes: outcome.clone(),
            signals: outcome,
            landlock_abi: None,
        }
    }
}

/// Enters a domain at the levels that have one. A domain shuts other processes out even where no path is hidden.
pub(crate) fn enter(profile: &Profile) -> Domain {
    if profile.level == Level::Off {
        return Domain::none(false, Outcome::not_requested());
    }
    let hides = !profile.hidden_paths.is_empty();
    let abi = match kernel_abi() {
        Ok(abi) => abi,
        Err(reason) => return Domain::none(hides, Outcome::unsupported(reason)),
    };
    let mut hidden_paths = Outcome::not_requested();
    let mut is_entered = false;
    if hides {
        hidden_paths = match hide(profile) {
            Ok(opened) => Outcome::in_force(opened.note(abi)),
            Err(reason) => Outcome::failed(reason),
        };
        is_entered = hidden_paths.state == State::InForce;
    }
    // What cannot be hidden is no reason to let go of the rest.
    if !is_entered && let Err(reason) = restrict(&Layout::open(), profile.level) {
        let mut domain = Domain::none(false, Outcome::failed(reason));
        domain.hidden_paths = hidden_paths;
        return domain;
    }
    let signals = if abi >= ABI_WITH_SCOPES {
        Outcome::in_force("")
    } else {
        Outcome::unsupported(format!(
            "needs Landlock ABI {ABI_WITH_SCOPES}, the kernel has {abi}"
        ))
    };
    Domain {
        hidden_paths,
        other_processes: Outcome::in_force(""),
        signals,
        landlock_abi: Some(abi),
    }
}

fn hide(profile: &Profile) -> Result<Opened, String> {
    let layout = Layout::new(&profile.hidden_paths, &profile.visible_paths);
    if layout.hides_everything() {
        return Err("`/` cannot be hidden".to_owned());
    }
    restrict(&layout, profile.level)
}

/// The version of Landlock that the kernel has, or why it has none.
fn kernel_abi() -> Result<u32, String> {
    const CREATE_RULESET_VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call takes no structure and only returns a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<libc::c_void>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    if version > 0 {
        return Ok(version as u32);
    }
    let error = io::Error::last_os_error();
    Err(match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "Landlock is not enabled; boot with `landlock` in lsm=".to_owned(),
        Some(libc::ENOSYS) => "this kernel has no Landlock".to_owned(),
        _ => format!("Landlock: {error}"),
    })
}

/// Rights that are refused where no rule gives them.
fn handled() -> BitFlags<AccessFs> {
    AccessFs::from_all(ABI::V3)
}

/// Rights that a rule gives. Device nodes are made by nobody: they would be another way to the disk.
fn given_to_directories() -> BitFlags<AccessFs> {
    handled() & !(AccessFs::MakeChar | AccessFs::MakeBlock)
}

fn given_to_files() -> BitFlags<AccessFs> {
    AccessFs::from_file(ABI::V3)
}

fn restrict(layout: &Layout, level: Level) -> Result<Opened, String> {
    let ruleset = create(level).map_err(said)?;
    let (ruleset, opened) = Opener::new(layout, ruleset).open_all()?;
    let status = ruleset.restrict_self().map_err(said)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(opened),
        RulesetStatus::NotEnforced => Err("the kernel has not taken the rules".to_owned()),
    }
}

fn create(level: Level) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default()
        .handle_access(handled())?
        .scope(Scope::Signal)?;
    if level == Level::Strict {
        // No rule gives them. The filter of system calls does this too, and more; two are harder to get round than one.
        ruleset = ruleset
            .handle_access(AccessNet::from_all(ABI::V4))?
            .scope(Scope::AbstractUnixSocket)?;
    }
    ruleset.create()
}

fn said(error: RulesetError) -> String {
    format!("Landlock: {error}")
}

/// Directories on the spine, as far as the report has to tell.
#[derive(Default)]
struct Opened {
    spine: Vec<PathBuf>,
    /// Their entries could not be listed, so that all of them are closed, but for those with a mark.
    unlisted: Vec<PathBuf>,
    /// They have more entries than are opened.
    crowded: Vec<PathBuf>,
}

impl Opened {
    fn note(&self, abi: u32) -> String {
        let mut parts = vec![format!(
            "new or replaced entries of {} stay closed",
            Paths(&self.spine)
        )];
        if !self.unlisted.is_empty() {
            parts.push(format!("all entries of {} are closed", Paths(&self.unlisted)));
        }
        if !self.crowded.is_empty() {
            let crowded = Paths(&self.crowded);
            parts.push(format!("all but {ENTRIES_MAX} entries of {crowded} are closed"));
        }
        if abi < ABI_WITH_REFER {
            parts.push("files cannot be moved between directories".to_owned());
        }
        parts.join("; ")
    }
}

struct Paths<'a>(&'a [PathBuf]);

impl fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, path) in self.0.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}{}", path.display())?;
        }
        Ok(())
    }
}

/// A file's identity, whatever name it is come to by.
type Identity = (u64, u64);

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// Goes down the tree as far as it must and adds a rule for all that is open. Everything is reached through descriptors and
/// without following links, so that nobody can put something else in its place meanwhile.
struct Opener<'a> {
    layout: &'a Layout,
    rules: RulesetCreated,
    /// Rules are about files, not about names: a hard link to a hidden file, or a bind mount of a directory above one, gets
    /// none, or it would open what is hidden.
    guarded: HashSet<Identity>,
    opened: Opened,
}

impl<'a> Opener<'a> {
    fn new(layout: &'a Layout, rules: RulesetCreated) -> Self {
        let guarded = layout
            .guarded()
            .into_iter()
            .filter_map(|path| rustix::fs::lstat(path).ok())
            .map(|stat| identity(&stat))
            .collect();
        Self {
            layout,
            rules,
            guarded,
            opened: Opened::default(),
        }
    }

    fn open_all(mut self) -> Result<(RulesetCreated, Opened), String> {
        let root = open_path(rustix::fs::CWD, c"/").map_err(|error| format!("cannot open /: {error}"))?;
        self.visit(Path::new("/"), root)?;
        Ok((self.rules, self.opened))
    }

    fn visit(&mut self, path: &Path, fd: OwnedFd) -> Result<(), String> {
        match self.layout.access(path) {
            Access::Closed => Ok(()),
            Access::Open => self.open(path, &fd),
            Access::ClosedExcept(names) => {
                for name in &names {
                    self.visit_entry(path, fd.as_fd(), name)?;
                }
                Ok(())
            }
            Access::Spine(mut names) => {
                self.opened.spine.push(path.to_owned());
                match entries(fd.as_fd()) {
                    Ok(listed) if listed.len() > ENTRIES_MAX => {
                        self.opened.crowded.push(path.to_owned());
                        names.extend(listed.into_iter().take(ENTRIES_MAX));
                    }
                    Ok(listed) => names.extend(listed),
                    Err(error) if path == Path::new("/") => return Err(format!("cannot list /: {error}")),
                    Err(_) => self.opened.unlisted.push(path.to_owned()),
                }
                for name in &names {
                    self.visit_entry(path, fd.as_fd(), name)?;
                }
                Ok(())
            }
        }
    }

    fn visit_entry(&mut self, parent: &Path, parent_fd: BorrowedFd<'_>, name: &OsStr) -> Result<(), String> {
        // What cannot be opened by name alone is out of everybody's reach: it is gone, or the parent may not be searched.
        let Ok(fd) = CString::new(name.as_bytes())
            .map_err(|_| Errno::INVAL)
            .and_then(|name| open_path(parent_fd, &name))
        else {
            return Ok(());
        };
        self.visit(&parent.join(name), fd)
    }

    fn open(&mut self, path: &Path, fd: &OwnedFd) -> Result<(), String> {
        let Ok(stat) = rustix::fs::fstat(fd) else {
            return Ok(());
        };
        let rights = match FileType::from_raw_mode(stat.st_mode) {
            // A link has no content, and what it leads to has its own rule or none.
            FileType::Symlink => return Ok(()),
            FileType::Directory => given_to_directories(),
            _ => given_to_files(),
        };
        if self.guarded.contains(&identity(&stat)) {
            return Ok(());
        }
        let added = (&mut self.rules).add_rule(PathBeneath::new(fd, rights)).map(drop);
        added.map_err(|error| format!("{}: {}", path.display(), said(error)))
    }
}

fn open_path(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// The names in a directory, at most one more than will be opened.
fn entries(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<OsString>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = rustix::fs::openat(directory, c".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(listed)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(OsStr::from_bytes(name.to_bytes()).to_owned());
        }
        if names.len() > ENTRIES_MAX {
            break;
        }
    }
    Ok(names)
}
