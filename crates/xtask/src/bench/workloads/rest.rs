//! Waiting until a server has done what it put off, so that this neither disturbs what is measured next nor goes uncounted.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::process_info::cpu_seconds_of_tree;

/// A server that keeps less than this many cores busy is at rest.
pub(super) const REST_CORES: f64 = 0.1;
const WINDOW: Duration = Duration::from_millis(300);
const LIMIT: Duration = Duration::from_secs(30);

/// The CPU seconds that a server has taken, once it keeps less than `cores` busy or has not come to that for long.
/// `None`, at once, where its process is not known.
pub(super) async fn cpu_seconds_at_rest(pid: Option<u32>, cores: f64) -> Option<f64> {
    let pid = pid?;
    let started = Instant::now();
    let mut spent_s = cpu_seconds_of_tree(pid);
    while started.elapsed() < LIMIT {
        sleep(WINDOW).await;
        let before_s = std::mem::replace(&mut spent_s, cpu_seconds_of_tree(pid));
        if spent_s - before_s < cores * WINDOW.as_secs_f64() {
            break;
        }
    }
    Some(spent_s)
}
