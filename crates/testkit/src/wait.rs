//! Waiting for a condition.

use std::time::{Duration, Instant};

/// How long a test waits for anything before it fails.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Asks again and again until the answer is `Some`, and returns it.
///
/// Panics after [`WAIT_MAX`] and names what it waited for.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {WAIT_MAX:?} in vain: {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
