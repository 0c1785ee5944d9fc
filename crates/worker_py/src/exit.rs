//! The one way in which this process ends by itself.

/// The server is gone, or wants the process gone.
pub(crate) const DONE: i32 = 0;
/// What the server sent is not of this protocol.
pub(crate) const PROTOCOL_BROKEN: i32 = 70;

/// Ends the process at once.
///
/// Nothing is torn down: not the interpreter, whose lock a plugin may never give back, not the plugin's threads, and no
/// library's exit handlers, which may wait for either. The server has the output that it will ever get.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes any status and has no precondition; it does not return.
    unsafe { libc::_exit(status) }
}
