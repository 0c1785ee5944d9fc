//! Where a trigger stands in the log, and the runs that are on their way from there (design.md section 6).

use crate::position::{LogRange, Position};

/// Names a run that was started and has not finished.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RunTicket(u64);

/// The cursor of a trigger. Runs are started in log order, each where the one before it ended, and may finish in any
/// order. No run covers a record that is finished already, be it by a run of an earlier start of the trigger.
#[derive(Clone, Debug)]
pub struct Cursor {
    position: Position,
    /// The end of the last run or of the records passed over last.
    started_through: u64,
    in_flight: Vec<(RunTicket, LogRange)>,
    next_ticket: u64,
}

impl Cursor {
    /// A cursor that has `position` behind it.
    pub fn new(position: Position) -> Self {
        Self {
            started_through: position.through(),
            position,
            in_flight: Vec::new(),
            next_ticket: 0,
        }
    }

    /// What has been run and has finished.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Where the next run begins: behind the last run that was started, and behind what is finished from there on.
    pub fn started_through(&self) -> u64 {
        self.position.contiguous_end(self.started_through)
    }

    /// How far the next run may go where there is something to read up to `through`: to the next record that is
    /// finished already.
    pub fn run_end(&self, through: u64) -> u64 {
        let gap_end = self.position.gap_end(self.started_through());
        gap_end.map_or(through, |end| end.min(through))
    }

    /// How many runs are in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Starts a run over `range`, which must begin where the last one ended and stop before what is finished already.
    /// `None` if it does not, or is empty.
    pub fn start_run(&mut self, range: LogRange) -> Option<RunTicket> {
        if range.after != self.started_through()
            || range.through <= range.after
            || range.through > self.run_end(range.through)
        {
            return None;
        }
        let ticket = RunTicket(self.next_ticket);
        self.next_ticket += 1;
        self.in_flight.push((ticket, range));
        self.started_through = range.through;
        Some(ticket)
    }

    /// Passes over records that hold nothing for this trigger. Without effect if `through` is not ahead.
    pub fn skip_through(&mut self, through: u64) {
        let after = self.started_through();
        if through > after {
            self.position.add(LogRange { after, through });
            self.started_through = through;
        }
    }

    /// Records that a run has finished, well or finally not. A ticket that was used before changes nothing.
    pub fn finish_run(&mut self, ticket: RunTicket) {
        if let Some(index) = self.index_of(ticket) {
            let (_, range) = self.in_flight.swap_remove(index);
            self.position.add(range);
        }
    }

    /// The position as it will be when `ticket` finishes: what a record carries that is written before the run counts
    /// as finished.
    pub fn position_after(&self, ticket: RunTicket) -> Position {
        let mut position = self.position.clone();
        if let Some(index) = self.index_of(ticket) {
            position.add(self.in_flight[index].1);
        }
        position
    }

