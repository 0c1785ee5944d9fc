//! Which instants of a schedule are run, and when: catching up, overlap and clocks that are set (engine.md 0.15, 5.4).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{CatchUp, Schedule};

/// How many missed instants are made up for; older ones are skipped.
pub const CATCH_UP_MAX: u32 = 10_000;

/// How late an instant may be run where nothing is caught up: more than any timer needs.
const LATE_MAX: TimeDelta = TimeDelta::minutes(1);
/// How often it is looked whether too many are missed; for quick schedules, after so many instants.
const BOUND_INTERVAL: TimeDelta = TimeDelta::minutes(1);
const BOUND_INSTANTS: i32 = 100;
/// A clock may always be set back by so much without an instant coming again.
const SET_BACK_MIN: TimeDelta = TimeDelta::minutes(1);

/// What to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Begin the run of this instant, and ask again.
    Run(DateTime<Utc>),
    /// Ask again when the clock shows this, or when a run has ended.
    WaitUntil(DateTime<Utc>),
    /// Ask again when a run has ended: there are as many as there may be.
    WaitForRun,
    /// There is no further instant.
    Ended,
}

/// Decides about the instants of one trigger. It is told the time and which runs have ended.
///
/// - An instant is run once or skipped and counted, in order. None is run before its time.
/// - With [`CatchUp::None`], an instant is skipped that comes while as many runs as permitted are in flight, or that is
///   not run within a minute of its time: the clock was set forward, the machine has slept.
/// - With [`CatchUp::Latest`], the latest of the instants that were missed is run as soon as may be, the others are
///   skipped. With [`CatchUp::All`], the last [`CATCH_UP_MAX`] or a few more are run one after the other.
/// - A clock that is set back by no more than the time between two instants, or a minute, repeats none: the next one is
///   that after the last. Set back by more, the schedule follows the clock, and instants come again.
#[derive(Debug)]
pub struct Scheduler {
    schedule: Schedule,
    catch_up: CatchUp,
    concurrency: usize,
    /// Every instant until here was run, is in flight or was skipped.
    decided: DateTime<Utc>,
    in_flight: Vec<DateTime<Utc>>,
    /// Until then there are not many more missed instants than there may be.
    bounded_until: DateTime<Utc>,
    skipped: u64,
    set_back: Option<Duration>,
}

impl Scheduler {
    /// A scheduler for at most `concurrency` runs at once. It begins with the first instant after `since`: now, or the
    /// last instant that was decided about before.
    pub fn new(schedule: Schedule, catch_up: CatchUp, concurrency: usize, since: DateTime<Utc>) -> Self {
        Self {
            schedule,
            catch_up,
            concurrency: concurrency.max(1),
            decided: since,
            in_flight: Vec::new(),
            bounded_until: DateTime::<Utc>::MIN_UTC,
            skipped: 0,
            set_back: None,
        }
    }

    /// Decides what to do at the time `now`.
    pub fn step(&mut self, now: DateTime<Utc>) -> Step {
        self.follow_clock(now);
        if self.is_full() {
            return Step::WaitForRun;
        }
        self.skip_missed(now);
        match self.schedule.first_after(self.decided) {
            None => Step::Ended,
            Some(next) if next > now => Step::WaitUntil(next),
            Some(next) => {
                self.decided = next;
                self.in_flight.push(next);
                Step::Run(next)
            }
        }
    }

    /// The run of an instant has ended, however it did.
    pub fn run_ended(&mut self, instant: DateTime<Utc>, now: DateTime<Utc>) {
        if self.is_full() && self.catch_up == CatchUp::None {
            self.skip_until(now);
        }
        if let Some(at) = self.in_flight.iter().position(|running| *running == instant) {
            self.in_flight.swap_remove(at);
        }
    }

    /// The moment up to which every instant is done with, when the run of `instant` is: where a scheduler that continues
    /// this one should begin.
    pub fn done_through(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        let others = self.in_flight.iter().filter(|running| **running != instant);
        let oldest = others.min();
        oldest.map_or(self.decided, |oldest| {
            (*oldest - TimeDelta::nanoseconds(1)).min(self.decided)
        })
    }

