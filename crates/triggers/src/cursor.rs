//! Where a trigger stands in the log: a position, and the finished runs beyond it (design.md section 6).

use std::collections::VecDeque;

/// Part of the log: the records after `after`, up to and including `through`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LogRange {
    /// The last record before the range.
    pub after: u64,
    /// The last record of the range.
    pub through: u64,
}

/// Names a run that was started and has not finished.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RunTicket(u64);

#[derive(Clone, Copy, Debug)]
struct Run {
    through: u64,
    finished: bool,
}

/// The position of a trigger. Runs are started in log order, each where the one before it ended, and may finish in any
/// order; the position is the end of the contiguous prefix of finished runs.
#[derive(Clone, Debug)]
pub struct Cursor {
    position: u64,
    /// The runs after `position`, in log order; the first of them is not finished.
    runs: VecDeque<Run>,
    /// Ticket of the first run in `runs`.
    first_ticket: u64,
}

impl Cursor {
    /// A cursor that has seen the log up to and including `position`.
    pub fn new(position: u64) -> Self {
        Self {
            position,
            runs: VecDeque::new(),
            first_ticket: 0,
        }
    }

    /// Everything up to here has been run and has finished.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The end of the last run that was started: where the next one begins.
    pub fn started_through(&self) -> u64 {
        self.runs.back().map_or(self.position, |run| run.through)
    }

    /// How many runs are in flight.
    pub fn in_flight(&self) -> usize {
        self.runs.iter().filter(|run| !run.finished).count()
    }

    /// Starts a run over `range`, which must begin where the last one ended. `None` if it does not, or is empty.
    pub fn start_run(&mut self, range: LogRange) -> Option<RunTicket> {
        if range.after != self.started_through() || range.through <= range.after {
            return None;
        }
        let ticket = RunTicket(self.first_ticket + self.runs.len() as u64);
        self.runs.push_back(Run {
            through: range.through,
            finished: false,
        });
        Some(ticket)
    }

    /// Passes over records that hold nothing for this trigger. Without effect if `through` is not ahead.
    pub fn skip_through(&mut self, through: u64) {
        if through <= self.started_through() {
            return;
        }
        if self.runs.is_empty() {
            self.position = through;
        } else {
            self.runs.push_back(Run {
                through,
                finished: true,
            });
        }
    }

    /// Records that a run has finished, well or finally not. Returns the position, which may have moved. A ticket that
    /// was used before changes nothing.
    pub fn finish_run(&mut self, ticket: RunTicket) -> u64 {
        let index = ticket
            .0
            .checked_sub(self.first_ticket)
            .map(|index| index as usize);
        if let Some(run) = index.and_then(|index| self.runs.get_mut(index)) {
            run.finished = true;
        }
        while let Some(run) = self.runs.front()
            && run.finished
        {
            self.position = run.through;
            self.runs.pop_front();
            self.first_ticket += 1;
        }
        self.position
    }

    /// The position as it will be when `ticket` finishes: what a record carries that is written before the run counts
    /// as finished.
    pub fn position_after(&self, ticket: RunTicket) -> u64 {
        let mut position = self.position;
        for (ahead, run) in self.runs.iter().enumerate() {
            if !run.finished && self.first_ticket + ahead as u64 != ticket.0 {
                break;
            }
            position = run.through;
        }
        position
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(after: u64, through: u64) -> LogRange {
        LogRange { after, through }
    }

    #[test]
    fn position_moves_over_the_contiguous_prefix_only() {
        let mut cursor = Cursor::new(10);
        let first = cursor.start_run(range(10, 12)).unwrap();
        let second = cursor.start_run(range(12, 15)).unwrap();
        cursor.skip_through(20);
        let third = cursor.start_run(range(20, 21)).unwrap();
        assert_eq!(
            (cursor.position(), cursor.started_through(), cursor.in_flight()),
            (10, 21, 3)
        );

        assert_eq!(cursor.position_after(second), 10);
        assert_eq!(cursor.finish_run(second), 10);
        assert_eq!(cursor.position_after(first), 20);
        assert_eq!(cursor.finish_run(first), 20);
        assert_eq!(cursor.finish_run(first), 20, "a ticket counts once");
        assert_eq!(cursor.finish_run(third), 21);
        assert_eq!(cursor.in_flight(), 0);
    }

    #[test]
    fn a_run_begins_where_the_last_one_ended() {
        let mut cursor = Cursor::new(5);
        assert_eq!(cursor.start_run(range(4, 6)), None);
        assert_eq!(cursor.start_run(range(6, 7)), None);
        assert_eq!(cursor.start_run(range(5, 5)), None);
        assert!(cursor.start_run(range(5, 6)).is_some());
        cursor.skip_through(3);
        assert_eq!(cursor.started_through(), 6);
    }

    proptest! {
        /// Whatever the order in which runs finish: the position never goes back, never passes an unfinished run, and
        /// ends at the end of the log.
        #[test]
        fn every_order_of_finishing_ends_at_the_end(
            lengths in proptest::collection::vec((1_u64..4, any::<bool>()), 1..20),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 20),
        ) {
            let mut cursor = Cursor::new(0);
            let mut open = Vec::new();
            for (length, skipped) in lengths {
                let after = cursor.started_through();
                if skipped {
                    cursor.skip_through(after + length);
                } else {
                    let ticket = cursor.start_run(range(after, after + length)).unwrap();
                    open.push((ticket, after));
                }
            }
            let end = cursor.started_through();
            for index in order {
                if open.is_empty() {
                    break;
                }
                let (ticket, _) = open.swap_remove(index.index(open.len()));
                let before = cursor.position();
                let foretold = cursor.position_after(ticket);
                let position = cursor.finish_run(ticket);
                prop_assert_eq!(position, foretold);
                prop_assert!(position >= before);
                prop_assert!(open.iter().all(|(_, after)| position <= *after));
                prop_assert_eq!(cursor.in_flight(), open.len());
            }
            if open.is_empty() {
                prop_assert_eq!(cursor.position(), end);
            }
        }
    }
}
