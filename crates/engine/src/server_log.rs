//! What plugins log, in the server's own log: every line of a plugin that talks at a human pace, the beginning of a long
//! line, and the number of further lines of a plugin that talks faster.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidemill_triggers::TriggerDefinition;
use tidemill_worker_proto::LogLevel;

/// Lines of one trigger that are passed on in one window.
const LINES_MAX: u32 = 200;
const WINDOW: Duration = Duration::from_secs(1);
/// Bytes of a line that are passed on. The plugin's own log has more of it.
const LINE_BYTES_MAX: usize = 4 * 1024;

#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u32,
    withheld: u64,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    /// It is passed on.
    Pass,
    /// It is passed on, and it can be told how many were not before it.
    PassAfter(u64),
    /// It is the first of a window that is not.
    FirstWithheld,
    /// It is not.
    Withheld,
}

/// Passes the log lines of one trigger on, within bounds. It outlives the trigger's processes, so that one that is
/// restarted again and again has no more room than others.
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
        // Lines that nobody wants must not take the places of those that somebody does.
        if !is_enabled(level) {
            return;
        }
        let (trigger, database) = (&definition.trigger_name, &definition.database_name);
        match self.admit(now) {
            Admission::Pass => {}
            Admission::PassAfter(withheld) => {
                tracing::warn!(target: "tidemill::plugin", trigger, database, withheld, "lines of the plugin were not shown here");
            }
            Admission::FirstWithheld => {
                tracing::warn!(target: "tidemill::plugin", trigger, database, "further lines of the plugin are not shown here for a moment");
                return;
            }
            Admission::Withheld => return,
        }
        let text = shown(text);
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

    fn admit(&self, now: Instant) -> Admission {
        let mut window = self.window.lock();
        if now.saturating_duration_since(window.began) >= WINDOW {
            window.began = now;
            window.lines = 0;
        }
        window.lines = window.lines.saturating_add(1);
        if window.lines > LINES_MAX {
            window.withheld += 1;
            return if window.lines == LINES_MAX + 1 {
                Admission::FirstWithheld
            } else {
                Admission::Withheld
            };
        }
        match std::mem::take(&mut window.withheld) {
            0 => Admission::Pass,
            withheld => Admission::PassAfter(withheld),
        }
    }
}

fn is_enabled(level: LogLevel) -> bool {
    match level {
        LogLevel::Info => tracing::enabled!(target: "tidemill::plugin", tracing::Level::INFO),
        LogLevel::Warn => tracing::enabled!(target: "tidemill::plugin", tracing::Level::WARN),
        LogLevel::Error => tracing::enabled!(target: "tidemill::plugin", tracing::Level::ERROR),
    }
}

/// The text as it is shown: cut at a fixed length, its second and further lines indented, so that a plugin cannot write
/// what looks like a line of the server.
fn shown(text: &str) -> Cow<'_, str> {
    let beginning = &text[..text.floor_char_boundary(LINE_BYTES_MAX)];
    let dropped = text.len() - beginning.len();
    if dropped == 0 && !text.contains(['\n', '\r']) {
        return Cow::Borrowed(text);
    }
    let shown = beginning.replace('\r', "").replace('\n', "\n    ");
    Cow::Owned(if dropped > 0 {
        format!("{shown}… ({dropped} more bytes)")
    } else {
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted_and_told_of() {
        let start = Instant::now();
        let log = ServerLog::new(start);
        for _ in 0..LINES_MAX {
            assert_eq!(log.admit(start), Admission::Pass);
        }
        assert_eq!(log.admit(start + WINDOW / 2), Admission::FirstWithheld);
        for _ in 0..4 {
            assert_eq!(log.admit(start + WINDOW / 2), Admission::Withheld);
        }
        assert_eq!(log.admit(start + WINDOW), Admission::PassAfter(5));
        assert_eq!(log.admit(start + WINDOW), Admission::Pass);
    }

    #[test]
    fn a_line_is_shown_in_bounds_and_cannot_pass_for_another() {
        assert_eq!(shown("plain"), "plain");
        assert_eq!(shown("one\r\ntwo\n"), "one\n    two\n    ");
        let long = shown(&"ö".repeat(LINE_BYTES_MAX)).into_owned();
        assert!(
            long.ends_with("ö… (4096 more bytes)"),
            "{}",
            &long[LINE_BYTES_MAX - 8..]
        );
    }
}