    /// How many instants were skipped since this was last asked.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// By how much the clock was set back, if so far that instants come again; told once.
    pub fn take_set_back(&mut self) -> Option<Duration> {
        self.set_back.take()
    }

    fn is_full(&self) -> bool {
        self.in_flight.len() >= self.concurrency
    }

    fn follow_clock(&mut self, now: DateTime<Utc>) {
        let ahead = self.decided - now;
        if ahead <= SET_BACK_MIN {
            return;
        }
        let next = self.schedule.first_after(self.decided);
        let last = self.schedule.last_until(self.decided);
        let between = next.zip(last).map(|(next, last)| next - last);
        if between.is_none_or(|between| ahead > between) {
            self.decided = now;
            self.set_back = ahead.to_std().ok();
        }
    }

    /// Skips what is not made up for. At most one instant is due afterwards, unless all are caught up.
    fn skip_missed(&mut self, now: DateTime<Utc>) {
        if self.catch_up == CatchUp::All {
            return self.bound_missed(now);
        }
        if let Some(latest) = self.schedule.last_until(now) {
            self.skip_until(latest - TimeDelta::nanoseconds(1));
        }
        if self.catch_up == CatchUp::None {
            self.skip_until(now - LATE_MAX);
        }
    }

    /// Skips the oldest of too many missed instants. To find them is work where the schedule is a cron expression: it is not
    /// done for each run.
    fn bound_missed(&mut self, now: DateTime<Utc>) {
        let left = self.bounded_until - now;
        if left > TimeDelta::zero() && left <= BOUND_INTERVAL {
            return;
        }
        if let Some(moment) = self.schedule.moment_before_last(CATCH_UP_MAX, self.decided, now) {
            self.skip_until(moment);
        }
        let next = self.schedule.first_after(now);
        let after_next = next.and_then(|next| self.schedule.first_after(next));
        let between = next.zip(after_next).map(|(next, after_next)| after_next - next);
        let interval = between.map_or(BOUND_INTERVAL, |between| {
            between.min(BOUND_INTERVAL) * BOUND_INSTANTS
        });
        self.bounded_until = now + interval.min(BOUND_INTERVAL);
    }

