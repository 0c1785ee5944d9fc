//! Takes from a process what a plugin has no need of: the server's files, other processes, dangerous system calls, the network.
//!
//! It **is** what a worker process does to itself, once, before it loads a plugin: [`Profile::apply`]. The profile crosses
//! the process boundary as one argument ([`Profile::to_argument`]); what came of it ([`Applied`]) says for each [`Measure`]
//! whether it is in force, so that nobody believes in a protection that this kernel does not have.
//! It **is not** a boundary for hostile code that runs as root, it starts no process, changes no user, opens no socket, and
//! watches nothing afterwards. It never panics and never ends a process because a kernel lacks something.
//!
//! # Levels
//! - [`Level::Off`]: only `no_new_privs`, the OOM score, the nice value and the memory limit.
//! - [`Level::Standard`]: beside that, hidden paths cannot be listed, read, written, renamed, removed or truncated; processes
//!   outside the sandbox can neither be looked into (`/proc/<pid>/{mem,environ,fd,root}`, `ptrace`) nor signalled; system
//!   calls that no plugin needs and that could hurt the machine fail; root is no administrator any more. Programs for another
//!   architecture, such as 32-bit ones, are ended by the kernel. Everything else is as without a sandbox.
//! - [`Level::Strict`]: beside that, there are no sockets but Unix sockets. A daemon that listens on a Unix socket can still
//!   be talked to, and may reach the network on somebody's behalf.
//!
//! # How paths are hidden
//! Landlock knows no "deny", only "allow this directory and all below", so everything else is allowed, as coarsely as
//! possible: to hide `/var/lib/tidemill/data`, each entry of `/`, `/var`, `/var/lib` and `/var/lib/tidemill` that does not lead
//! there is allowed. The directories on the way are themselves *on the spine*, and allowed they are not. What follows from it:
//! - The directories on the spine cannot be listed, and nothing can be created, removed or renamed *directly* in them.
//! - What appears directly in one of them after the process has started, also a new top-level directory, a file that was
//!   replaced by renaming (`/etc/resolv.conf` where a token file lies below `/etc`), or a file system that was mounted on an
//!   entry of one, cannot be opened until the process is started anew. Below every other directory all goes on as usual.
//! - So let hidden paths lie in directories of their own, not directly in `/tmp` or a home directory, and keep token files
//!   out of `/etc`. The report of [`Measure::HiddenPaths`] names the spine.
//! - A hidden path that does not exist yet is hidden when it appears, since its place lies in a directory on the spine.
//! - Of a symbolic link, both where it lies and where it leads are hidden; so is every other place where the same files are
//!   mounted when the process starts. A second hard link to a hidden file is closed only directly in a directory on the spine.
//! - Of nested paths the innermost counts: a visible plugin directory may lie in a hidden data directory. The other way round
//!   works badly, since the plugin directory is then on the spine; see [`Profile::nested`].
//! - Files can be linked and renamed between directories from Linux 5.19 on; before, Landlock refuses it (`EXDEV`).
//!
//! # Invariants
//! - A measure is reported [`State::InForce`] only after the kernel has accepted it or reads it back.
//! - What is in force cannot be taken back by the process or its children, except that root can at [`Level::Off`] take back the
//!   limits, and an ordinary user the OOM score.
//! - What cannot be found out (a directory that cannot be listed, more entries than [`ENTRIES_MAX`]) stays closed; but nothing is
//!   hidden, and [`State::Failed`] says so, where `/` cannot be listed, since then no program would run.

mod applied;
mod domain;
mod layout;
mod limits;
mod mounts;
mod path_text;
mod profile;
mod syscalls;

pub use applied::{Applied, Measure, Report, State};
pub use domain::ENTRIES_MAX;
pub use limits::reserved_bytes;
pub use profile::{Level, Nested, Profile, UnknownLevel};
