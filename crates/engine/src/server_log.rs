//! What plugins log, in the server's own log: every line of a plugin that talks at a human pace, and the number of
//! further ones of one that does not.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidemill_triggers::TriggerDefinition;
use tidemill_worker_proto::LogLevel;

/// Lines of one trigger that are passed on in one window.
const LINES_MAX: u32 = 200;
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u32,
    withheld: u64,
}

/// Passes the log lines of one trigger on, within bounds.
#[derive(Debug)]
pub(crate) struct ServerLog {
    window: Mutex<Window>,
}

impl ServerLog {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            window: Mutex::new(Window {
                began: now,
                lines: 0,
                withheld: 0,
            }),
        }
    }

    /// Passes a line on, unless there were too many of late.
    pub(crate) fn log(&self, definition: &TriggerDefinition, level: LogLevel, text: &str, now: Instant) {
        let Some(withheld) = self.admit(now) else { return };
        let (trigger, database) = (&definition.trigger_name, &definition.database_name);
        if withheld > 0 {
            tracing::warn!(target: "tidemill::plugin", trigger, database, withheld, "lines of the plugin were not shown here");
        }
        match level {
            LogLevel::Info => {
                tracing::info!(target: "tidemill::plugin", trigger, database, "processing engine: {text}");
            }
            LogLevel::Warn => {
                tracing::warn!(target: "tidemill::plugin", trigger, database, "processing engine: {text}");
            }
            LogLevel::Error => {
                tracing::error!(target: "tidemill::plugin", trigger, database, "processing engine: {text}");
            }
        }
    }

    /// Whether a line may pass now, and how many were withheld before it.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock();
        if now.saturating_duration_since(window.began) >= WINDOW {
            *window = Window {
                began: now,
                lines: 0,
                withheld: window.withheld,
            };
        }
        if window.lines == LINES_MAX {
            window.withheld += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted_and_reported_later() {
        let start = Instant::now();
        let log = ServerLog::new(start);
        for _ in 0..LINES_MAX {
            assert_eq!(log.admit(start), Some(0));
        }
        for _ in 0..5 {
            assert_eq!(log.admit(start + WINDOW / 2), None);
        }
        assert_eq!(log.admit(start + WINDOW), Some(5));
        assert_eq!(log.admit(start + WINDOW), Some(0));
    }
}