    fn skip_until(&mut self, moment: DateTime<Utc>) {
        if moment > self.decided {
            self.skipped += self.schedule.count(self.decided, moment);
            self.decided = moment;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::TriggerSpec;
    use crate::schedule::COUNT_MAX;

    fn schedule(spec: &str) -> Schedule {
        Schedule::new(&TriggerSpec::parse(spec).unwrap()).unwrap()
    }

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-01-01T{text}Z").parse().unwrap()
    }

    fn scheduler(spec: &str, catch_up: CatchUp, since: &str) -> Scheduler {
        Scheduler::new(schedule(spec), catch_up, 1, at(since))
    }

    #[test]
    fn instants_that_pass_during_a_run_are_skipped_run_once_or_all_run() {
        for (catch_up, expected, skipped) in [
            (CatchUp::None, Step::WaitUntil(at("00:05:00")), 3),
            (CatchUp::Latest, Step::Run(at("00:04:00")), 2),
            (CatchUp::All, Step::Run(at("00:02:00")), 0),
        ] {
            let mut scheduler = scheduler("every:1m", catch_up, "00:00:10");
            assert_eq!(scheduler.step(at("00:00:10")), Step::WaitUntil(at("00:01:00")));
            assert_eq!(scheduler.step(at("00:01:00")), Step::Run(at("00:01:00")));
            assert_eq!(scheduler.step(at("00:01:00")), Step::WaitForRun);
            scheduler.run_ended(at("00:01:00"), at("00:04:30"));
            assert_eq!(scheduler.step(at("00:04:30")), expected, "{catch_up:?}");
            assert_eq!(scheduler.take_skipped(), skipped, "{catch_up:?}");
        }
    }

    #[test]
    fn a_machine_that_has_slept_catches_up_as_it_is_told() {
        for (catch_up, expected, skipped) in [
            (CatchUp::None, Step::WaitUntil(at("08:00:00")), 7),
            (CatchUp::Latest, Step::Run(at("07:00:00")), 6),
            (CatchUp::All, Step::Run(at("01:00:00")), 0),
        ] {
            for spec in ["every:1h", "cron:0 * * * *"] {
                let mut scheduler = scheduler(spec, catch_up, "00:00:00");
                assert_eq!(scheduler.step(at("07:30:00")), expected, "{spec} {catch_up:?}");
                assert_eq!(scheduler.take_skipped(), skipped, "{spec} {catch_up:?}");
            }
        }
        // A timer that is a little late has missed nothing.
        let mut scheduler = scheduler("every:1h", CatchUp::None, "00:00:00");
        assert_eq!(scheduler.step(at("01:00:59")), Step::Run(at("01:00:00")));
    }

    #[test]
    fn a_clock_set_back_a_little_repeats_nothing_and_far_is_followed() {
        let mut hourly = scheduler("every:1h", CatchUp::None, "04:00:00");
        assert_eq!(hourly.step(at("05:00:00")), Step::Run(at("05:00:00")));
        hourly.run_ended(at("05:00:00"), at("05:00:00"));
        assert_eq!(hourly.step(at("04:10:00")), Step::WaitUntil(at("06:00:00")));
        assert_eq!(hourly.take_set_back(), None);
        assert_eq!(hourly.step(at("03:10:00")), Step::WaitUntil(at("04:00:00")));
        assert_eq!(hourly.take_set_back(), Some(Duration::from_mins(110)));
        let mut quick = scheduler("every:1s", CatchUp::All, "05:00:00");
        assert_eq!(quick.step(at("04:59:10")), Step::WaitUntil(at("05:00:01")));
        assert_eq!(quick.step(at("04:58:00")), Step::WaitUntil(at("04:58:01")));
    }

    #[test]
    fn the_last_ten_thousand_missed_instants_are_made_up_for() {
        for (spec, now) in [
            ("every:1s", at("05:00:00")),
            ("cron:* * * * * *", at("05:00:00")),
            ("cron:* * * * *", at("12:00:00") + TimeDelta::days(12)),
        ] {
            let mut scheduler = scheduler(spec, CatchUp::All, "00:00:00");
            let mut runs = 0;
            while let Step::Run(instant) = scheduler.step(now) {
                scheduler.run_ended(instant, now);
                runs += 1;
            }
            assert_eq!(runs, CATCH_UP_MAX, "{spec}");
            assert_eq!(
                scheduler.take_skipped(),
                18_000 - u64::from(CATCH_UP_MAX),
                "{spec}"
            );
        }
    }

    #[test]
    fn where_to_continue_leaves_no_run_out_that_is_in_flight() {
        let mut scheduler = Scheduler::new(schedule("every:1m"), CatchUp::All, 2, at("00:00:30"));
        let now = at("00:03:30");
        let (first, second) = (at("00:01:00"), at("00:02:00"));
        assert_eq!(scheduler.step(now), Step::Run(first));
        assert_eq!(scheduler.step(now), Step::Run(second));
        assert_eq!(scheduler.step(now), Step::WaitForRun);
        let again = scheduler.schedule.first_after(scheduler.done_through(second));
        assert_eq!(again, Some(first));
        assert_eq!(
            scheduler.schedule.first_after(scheduler.done_through(first)),
            Some(second)
        );
        scheduler.run_ended(first, now);
        assert_eq!(scheduler.done_through(second), second);
    }

    #[test]
    fn a_schedule_without_further_instants_has_ended() {
        let mut scheduler = scheduler("cron:0 0 1 1 1 * 2026", CatchUp::Latest, "00:00:00");
        assert_eq!(scheduler.step(at("01:00:00")), Step::Run(at("01:00:00")));
        assert_eq!(scheduler.step(at("01:00:00")), Step::WaitForRun);
        scheduler.run_ended(at("01:00:00"), at("01:00:01"));
        assert_eq!(scheduler.step(at("01:00:01")), Step::Ended);
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// The clock goes on, or is set, by so many milliseconds.
        Clock(i64),
        /// The oldest run ends.
        RunEnds,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            6 => (1_i64..3_000).prop_map(Event::Clock),
            3 => Just(Event::RunEnds),
            1 => (0_i64..20_000_000).prop_map(Event::Clock),
            1 => (-60_000_i64..0).prop_map(Event::Clock),
            1 => (-9_000_000_i64..0).prop_map(Event::Clock),
        ];
        proptest::collection::vec(event, 1..120)
    }

