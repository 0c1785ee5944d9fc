//! Keeps what a worker sends or prints without end from keeping the server busy.

use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_millis(100);

/// Counts what comes from a worker. Whoever reads on only after the rests it prescribes leaves the rest of the work to
/// the worker, which waits until its pipe or socket has room again.
#[derive(Debug)]
pub(crate) struct Pace {
    items_max: u32,
    items: u32,
    window_began: Instant,
}

impl Pace {
    /// At most about `items_max` items in a tenth of a second.
    pub(crate) fn new(items_max: u32, now: Instant) -> Self {
        Self {
            items_max,
            items: 0,
            window_began: now,
        }
    }

    /// Counts items. Returns how long to rest, if they came too fast. The clock is asked only where that may be.
    pub(crate) fn count(&mut self, items: u32, now: impl FnOnce() -> Instant) -> Option<Duration> {
        self.items = self.items.saturating_add(items);
        if self.items < self.items_max {
            return None;
        }
        let now = now();
        let rest = WINDOW.saturating_sub(now.saturating_duration_since(self.window_began));
        self.items = 0;
        self.window_began = now + rest;
        (!rest.is_zero()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_due_when_a_window_is_full_before_it_is_over() {
        let start = Instant::now();
        let at = |ms| move || start + Duration::from_millis(ms);
        let mut pace = Pace::new(10, start);
        assert_eq!(pace.count(9, at(10)), None);
        assert_eq!(pace.count(1, at(30)), Some(Duration::from_millis(70)));
        // The next window begins after the rest.
        assert_eq!(pace.count(50, at(110)), Some(Duration::from_millis(90)));
        // Whoever is slow enough never rests.
        assert_eq!(pace.count(10, at(300)), None);
        assert_eq!(pace.count(10, at(400)), None);
        assert_eq!(pace.count(10, at(450)), Some(Duration::from_millis(50)));
    }
}
