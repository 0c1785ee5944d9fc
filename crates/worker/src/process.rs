//! A process and its group: signals that never hit a stranger, and an end that is always collected.

use std::{io, os::fd::OwnedFd, process::Child};

use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::oneshot,
};

use crate::descendants::Family;
use crate::exit::{ExitReason, OurCause, exit_reason};
use crate::memory::resident_bytes_of;

/// A process that leads its own group and has founded its own family.
///
/// Its end is observed without collecting it. The number of the group stays taken until the group has been killed
/// and the leader collected, both under the lock that every signal takes too.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` once the process has been collected.
    child: Option<(Child, Family)>,
    cause: Option<OurCause>,
}

impl Process {
    /// `child` must have been started as the leader of its own group and the founder of `family`.
    pub(crate) fn new(child: Child, family: Family) -> Self {
        Self {
            pid: Pid::from_child(&child),
            state: Mutex::new(State {
                child: Some((child, family)),
                cause: None,
            }),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Notes why the process is about to be killed; the first cause counts.
    pub(crate) fn condemn(&self, cause: OurCause) {
        self.state.lock().cause.get_or_insert(cause);
    }

    /// Kills the whole group.
    pub(crate) fn kill(&self, cause: OurCause) {
        let mut state = self.state.lock();
        if state.child.is_some() {
            state.cause.get_or_insert(cause);
            kill_group(self.pid);
        }
    }

    /// Sends a signal to the process alone.
    pub(crate) fn signal(&self, signal: Signal) {
        let state = self.state.lock();
        if state.child.is_some() {
            // It fails only for a process that is gone, which is no news.
            let _ = rustix::process::kill_process(self.pid, signal);
        }
    }

    /// Waits until the process has ended. It stays to be collected with [`Process::collect`].
    pub(crate) async fn ended(&self) {
        if self.wait_by_descriptor().await.is_err() {
            self.wait_by_thread().await;
        }
    }

    async fn wait_by_descriptor(&self) -> io::Result<()> {
        let descriptor: OwnedFd = rustix::process::pidfd_open(self.pid, PidfdFlags::NONBLOCK)?;
        // SAFETY: an `OwnedFd` keeps one descriptor open until it is dropped, and is moved into the `AsyncFd`.
        let descriptor = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?;
        // The descriptor becomes readable when the process has ended, and stays so.
        descriptor.readable().await?.retain_ready();
        Ok(())
    }

    /// For kernels and sandboxes without process descriptors.
    async fn wait_by_thread(&self) {
        let pid = self.pid;
        let (done, ended) = oneshot::channel();
        std::thread::spawn(move || {
            wait_without_collecting(pid);
            let _ = done.send(());
        });
        // The sender is only dropped unsent when the thread could not run: then `collect` waits.
        let _ = ended.await;
    }

    /// Kills what is left of the group of a process that has ended, collects the process and says how it ended. Returns when
    /// those of its descendants that had left the group are gone too. `None` if it was collected before.
    pub(crate) async fn collect(&self) -> Option<ExitReason> {
        let (reason, family) = {
            let mut state = self.state.lock();
            let (mut child, family) = state.child.take()?;
            kill_group(self.pid);
            // It fails only for a process that is not our child, or was collected by somebody else.
            let status = child.wait().unwrap_or_default();
            (exit_reason(status, state.cause.take()), family)
        };
        // Not awaited when the runtime ends; then the family is dropped, which ends it too.
        let _ = tokio::task::spawn_blocking(move || family.end()).await;
        Some(reason)
    }

    /// Resident memory in bytes, or `None` for a process that has ended.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        resident_bytes_of(self.pid())
    }
}

impl Drop for Process {
    /// Reached with a process still to be collected when a start is abandoned or the runtime ends.
    fn drop(&mut self) {
        let Some((mut child, family)) = self.state.get_mut().child.take() else {
            return;
        };
        kill_group(self.pid);
        std::thread::spawn(move || {
            let _ = child.wait();
            family.end();
        });
    }
}

fn kill_group(group: Pid) {
    // It fails only when nobody is left in the group.
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
}

fn wait_without_collecting(pid: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), options) {}
}