    fn index_of(&self, ticket: RunTicket) -> Option<usize> {
        self.in_flight.iter().position(|(other, _)| *other == ticket)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn range(after: u64, through: u64) -> LogRange {
        LogRange { after, through }
    }

    #[test]
    fn position_moves_over_the_contiguous_prefix_only() {
        let mut cursor = Cursor::new(Position::at(10));
        let first = cursor.start_run(range(10, 12)).unwrap();
        let second = cursor.start_run(range(12, 15)).unwrap();
        cursor.skip_through(20);
        let third = cursor.start_run(range(20, 21)).unwrap();
        assert_eq!(
            (
                cursor.position().through(),
                cursor.started_through(),
                cursor.in_flight()
            ),
            (10, 21, 3)
        );

        let beyond = Position::from_parts(10, vec![range(12, 20)]).unwrap();
        assert_eq!(cursor.position_after(second), beyond);
        cursor.finish_run(second);
        assert_eq!(cursor.position(), &beyond);
        assert_eq!(cursor.position_after(first), Position::at(20));
        cursor.finish_run(first);
        cursor.finish_run(first);
        assert_eq!(cursor.position(), &Position::at(20), "a ticket counts once");
        cursor.finish_run(third);
        assert_eq!((cursor.position(), cursor.in_flight()), (&Position::at(21), 0));
    }

    #[test]
    fn a_run_begins_where_the_last_one_ended() {
        let mut cursor = Cursor::new(Position::at(5));
        assert_eq!(cursor.start_run(range(4, 6)), None);
        assert_eq!(cursor.start_run(range(6, 7)), None);
        assert_eq!(cursor.start_run(range(5, 5)), None);
        assert!(cursor.start_run(range(5, 6)).is_some());
        cursor.skip_through(3);
        assert_eq!(cursor.started_through(), 6);
    }

    #[test]
    fn what_an_earlier_start_has_finished_is_left_out() {
        let mut cursor = Cursor::new(Position::from_parts(5, vec![range(7, 9), range(12, 14)]).unwrap());
        assert_eq!((cursor.started_through(), cursor.run_end(20)), (5, 7));
        assert_eq!(cursor.start_run(range(5, 8)), None);
        assert!(cursor.start_run(range(5, 7)).is_some());
        assert_eq!(
            (cursor.started_through(), cursor.run_end(11), cursor.run_end(20)),
            (9, 11, 12)
        );
        cursor.skip_through(12);
        assert_eq!((cursor.started_through(), cursor.run_end(20)), (14, 20));
    }

    /// What happens to a cursor: a run over that many records is started or passed over, an unfinished one finishes, or
    /// the trigger ends and starts anew at its position.
    #[derive(Debug, Clone)]
    enum Step {
        Start(u64),
        Skip(u64),
        Finish(prop::sample::Index),
        FinishFirst,
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1_u64..4).prop_map(Step::Start),
            1 => (1_u64..4).prop_map(Step::Skip),
            6 => any::<prop::sample::Index>().prop_map(Step::Finish),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        /// Whatever the order in which runs finish and however often the trigger starts anew: every record is finished
        /// exactly once, and there are no more ranges beyond the position than runs ever were in flight at once.
        #[test]
        fn every_record_is_finished_once(steps in proptest::collection::vec(step(), 1..100)) {
            const CONCURRENCY: usize = 4;
            let mut cursor = Cursor::new(Position::at(0));
            let mut open: Vec<(RunTicket, LogRange)> = Vec::new();
            let mut finished: BTreeMap<u64, usize> = BTreeMap::new();
            let mut restarts = 0;
            // In the end all that is open finishes, after one more start.
            let the_end = (0..200).map(|step| if step % 2 == 0 { Step::Start(10) } else { Step::FinishFirst });
            for step in steps.into_iter().chain([Step::Restart]).chain(the_end) {
                let after = cursor.started_through();
                match step {
                    Step::Start(length) if open.len() < CONCURRENCY => {
                        let range = range(after, cursor.run_end(after + length));
                        open.push((cursor.start_run(range).unwrap(), range));
                    }
                    Step::Skip(length) => {
                        let through = cursor.run_end(after + length);
                        cursor.skip_through(through);
                        (after + 1..=through).for_each(|record| *finished.entry(record).or_default() += 1);
                    }
                    Step::Finish(_) | Step::FinishFirst if !open.is_empty() => {
                        let index = if let Step::Finish(index) = step { index.index(open.len()) } else { 0 };
                        let (ticket, range) = open.remove(index);
                        let foretold = cursor.position_after(ticket);
                        let before = cursor.position().through();
                        cursor.finish_run(ticket);
                        prop_assert_eq!(cursor.position(), &foretold);
                        prop_assert!(cursor.position().through() >= before);
                        (range.after + 1..=range.through).for_each(|record| *finished.entry(record).or_default() += 1);
                    }
                    Step::Start(_) | Step::Finish(_) | Step::FinishFirst => {}
                    Step::Restart => {
                        cursor = Cursor::new(cursor.position().clone());
                        open.clear();
                        restarts += 1;
                    }
                }
                let position = cursor.position();
                let mut covered: BTreeSet<u64> = (1..=position.through()).collect();
                for range in position.finished() {
                    covered.extend(range.after + 1..=range.through);
                }
                prop_assert_eq!(finished.keys().copied().collect::<BTreeSet<u64>>(), covered);
                prop_assert!(finished.values().all(|times| *times == 1), "a record was finished twice");
                prop_assert!(open.iter().all(|(_, range)| position.through() <= range.after));
                prop_assert_eq!(cursor.in_flight(), open.len());
                if restarts == 0 {
                    prop_assert!(position.finished().len() <= CONCURRENCY);
                }
            }
            prop_assert!(cursor.position().finished().len() <= CONCURRENCY);
            prop_assert!(cursor.position().through() > 0);
        }
    }
}
