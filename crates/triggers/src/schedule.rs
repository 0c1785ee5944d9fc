//! The instants of a schedule (engine.md 1.3, 1.4). Which of them are run, a [`Scheduler`](crate::Scheduler) decides.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{CronSchedule, TriggerSpec};

/// How many instants of a cron expression are counted one by one; beyond it a count is a lower bound.
pub(crate) const COUNT_MAX: u64 = 10_000;

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

    /// The first instant after `moment`: for an interval the next multiple of it since the Unix epoch. `None` if there
    /// is no further instant.
    pub fn first_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.rule {
            Rule::Cron(cron) => cron.after(moment),
            Rule::Interval { interval_ns } => {
                let moment_ns = moment.timestamp_nanos_opt()?;
                let into_interval_ns = moment_ns.rem_euclid(*interval_ns);
                let next_ns = moment_ns.checked_add(interval_ns - into_interval_ns)?;
                Some(DateTime::from_timestamp_nanos(next_ns))
            }
        }
    }

    /// The last instant that is not after `moment`. `None` if there is none.
    pub fn last_until(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.rule {
            Rule::Cron(cron) => cron.at_or_before(moment),
            Rule::Interval { interval_ns } => {
                let moment_ns = moment.timestamp_nanos_opt()?;
                moment_ns
                    .checked_sub(moment_ns.rem_euclid(*interval_ns))
                    .map(DateTime::from_timestamp_nanos)
            }
        }
    }

    /// How many instants are after `after` and not after `until`. Of a cron expression ten thousand are counted; then it
    /// is a lower bound.
    pub fn count(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> u64 {
        if until <= after {
            return 0;
        }
        match &self.rule {
            Rule::Cron(cron) => {
                let mut count = 0;
                let mut last = after;
                while count < COUNT_MAX
                    && let Some(next) = cron.after(last)
                    && next <= until
                {
                    count += 1;
                    last = next;
                }
                count
            }
            Rule::Interval { interval_ns } => {
                let number = |moment: DateTime<Utc>| {
                    let moment_ns = moment.timestamp_nanos_opt();
                    moment_ns.map_or(0, |moment_ns| moment_ns.div_euclid(*interval_ns))
                };
                u64::try_from(number(until) - number(after)).unwrap_or(0)
            }
        }
    }

    /// The moment after which only the last `count` instants until `until` are left; `None` if there is nothing
    /// to leave out after `after`.
    pub(crate) fn moment_before_last(
        &self,
        count: u32,
        after: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        match &self.rule {
            Rule::Cron(cron) => {
                // There is at most one a second: nothing is to be counted where so many do not fit.
                if until - after <= TimeDelta::seconds(count.into()) {
                    return None;
                }
                let mut moment = until;
                for _ in 0..count {
                    moment = cron.at_or_before(moment)? - TimeDelta::nanoseconds(1);
                    if moment <= after {
                        return None;
                    }
                }
                Some(moment)
            }
            Rule::Interval { interval_ns } => {
                let last = self.last_until(until)?;
                let all_ns = interval_ns.checked_mul(count.into())?;
                let moment = last - TimeDelta::nanoseconds(all_ns);
                (moment > after).then_some(moment)
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
                .last_until(at(first) - TimeDelta::nanoseconds(1))
                .unwrap();
            assert_eq!(schedule(spec).first_after(before), Some(at(first)), "{spec}");
        }
        for spec in ["table:x", "all_tables", "request:x"] {
            assert!(Schedule::new(&TriggerSpec::parse(spec).unwrap()).is_none());
        }
    }

    #[test]
    fn instants_are_counted() {
        for spec in ["every:1s", "cron:* * * * * *"] {
            let schedule = schedule(spec);
            let after = at("2026-01-01T00:00:05Z");
            let count = |until| schedule.count(after, at(until));
            assert_eq!(count("2026-01-01T00:00:05.9Z"), 0, "{spec}");
            assert_eq!(count("2026-01-01T00:00:06Z"), 1, "{spec}");
            assert_eq!(count("2026-01-01T00:00:08.5Z"), 3, "{spec}");
            assert_eq!(count("2026-01-01T01:00:05.5Z"), 3600, "{spec}");
            assert_eq!(count("2025-12-31T00:00:00Z"), 0, "{spec}");
        }
        let end = at("2036-01-01T00:00:00Z");
        let start = at("2026-01-01T00:00:00Z");
        assert_eq!(schedule("cron:* * * * * *").count(start, end), COUNT_MAX);
        assert_eq!(schedule("cron:0 0 0 1 1 * 2026").count(start, end), 0);
    }

    #[test]
    fn the_last_of_many_instants_are_found() {
        let (after, until) = (at("2026-01-01T00:00:00.5Z"), at("2026-01-03T00:00:30Z"));
        for spec in ["every:1m", "cron:* * * * *", "every:1h", "cron:0 * * * *"] {
            let schedule = schedule(spec);
            for count in [1, 20, 47] {
                let moment = schedule.moment_before_last(count, after, until).unwrap();
                assert_eq!(schedule.count(moment, until), u64::from(count), "{spec}");
                assert!(moment > after);
            }
            let all = u32::try_from(schedule.count(after, until)).unwrap();
            assert_eq!(schedule.moment_before_last(all + 1, after, until), None, "{spec}");
        }
    }
}
