//! The delay between attempts (engine.md 0.12).

use std::time::Duration;

/// When failed attempts are repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// The delay before the second retry; the first one is immediate.
    pub delay_min: Duration,
    /// No delay is longer.
    pub delay_max: Duration,
    /// How many attempts are made in all; `None` for no limit.
    pub attempts_max: Option<u32>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            delay_min: Duration::from_secs(1),
            delay_max: Duration::from_mins(1),
            attempts_max: None,
        }
    }
}

/// Counts the failures in a row and says how long to wait before the next attempt: not at all after the first, then
/// doubling from the policy's least to its greatest delay, a quarter up or down so that triggers which failed
/// together do not come back together. The same seed gives the same delays.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    failures: u32,
    random_state: u64,
}

impl Backoff {
    /// No failure yet.
    pub fn new(policy: RetryPolicy, seed: u64) -> Self {
        Self {
            policy,
            failures: 0,
            random_state: seed,
        }
    }

    /// Records a failure. Returns the delay before the next attempt, or `None` if all attempts are used up.
    pub fn failed(&mut self) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        if self
            .policy
            .attempts_max
            .is_some_and(|attempts_max| self.failures >= attempts_max)
        {
            return None;
        }
        let Some(doublings) = self.failures.checked_sub(2) else {
            return Some(Duration::ZERO);
        };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let delay = self
            .policy
            .delay_min
            .saturating_mul(factor)
            .min(self.policy.delay_max);
        let jittered = delay.mul_f64(0.75 + 0.5 * self.next_unit());
        Some(jittered.max(self.policy.delay_min).min(self.policy.delay_max))
    }

    /// Forgets the failures: the next one is retried at once again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A number in `0.0..1.0` (the `SplitMix64` generator).
    fn next_unit(&mut self) -> f64 {
        self.random_state = self.random_state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random_state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn first_retry_is_immediate_and_delays_grow_to_the_limit() {
        let mut backoff = Backoff::new(RetryPolicy::default(), 7);
        assert_eq!(backoff.failed(), Some(Duration::ZERO));
        let delays: Vec<f64> = (0..12).map(|_| backoff.failed().unwrap().as_secs_f64()).collect();
        for (index, delay) in delays.iter().enumerate() {
            let nominal = f64::from(1 << index.min(6)).min(60.0);
            assert!(
                (0.75 * nominal..=1.25 * nominal).contains(delay),
                "{index}: {delay}"
            );
        }
        assert_eq!(backoff.failures(), 13);
        backoff.succeeded();
        assert_eq!(backoff.failed(), Some(Duration::ZERO));
    }

    #[test]
    fn attempts_are_bounded_by_the_policy() {
        let policy = RetryPolicy {
            attempts_max: Some(3),
            ..RetryPolicy::default()
        };
        let mut backoff = Backoff::new(policy, 1);
        assert!(backoff.failed().is_some());
        assert!(backoff.failed().is_some());
        assert_eq!(backoff.failed(), None);
    }

    proptest! {
        #[test]
        fn delays_stay_in_bounds_and_depend_on_the_seed_only(seed: u64, failures in 2_usize..100) {
            let policy = RetryPolicy::default();
            let mut first = Backoff::new(policy, seed);
            let mut second = Backoff::new(policy, seed);
            prop_assert_eq!(first.failed(), second.failed());
            for _ in 1..failures {
                let delay = first.failed();
                prop_assert_eq!(delay, second.failed());
                let delay = delay.unwrap();
                prop_assert!(delay >= policy.delay_min && delay <= policy.delay_max);
            }
        }
    }
}
