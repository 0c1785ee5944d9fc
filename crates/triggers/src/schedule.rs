//! The instants of a schedule. Instants that have passed are skipped and counted, never made up for in a burst
//! (engine.md 0.15, 1.3, 5.4).

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{CronSchedule, TriggerSpec};

/// How many missed instants of a cron expression are counted one by one; beyond it the count is a lower bound.
const SKIPPED_COUNT_MAX: u64 = 100_000;

/// The instants at which a scheduled trigger runs.
#[derive(Clone, Debug)]
pub struct Schedule {
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    Interval { interval_ns: i64 },
    Cron(CronSchedule),
}

/// The next instant of a schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Next {
    /// The instant; later than the `now` that was asked with.
    pub at: DateTime<Utc>,
    /// How many instants lie between the last one and this one and have passed.
    pub skipped: u64,
}

impl Schedule {
    /// The schedule of a specification; `None` unless it is `every:` or `cron:`.
    pub fn new(spec: &TriggerSpec) -> Option<Self> {
        match spec {
            TriggerSpec::Every(interval) => Some(Self::every(*interval)),
            TriggerSpec::Cron(cron) => Some(Self {
                rule: Rule::Cron(cron.clone()),
            }),
            TriggerSpec::Table { .. } | TriggerSpec::AllTables | TriggerSpec::Request { .. } => None,
        }
    }

    fn every(interval: Duration) -> Self {
        let interval_ns = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX).max(1);
        Self {
            rule: Rule::Interval { interval_ns },
        }
    }

    /// The first instant after `now`: for an interval the next multiple of it since the Unix epoch. `None` if there
    /// is no further instant.
    pub fn first_after(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.rule {
            Rule::Cron(cron) => cron.after(now),
            Rule::Interval { interval_ns } => {
                let now_ns = now.timestamp_nanos_opt()?;
                let into_interval_ns = now_ns.rem_euclid(*interval_ns);
                let next_ns = now_ns.checked_add(interval_ns - into_interval_ns)?;
                Some(DateTime::from_timestamp_nanos(next_ns))
            }
        }
    }

    /// The last instant that is not after `now`. `None` if there is none.
    pub fn last_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.rule {
            Rule::Cron(cron) => cron.at_or_before(now),
            Rule::Interval { interval_ns } => {
                let now_ns = now.timestamp_nanos_opt()?;
                now_ns
                    .checked_sub(now_ns.rem_euclid(*interval_ns))
                    .map(DateTime::from_timestamp_nanos)
            }
        }
    }

    /// The instant that follows `scheduled` and is after `now`, with the number of instants in between that have
    /// passed. `None` if there is no further instant.
    pub fn next_after(&self, scheduled: DateTime<Utc>, now: DateTime<Utc>) -> Option<Next> {
        match &self.rule {
            Rule::Interval { interval_ns } => {
                let scheduled_ns = scheduled.timestamp_nanos_opt()?;
                let late_ns = now.timestamp_nanos_opt()?.checked_sub(scheduled_ns)?.max(0);
                let skipped = late_ns / interval_ns;
                let ahead_ns = interval_ns.checked_mul(skipped.checked_add(1)?)?;
                let at = DateTime::from_timestamp_nanos(scheduled_ns.checked_add(ahead_ns)?);
                Some(Next {
                    at,
                    skipped: skipped as u64,
                })
            }
            Rule::Cron(cron) => {
                let mut at = cron.after(scheduled)?;
                let mut skipped = 0;
                while at <= now {
                    skipped += 1;
                    at = if skipped < SKIPPED_COUNT_MAX {
                        cron.after(at)?
                    } else {
                        cron.after(now)?
                    };
                }
                Some(Next { at, skipped })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(spec: &str) -> Schedule {
        Schedule::new(&TriggerSpec::parse(spec).unwrap()).unwrap()
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn intervals_are_aligned_to_the_epoch() {
        for (spec, now, first) in [
            ("every:1h", "2026-01-01T10:17:03.2Z", "2026-01-01T11:00:00Z"),
            ("every:1h", "2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z"),
            (
                "every:100ms",
                "2026-01-01T10:00:00.123Z",
                "2026-01-01T10:00:00.2Z",
            ),
            ("every:1w", "2026-01-01T00:00:00Z", "2026-01-08T00:00:00Z"),
            ("cron:0 * * * * *", "2026-01-01T10:00:00Z", "2026-01-01T10:01:00Z"),
        ] {
            assert_eq!(schedule(spec).first_after(at(now)), Some(at(first)), "{spec}");
            assert_eq!(schedule(spec).last_until(at(first)), Some(at(first)), "{spec}");
            let before = schedule(spec)
                .last_until(at(first) - chrono::TimeDelta::nanoseconds(1))
                .unwrap();
            assert_eq!(
                schedule(spec).next_after(before, before).map(|next| next.at),
                Some(at(first)),
                "{spec}"
            );
        }
        for spec in ["table:x", "all_tables", "request:x"] {
            assert!(Schedule::new(&TriggerSpec::parse(spec).unwrap()).is_none());
        }
    }

    #[test]
    fn missed_instants_are_skipped_and_counted() {
        for spec in ["every:1s", "cron:* * * * * *"] {
            let schedule = schedule(spec);
            let scheduled = at("2026-01-01T00:00:05Z");
            let next = |now: &str| schedule.next_after(scheduled, at(now)).unwrap();
            assert_eq!(
                next("2026-01-01T00:00:05.2Z"),
                Next {
                    at: at("2026-01-01T00:00:06Z"),
                    skipped: 0
                }
            );
            assert_eq!(
                next("2026-01-01T00:00:08.5Z"),
                Next {
                    at: at("2026-01-01T00:00:09Z"),
                    skipped: 3
                }
            );
            assert_eq!(next("2026-01-01T01:00:05.5Z").skipped, 3600);
            // A clock that was set back does not repeat an instant.
            assert_eq!(
                next("2025-12-31T00:00:00Z"),
                Next {
                    at: at("2026-01-01T00:00:06Z"),
                    skipped: 0
                }
            );
        }
        assert_eq!(
            schedule("cron:0 0 0 1 1 * 2026")
                .next_after(at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:01Z")),
            None
        );
    }

    proptest! {
        #[test]
        fn next_is_after_now_and_on_the_grid(interval_ms in 1_i64..10_000_000, scheduled_ms in 0_i64..4_000_000_000_000, late_ms in 0_i64..1_000_000_000) {
            let schedule = Schedule::every(Duration::from_millis(interval_ms as u64));
            let scheduled = schedule.first_after(DateTime::from_timestamp_millis(scheduled_ms).unwrap()).unwrap();
            let now = scheduled + chrono::TimeDelta::milliseconds(late_ms);
            let next = schedule.next_after(scheduled, now).unwrap();
            prop_assert!(next.at > now);
            prop_assert!((next.at - now).num_milliseconds() <= interval_ms);
            prop_assert_eq!(next.at.timestamp_millis() % interval_ms, 0);
            prop_assert_eq!((next.at - scheduled).num_milliseconds(), interval_ms * (next.skipped as i64 + 1));
        }
    }
}
