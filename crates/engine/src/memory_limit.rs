//! How much memory a plugin's process may have, and how often that is looked at.
//!
//! The kernel refuses what is far beyond the limit (`RLIMIT_DATA`, which the worker sets for itself): there a plugin gets a
//! `MemoryError`. What is resident, the kernel does not limit: here it is looked at, as often as it could reach the limit.

use std::time::Duration;

use tidemill_triggers::ByteSize;

use crate::launcher::WorkerHandle;

/// How fast a process can fill memory, in bytes a second.
const FILL_RATE: u64 = 8 << 30;
const INTERVAL_MIN: Duration = Duration::from_millis(10);
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// The limit of one trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryLimit {
    /// `None` where the size of the machine is not known and nobody has set a limit.
    pub(crate) bytes_max: Option<u64>,
}

/// What a process has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryLook {
    pub(crate) resident_bytes: u64,
    /// When it could have reached the limit, and is to be looked at again.
    pub(crate) again_in: Duration,
}

impl MemoryLimit {
    /// Returns when a process must be killed, and says why.
    pub(crate) async fn exceeded(self, worker: &dyn WorkerHandle) -> String {
        loop {
            match self.look(worker) {
                Ok(look) => tokio::time::sleep(look.again_in).await,
                Err(reason) => return reason,
            }
        }
    }

    /// Looks at a process. The error says why it must be killed.
    pub(crate) fn look(self, worker: &dyn WorkerHandle) -> Result<MemoryLook, String> {
        let Some((bytes_max, resident_bytes)) = self.bytes_max.zip(worker.resident_bytes()) else {
            return Ok(MemoryLook {
                resident_bytes: 0,
                again_in: INTERVAL_MAX,
            });
        };
        judge(bytes_max, resident_bytes)
    }
}

fn judge(bytes_max: u64, resident_bytes: u64) -> Result<MemoryLook, String> {
    let Some(left_bytes) = bytes_max.checked_sub(resident_bytes) else {
        return Err(format!(
            "the plugin's process exceeded its memory limit of {}",
            ByteSize(bytes_max)
        ));
    };
    let until_full = Duration::from_secs_f64(left_bytes as f64 / FILL_RATE as f64);
    Ok(MemoryLook {
        resident_bytes,
        again_in: until_full.clamp(INTERVAL_MIN, INTERVAL_MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_the_limit_the_sooner_the_next_look() {
        let again_in = |resident| judge(1 << 30, resident).map(|look| look.again_in);
        assert_eq!(again_in(0), Ok(Duration::from_millis(125)));
        assert_eq!(again_in(1 << 29), Ok(Duration::from_micros(62_500)));
        assert_eq!(again_in(1 << 30), Ok(INTERVAL_MIN));
        assert_eq!(
            again_in((1 << 30) + 1).unwrap_err(),
            "the plugin's process exceeded its memory limit of 1GiB"
        );
        let wide = judge(64 << 30, 0).unwrap();
        assert_eq!(wide.again_in, INTERVAL_MAX);
    }
}
