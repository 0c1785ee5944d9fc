//! Work that waits for requests.

/// Steps down from the ordinary priority, for work that requests wait for in the end.
pub(crate) const SOMEWHAT_LOWER: i32 = 5;
/// For work that nobody waits for.
pub(crate) const LOWEST: i32 = 19;

/// Lowers the priority of this thread for ever. On Linux priority belongs to the thread; elsewhere to the process, which
/// must not change.
#[cfg(target_os = "linux")]
pub(crate) fn lower_priority(steps: i32) {
    if let Err(error) = rustix::process::nice(steps) {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn lower_priority(_steps: i32) {}