    proptest! {
        /// Slow runs, stalls, clocks that are set forward and back: what the type promises holds at every step.
        #[test]
        fn whatever_the_clock_and_the_runs_do(
            spec in prop_oneof![Just("every:250ms"), Just("every:7s"), Just("every:1h"), Just("cron:*/5 * * * * *"), Just("cron:*/10 * * * *")],
            catch_up in prop_oneof![Just(CatchUp::None), Just(CatchUp::Latest), Just(CatchUp::All)],
            concurrency in 1_usize..4,
            events in events(),
        ) {
            let schedule = schedule(spec);
            let start = at("12:00:00.1");
            let mut scheduler = Scheduler::new(schedule.clone(), catch_up, concurrency, start);
            let mut now = start;
            let mut running: Vec<DateTime<Utc>> = Vec::new();
            // Since the clock was last followed back: where the instants are counted from, the last run, runs and skips.
            let (mut base, mut last_run, mut decided_on) = (start, start, 0);
            for event in events {
                match event {
                    Event::Clock(ms) => now += TimeDelta::milliseconds(ms),
                    Event::RunEnds if running.is_empty() => {}
                    Event::RunEnds => scheduler.run_ended(running.remove(0), now),
                }
                let mut began = 0;
                let step = loop {
                    let step = scheduler.step(now);
                    if let Some(by) = scheduler.take_set_back() {
                        prop_assert!(by > Duration::from_mins(1));
                        (base, last_run, decided_on) = (now, now, 0);
                        scheduler.take_skipped();
                    }
                    decided_on += scheduler.take_skipped();
                    let Step::Run(instant) = step else { break step };
                    prop_assert!(instant <= now, "not before its time");
                    prop_assert!(instant > last_run, "in order, none twice");
                    prop_assert_eq!(schedule.last_until(instant), Some(instant), "on the grid");
                    if catch_up == CatchUp::None {
                        prop_assert!(now - instant <= LATE_MAX);
                    }
                    last_run = instant;
                    decided_on += 1;
                    began += 1;
                    running.push(instant);
                };
                prop_assert!(running.len() <= concurrency);
                if catch_up != CatchUp::All {
                    prop_assert!(began <= 1, "no burst");
                }
                match step {
                    Step::WaitUntil(next) => {
                        prop_assert!(next > now);
                        prop_assert_eq!(schedule.last_until(next), Some(next));
                        // Every instant is accounted for: run or skipped.
                        let due = schedule.count(base, next) - 1;
                        // Of very many, not all are counted.
                        let counts_all = due + 1 < COUNT_MAX;
                        prop_assert!(decided_on == due || (!counts_all && decided_on > due), "{decided_on} of {due}");
                        // The clock is never waited for longer than to the next instant and a set-back that is put up with.
                        let usual = schedule.first_after(now).unwrap();
                        let interval = schedule.first_after(usual).unwrap() - usual;
                        prop_assert!(next - usual <= interval.max(SET_BACK_MIN) + interval);
                    }
                    Step::WaitForRun => prop_assert_eq!(running.len(), concurrency),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }

        /// A scheduler that continues another one after it was gone runs what the first would have run.
        #[test]
        fn a_restart_loses_no_instant(down_s in 0_i64..3_000, runs in 1_usize..20) {
            let schedule = schedule("every:7s");
            let mut now = at("12:00:00");
            let mut first = Scheduler::new(schedule.clone(), CatchUp::All, 1, now);
            let mut instants = Vec::new();
            let mut done_through = now;
            while instants.len() < runs {
                now += TimeDelta::seconds(1);
                if let Step::Run(instant) = first.step(now) {
                    instants.push(instant);
                    done_through = first.done_through(instant);
                    first.run_ended(instant, now);
                }
            }
            now += TimeDelta::seconds(down_s);
            let mut second = Scheduler::new(schedule.clone(), CatchUp::All, 1, done_through);
            while let Step::Run(instant) = second.step(now) {
                instants.push(instant);
                second.run_ended(instant, now);
            }
            let expected = schedule.count(at("12:00:00"), now);
            prop_assert_eq!(instants.len() as u64, expected);
            prop_assert!(instants.is_sorted_by(|one, next| one < next));
        }
    }
}
