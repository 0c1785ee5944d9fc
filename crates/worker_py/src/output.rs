//! The writing half of the connection: frames gather in one buffer, and whoever has time sends them.
//!
//! No thread that may hold the interpreter lock ever waits for the socket: it sends what the kernel takes at once. The
//! rest, and what a busy thread left behind, is sent by one thread of its own, which never takes that lock.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use tidemill_worker_proto::{FromWorker, ProtocolError, encode_frame};

use crate::exit::exit_disconnected;

/// How long a frame may lie in the buffer while its thread runs the plugin.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without a request before the sending thread sleeps until it is called.
const IDLE_TICKS_MAX: u32 = 20;
/// Unsent bytes above which plugins are made to wait.
const PENDING_BYTES_HIGH: usize = 16 << 20;
/// A larger buffer is given back to the allocator once it is empty.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// See the module's documentation.
pub(crate) struct Output {
    socket: Arc<OwnedFd>,
    state: Mutex<State>,
    called: Condvar,
    drained: Condvar,
}

#[derive(Default)]
struct State {
    pending: Vec<u8>,
    /// Bytes of `pending` that are sent.
    sent: usize,
    /// The kernel's buffer is full: only the sending thread writes until it is empty again, so that the order stays.
    congested: bool,
    /// Somebody wants the buffer sent within a tick.
    requested: bool,
    /// The sending thread sleeps and has to be called.
    asleep: bool,
}

impl Output {
    pub(crate) fn new(socket: Arc<OwnedFd>) -> Self {
        Self {
            socket,
            state: Mutex::default(),
            called: Condvar::new(),
            drained: Condvar::new(),
        }
    }

    /// Appends a frame. It leaves with the next flush; the caller sees to that.
    pub(crate) fn push(&self, message: &FromWorker, blob: &[&[u8]]) -> Result<(), ProtocolError> {
        encode_frame(message, blob, &mut self.state.lock().pending)
    }

    /// Appends a frame that leaves within a tick, even if this thread is busy for longer.
    pub(crate) fn push_soon(&self, message: &FromWorker, blob: &[&[u8]]) -> Result<(), ProtocolError> {
        let mut state = self.state.lock();
        encode_frame(message, blob, &mut state.pending)?;
        self.request(&mut state);
        Ok(())
    }

    /// Sends what the kernel takes now, without waiting; the rest follows by itself.
    pub(crate) fn flush(&self) {
        let mut state = self.state.lock();
        if !state.congested {
            self.send_some(&mut state);
        }
    }

    /// Makes sure that what is in the buffer leaves within a tick.
    pub(crate) fn flush_soon(&self) {
        let mut state = self.state.lock();
        if state.sent < state.pending.len() {
            self.request(&mut state);
        }
    }

    /// Whether so much is unsent that the plugin should wait in [`Output::wait_for_room`] before it makes more.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.state.lock();
        state.pending.len() - state.sent > PENDING_BYTES_HIGH
    }

    /// Waits until the server has read most of what was sent. Not to be called with the interpreter lock held.
    pub(crate) fn wait_for_room(&self) {
        let mut state = self.state.lock();
        while state.pending.len() - state.sent > PENDING_BYTES_HIGH {
            self.request(&mut state);
            self.drained.wait(&mut state);
        }
    }

    /// The sending thread. Never returns.
    pub(crate) fn run_sender(&self) -> ! {
        let mut idle_ticks = 0;
        let mut state = self.state.lock();
        loop {
            if state.congested {
                self.send_waiting(&mut state);
                continue;
            }
            if state.requested {
                state.requested = false;
                idle_ticks = 0;
            } else {
                idle_ticks += 1;
            }
            if idle_ticks > IDLE_TICKS_MAX {
                state.asleep = true;
                self.called.wait(&mut state);
                state.asleep = false;
                continue;
            }
            MutexGuard::unlocked(&mut state, || std::thread::sleep(TICK));
            if !state.congested {
                self.send_some(&mut state);
            }
        }
    }

    fn request(&self, state: &mut State) {
        state.requested = true;
        if state.asleep {
            self.called.notify_one();
        }
    }

    fn send_some(&self, state: &mut State) {
        while state.sent < state.pending.len() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(&*self.socket, &state.pending[state.sent..], flags) {
                Ok(bytes) => state.sent += bytes,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    state.congested = true;
                    self.request(state);
                    return;
                }
                Err(error) => exit_disconnected(error),
            }
        }
        state.pending.clear();
        state.pending.shrink_to(KEPT_BYTES_MAX);
        state.sent = 0;
        self.drained.notify_all();
    }

    /// Sends everything, waiting for the server to read. Others append meanwhile, but do not send.
    fn send_waiting(&self, state: &mut MutexGuard<'_, State>) {
        let bytes = std::mem::take(&mut state.pending);
        let from = std::mem::take(&mut state.sent);
        MutexGuard::unlocked(state, || {
            let mut rest = &bytes[from..];
            while !rest.is_empty() {
                match send(&*self.socket, rest, SendFlags::NOSIGNAL) {
                    Ok(sent) => rest = &rest[sent..],
                    Err(Errno::INTR) => {}
                    Err(error) => exit_disconnected(error),
                }
            }
        });
        if state.pending.is_empty() {
            state.congested = false;
        }
        self.drained.notify_all();
    }
}
