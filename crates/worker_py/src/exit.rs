//! The one way in which this process ends by itself.

use rustix::io::Errno;
use tidemill_worker_proto::EXIT_CONNECTION_CLOSED;

/// The server is gone, or wants the process gone.
pub(crate) const DONE: i32 = 0;
/// What the server sent is not of this protocol.
pub(crate) const PROTOCOL_BROKEN: i32 = 70;

/// Ends the process at once, since the connection cannot be used: the server is gone, or the plugin has closed what is not its
/// own. The number may belong to a file of the plugin's then.
pub(crate) fn exit_disconnected(error: Errno) -> ! {
    match error {
        Errno::BADF | Errno::NOTSOCK => exit_now(EXIT_CONNECTION_CLOSED),
        _ => exit_now(DONE),
    }
}

/// Ends the process at once.
///
/// Nothing is torn down: not the interpreter, whose lock a plugin may never give back, not the plugin's threads, and no
/// library's exit handlers, which may wait for either. The server has the output that it will ever get.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes any status and has no precondition; it does not return.
    unsafe { libc::_exit(status) }
}
