//! Waiting for something to become true.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::failure::Failure;

/// Checks again and again; false where the limit has passed.
pub(crate) async fn wait_until(
    limit: Duration,
    pause: Duration,
    mut is_reached: impl AsyncFnMut() -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let started = Instant::now();
    while started.elapsed() < limit {
        if is_reached().await? {
            return Ok(true);
        }
        sleep(pause).await;
    }
    Ok(false)
}
