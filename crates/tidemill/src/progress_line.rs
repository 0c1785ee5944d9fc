//! How far something is that takes long, on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a person at a terminal sees a change.
const ON_TERMINAL: Duration = Duration::from_millis(200);
/// How often a line goes into a file.
const IN_FILE: Duration = Duration::from_secs(10);

/// One line that changes, where somebody watches; now and then a line, where nobody does.
pub(crate) struct ProgressLine {
    is_terminal: bool,
    is_quiet: bool,
    shown: Instant,
    /// Whether there is a line on the terminal to be replaced.
    is_open: bool,
}

impl ProgressLine {
    pub(crate) fn new(is_quiet: bool) -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
            is_quiet,
            shown: Instant::now(),
            is_open: false,
        }
    }

    /// Shows how far it is, unless that was shown a moment ago.
    pub(crate) fn show(&mut self, text: impl FnOnce() -> String) {
        let pause = if self.is_terminal { ON_TERMINAL } else { IN_FILE };
        if self.is_quiet || self.shown.elapsed() < pause {
            return;
        }
        self.shown = Instant::now();
        let mut stderr = io::stderr().lock();
        // Where nobody can be told there is nothing left to do.
        let _ = if self.is_terminal {
            self.is_open = true;
            write!(stderr, "\r\x1b[K{}", text()).and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{}", text())
        };
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.clear();
    }
}
