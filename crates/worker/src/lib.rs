//! Worker processes: one Python interpreter a trigger, started, fed, watched and ended from here.
//!
//! It **is** the supervision of processes ([`Worker`]), the discovery and creation of the virtual environment they run
//! in ([`PythonEnvironment`]), the installation of packages into it ([`Packages`]), the environment variables they
//! may see ([`worker_environment`]) and the paths they may not ([`worker_sandbox`]). It **is not** an interpreter: it links no libpython, and it knows neither triggers
//! nor databases: what the frames mean is the business of whoever implements [`WorkerEvents`].
//!
//! Invariants:
//! - A worker never outlives its [`Worker`], nor the server: it is killed with its whole process group when the handle
//!   is dropped, it reads end-of-file when the server dies, and the kernel kills it then in any case. What it has started and
//!   what has left its group ends with it, as long as the server is there to see to it.
//! - A group is only ever signalled while its leader has not been reaped, so that a recycled number is never hit.
//! - [`WorkerEvents::exited`] is called exactly once for a started worker, after everything it sent and printed has
//!   been delivered.
//! - Nothing a worker does can block the server: sending only queues, lines are cut at a fixed length, a worker that sends or
//!   prints without end is read no faster than a fixed pace, every wait for a worker has a deadline.
//! - A worker inherits exactly four file descriptors: `/dev/null`, two pipes and its end of the socket.

mod command;
mod connection;
mod descendants;
mod environment;
mod error;
mod exit;
mod extension;
mod hint;
mod installed;
mod memory;
mod output;
mod pace;
mod packages;
mod process;
mod python;
mod python_environment;
mod queue;
mod sandbox;
mod spawner;
mod tool;
mod user;
mod worker;

pub use command::{BOOTSTRAP, WorkerCommand, WorkerEvents};
pub use environment::{EnvironmentOptions, worker_environment};
pub use error::{Gone, StartError};
pub use exit::{ExitReason, KillCause};
pub use extension::{ExtensionNotFound, extension_path};
pub use installed::InstalledPackage;
pub use memory::{machine_memory_bytes, resident_bytes_of};
pub use output::{LINE_BYTES_MAX, OutputStream};
pub use packages::{InstallError, InstallRequest, PackageManager, Packages, Wanted};
pub use python::PythonVersion;
pub use python_environment::{Python, PythonConfig, PythonEnvironment, PythonStatus, Unavailable};
pub use sandbox::{Exposed, worker_sandbox};
pub use tidemill_sandbox::{Applied, Level as SandboxLevel, Profile as SandboxProfile};
pub use user::{Need, PluginUser, PluginUserError, Unreadable};
pub use worker::Worker;
