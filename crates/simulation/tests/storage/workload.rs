//! What the simulated clients write and delete.

use std::collections::BTreeMap;

use tidemill_simulation::Random;

use crate::model::{Operation, PointKey};

const TABLES: [&str; 2] = ["cpu", "disk"];
const HOSTS: usize = 4;
const FIELDS: [&str; 4] = ["a", "b", "c", "d"];
/// Nanoseconds between the instants that points can have.
const TICK_NS: i64 = 1_000_000_000;

/// Makes operations; every value it writes is another, so that what is found tells which write it came from.
#[derive(Debug)]
pub(crate) struct Workload {
    next_value: i64,
    /// The newest instant so far, in ticks.
    newest: i64,
}

impl Workload {
    pub(crate) fn new() -> Self {
        Self {
            next_value: 1,
            newest: 1000,
        }
    }

    /// Some rows: mostly new, some late, some over points that are there, some years away.
    pub(crate) fn write(&mut self, random: &mut Random) -> Operation {
        let row_count = 1 + random.below(12);
        let table = TABLES[random.below(TABLES.len())];
        Operation::Write((0..row_count).map(|_| self.row(table, random)).collect())
    }

    /// The points of some span of time, of one host or all.
    pub(crate) fn delete(&self, random: &mut Random) -> Operation {
        let (first, second) = (self.some_time(random), self.some_time(random));
        Operation::Delete {
            table: TABLES[random.below(TABLES.len())].to_owned(),
            time_first: first.min(second),
            time_last: first.max(second),
            host: (!random.one_in(3)).then(|| format!("h{}", random.below(HOSTS))),
        }
    }

    fn row(&mut self, table: &str, random: &mut Random) -> (PointKey, BTreeMap<String, i64>) {
        let mut tags = BTreeMap::new();
        if !random.one_in(8) {
            tags.insert("host".to_owned(), format!("h{}", random.below(HOSTS)));
        }
        if random.one_in(3) {
            tags.insert("region".to_owned(), format!("r{}", random.below(2)));
        }
        let time = if random.one_in(2) {
            self.newest += random.below(3) as i64;
            self.newest * TICK_NS
        } else {
            self.some_time(random)
        };
        let mut fields = BTreeMap::new();
        for _ in 0..=random.below(2) {
            fields.insert(FIELDS[random.below(FIELDS.len())].to_owned(), self.next_value);
            self.next_value += 1;
        }
        let table = table.to_owned();
        (PointKey { table, tags, time }, fields)
    }

    fn some_time(&self, random: &mut Random) -> i64 {
        let tick = match random.below(10) {
            0 => random.below(100_000_000) as i64,
            1..4 => random.below(20) as i64,
            _ => self.newest - random.below(30) as i64,
        };
        tick * TICK_NS
    }
}
