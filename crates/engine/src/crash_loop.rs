//! When a process that dies again and again is given up (engine.md 0.13).

use std::time::Duration;

/// Deaths in a row after which a trigger is disabled. With the usual delays between them they take some minutes.
pub(crate) const DEATHS_MAX: u32 = 10;
/// A process that has lived so long is no part of a loop.
const LONG_LIFE: Duration = Duration::from_hours(1);

/// Counts the deaths of a trigger's processes since one of them was of use.
#[derive(Debug, Default)]
pub(crate) struct CrashLoop {
    deaths: u32,
}

impl CrashLoop {
    /// A process has died. Returns whether there should be no further one.
    pub(crate) fn died(&mut self, has_succeeded: bool, lived: Duration) -> bool {
        if has_succeeded || lived >= LONG_LIFE {
            self.deaths = 0;
        }
        self.deaths += 1;
        self.deaths >= DEATHS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_useless_processes_in_a_row_are_enough() {
        let second = Duration::from_secs(1);
        let mut deaths = CrashLoop::default();
        assert!((1..DEATHS_MAX).all(|_| !deaths.died(false, second)));
        assert!(!deaths.died(true, second), "one was of use: it begins anew");
        assert!((2..DEATHS_MAX).all(|_| !deaths.died(false, second)));
        assert!(!deaths.died(false, LONG_LIFE));
        assert!((2..DEATHS_MAX).all(|_| !deaths.died(false, second)));
        assert!(deaths.died(false, second));
    }
}
