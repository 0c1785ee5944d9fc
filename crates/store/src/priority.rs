//! Work that waits for requests, but is never starved by them.

/// Steps down from the ordinary priority.
#[cfg(target_os = "linux")]
const NICE_STEPS: i32 = 5;

/// Lowers the priority of this thread for ever. On Linux priority belongs to the thread; elsewhere to the process, which
/// must not change.
#[cfg(target_os = "linux")]
pub(crate) fn lower_priority() {
    if let Err(error) = rustix::process::nice(NICE_STEPS) {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn lower_priority() {}
