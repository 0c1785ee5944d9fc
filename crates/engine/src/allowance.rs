//! How much of something a trigger may still have: so much at once, and so much a second in the long run.

use std::time::Instant;

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) at_once: u64,
    pub(crate) per_second: u64,
}

/// What is left of it.
#[derive(Debug)]
pub(crate) struct Allowance {
    rate: Rate,
    left: u64,
    refilled: Instant,
    refused: u64,
}

impl Allowance {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            left: rate.at_once,
            refilled: now,
            refused: 0,
        }
    }

    /// Takes an amount. Answers whether there was enough, and then how often there was not before it.
    pub(crate) fn take(&mut self, amount: u64, now: Instant) -> Option<u64> {
        let seconds = now.saturating_duration_since(self.refilled).as_secs();
        if seconds > 0 {
            let refill = seconds.saturating_mul(self.rate.per_second);
            self.left = self.left.saturating_add(refill).min(self.rate.at_once);
            self.refilled = now;
        }
        if let Some(left) = self.left.checked_sub(amount) {
            self.left = left;
            Some(std::mem::take(&mut self.refused))
        } else {
            self.refused += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_used_up_comes_back_with_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let rate = Rate {
            at_once: 10,
            per_second: 2,
        };
        let mut allowance = Allowance::new(rate, start);
        assert_eq!(allowance.take(9, at(0)), Some(0));
        assert_eq!((allowance.take(3, at(0)), allowance.take(4, at(1))), (None, None));
        assert_eq!(allowance.take(3, at(1)), Some(2), "two were refused");
        assert_eq!(allowance.take(10, at(3)), None);
        assert_eq!(allowance.take(10, at(1_000)), Some(1));
        assert_eq!(allowance.take(1, at(1_000)), None);
    }
}
