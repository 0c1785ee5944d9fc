//! The thread that starts all worker processes.
//!
//! The kernel sends the parent death signal when the *thread* that started a process ends, not when the server does.
//! Threads of a runtime's pool come and go, so all starts are made by one thread that lives as long as the server. Between
//! starts it collects what workers have left behind and what has ended since.

use std::{
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, RawFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{ChildStderr, ChildStdout, Command, Stdio},
    sync::{
        OnceLock,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags},
    io::FdFlags,
    process::{Pid, Signal},
};
use tokio::sync::oneshot;

use crate::{
    PluginUser, WorkerCommand,
    descendants::{self, Family, Mark},
    process::Process,
};

/// The highest value: short of memory, the kernel takes every worker before it takes the database.
const OOM_SCORE_ADJUSTMENT: &[u8] = b"1000";

/// How long the number of an ended process may stay taken that a plugin has started and left to itself.
const COLLECT_INTERVAL: Duration = Duration::from_secs(5);

/// A process that has been started, and the server's ends of its connections. Dropped, the process is killed and
/// collected, wherever on its way to whoever asked for it that happens.
pub(crate) struct Spawned {
    pub(crate) process: Process,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
    pub(crate) socket: UnixStream,
}

type Job = (WorkerCommand, oneshot::Sender<io::Result<Spawned>>);

/// Starts the process of a worker.
pub(crate) async fn spawn(command: WorkerCommand) -> io::Result<Spawned> {
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        // Without the thread the channel is closed, and every start fails with the error below.
        let _ = std::thread::Builder::new()
            .name("worker-spawner".to_owned())
            .spawn(move || run(&queue));
        jobs
    });
    let (answer, spawned) = oneshot::channel();
    let gone = || io::Error::other("the thread that starts workers is not running");
    spawner.send((command, answer)).map_err(|_| gone())?;
    spawned.await.map_err(|_| gone())?
}

fn run(queue: &mpsc::Receiver<Job>) {
    loop {
        let job = if descendants::has_families() {
            queue.recv_timeout(COLLECT_INTERVAL)
        } else {
            queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match job {
            // Where nobody waits any more, what comes back is dropped, and ends.
            Ok((command, answer)) => drop(answer.send(spawn_here(&command))),
            Err(RecvTimeoutError::Timeout) => descendants::collect_ended(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn spawn_here(worker: &WorkerCommand) -> io::Result<Spawned> {
    // Both ends close on exec; the child's end is opened for its process alone, after the fork.
    let (ours, theirs) = UnixStream::pair()?;
    let socket_fd = theirs.as_raw_fd();
    let server = rustix::process::getpid();
    let mut command = Command::new(&worker.python);
    command
        .arg("-u")
        .arg("-c")
        .arg(&worker.bootstrap)
        .arg(&worker.extension)
        .arg(socket_fd.to_string())
        .arg(worker.sandbox.to_argument())
        .env_clear()
        .envs(worker.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let user = worker.user.clone();
    let start = |mark| {
        // SAFETY: between fork and exec only system calls are made, on values that were prepared before: nothing
        // allocates, locks or unwinds.
        unsafe {
            command.pre_exec(move || prepare_child(socket_fd, server, mark, user.as_deref()));
        }
        command.spawn()
    };
    let (family, mut child) = Family::found(start, |child| Some(Pid::from_child(child)))?;
    Ok(Spawned {
        stdout: child.stdout.take(),
        stderr: child.stderr.take(),
        process: Process::new(child, family),
        socket: ours,
    })
}

/// Runs in the child, after the fork of a process with many threads: async-signal-safe code only.
fn prepare_child(socket_fd: RawFd, server: Pid, mark: Mark, user: Option<&PluginUser>) -> io::Result<()> {
    close_others_on_exec();
    mark.put();
    // SAFETY: the parent keeps the socket open until the spawn has returned, and the child has a copy of it.
    let socket = unsafe { BorrowedFd::borrow_raw(socket_fd) };
    rustix::io::fcntl_setfd(socket, FdFlags::empty())?;
    // The server has turned them off for itself, which is inherited; numeric libraries are faster with them. Not fatal:
    // some kernels have none.
    let _ = rustix::thread::disable_transparent_huge_pages(false);
    // Not fatal: some containers have no writable /proc.
    if let Ok(file) = rustix::fs::open(
        c"/proc/self/oom_score_adj",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        let _ = rustix::io::write(&file, OOM_SCORE_ADJUSTMENT);
    }
    // Behind what only the server's user may do, and before the death signal, which a change of the user takes back.
    if let Some(user) = user {
        user.become_it()?;
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The server may have died before the line above.
    if rustix::process::getppid() != Some(server) {
        return Err(rustix::io::Errno::SRCH.into());
    }
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// What this library and its dependencies open closes on exec, but not what the server itself may have inherited. Not
/// fatal: kernels before 5.11 do not have it.
fn close_others_on_exec() {
    const FIRST_AFTER_STANDARD: libc::c_uint = 3;
    // SAFETY: a system call on numbers; it changes flags of descriptors of this process only, which is about to exec.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST_AFTER_STANDARD,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }
}
