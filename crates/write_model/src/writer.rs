//! One writer: the points it has made and changed, and the batch it is about to write.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::ops::Range;

use serde_json::{Map, Value, json};

use crate::answers::Digest;

/// 2026-01-01T00:00:00Z.
const START_NS: i64 = 1_767_225_600_000_000_000;
const SECOND_NS: i64 = 1_000_000_000;
const HOUR_NS: i64 = 3600 * SECOND_NS;
/// Every so many points one is of long ago, as when history is imported beside what is measured now.
const HISTORICAL_EVERY: u64 = 7;
/// Every so many rows of a batch one changes an earlier point.
const CHANGE_EVERY: u64 = 4;
/// Points of a writer belong to so many series.
const SERIES: u64 = 5;
/// A prime, so that changes go through all points.
const CHANGE_STRIDE: u64 = 7919;

/// So many points are a few megabytes of JSON.
const PART_POINTS: u64 = 20_000;

/// A point as it must be there.
#[derive(Clone)]
struct Point {
    /// The batch that made it.
    batch: u64,
    /// The batch that changed it last.
    change: Option<u64>,
    level: i64,
    /// Absent until a change sets it.
    mark: Option<i64>,
}

/// What a row does to an earlier point; fields that it does not name stay as they are.
#[derive(Clone, Copy)]
enum Change {
    /// What the point had already, with what follows from it.
    Level(i64),
    /// What the point may not have had yet.
    Mark(i64),
}

/// A write request.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Counts the batches of its writer from 1. One that turned out not to be there is not used again.
    pub number: u64,
    /// Its rows, each of another point.
    pub rows: u64,
    /// Its rows in line protocol, with times in nanoseconds.
    pub lines: String,
}

/// A batch whose rows are there or not.
struct Doubt {
    batch: Batch,
    /// The writer's points, were it there.
    made: Vec<Point>,
    changed: Vec<(usize, Point)>,
}

/// What one writer has written.
pub struct Writer {
    id: u32,
    /// By number.
    points: Vec<Point>,
    batches: u64,
    /// Rows that triggers must have seen: number of the point and of the batch.
    events: Vec<(u64, u64)>,
    doubt: Option<Doubt>,
}

impl Writer {
    /// A writer that has written nothing. Its `id` is the tag `writer` of its points, and tells it from others.
    pub fn new(id: u32) -> Self {
        Self {
            id,
            points: Vec::new(),
            batches: 0,
            events: Vec::new(),
            doubt: None,
        }
    }

    /// The tag `writer` of its points.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// How many points must be there.
    pub fn points(&self) -> u64 {
        self.points.len() as u64
    }

    /// How many rows were written in all, changes included.
    pub fn rows_written(&self) -> u64 {
        self.events.len() as u64
    }

    /// The batch that may be there or not.
    pub fn in_doubt(&self) -> Option<&Batch> {
        self.doubt.as_ref().map(|doubt| &doubt.batch)
    }

    /// A new batch of at least one row for `table`, in doubt from now on. About a quarter of its rows change points of
    /// earlier batches, one field of each; some of the others are years old.
    ///
    /// # Panics
    /// Where the batch before is still in doubt.
    pub fn next_batch(&mut self, table: &str, rows: u64) -> &Batch {
        assert!(self.doubt.is_none(), "one batch at a time is in doubt");
        self.batches += 1;
        let number = self.batches;
        let mut lines = String::new();
        let (mut made, mut changed) = (Vec::new(), Vec::new());
        let mut targets = BTreeSet::new();
        for row in 0..rows.max(1) {
            let target = self.change_target(number, row);
            if let Some(target) = target.filter(|target| targets.insert(*target)) {
                let change = Change::of_row(number, row);
                change.write_line(&mut lines, table, self.id, target as u64, number);
                changed.push((target, self.points[target].changed_by(change, number)));
            } else {
                let point = Point::made_by(number, row);
                let position = (self.points.len() + made.len()) as u64;
                point.write_line(&mut lines, table, self.id, position);
                made.push(point);
            }
        }
        let batch = Batch {
            number,
            rows: rows.max(1),
            lines,
        };
        &self.doubt.insert(Doubt { batch, made, changed }).batch
    }

    fn change_target(&self, batch: u64, row: u64) -> Option<usize> {
        let wanted = row % CHANGE_EVERY == CHANGE_EVERY - 1 && !self.points.is_empty();
        wanted.then(|| ((batch + row).wrapping_mul(CHANGE_STRIDE) % self.points.len() as u64) as usize)
    }

    /// Says whether the batch in doubt is there: it was acknowledged, or [`in_doubt_sql`](crate::in_doubt_sql) found it.
    /// Does nothing where none is in doubt.
    pub fn settle(&mut self, is_there: bool) {
        let Some(doubt) = self.doubt.take().filter(|_| is_there) else {
            return;
        };
        let first = self.points.len() as u64;
        let made = first..first + doubt.made.len() as u64;
        let changed = doubt.changed.iter().map(|(target, _)| *target as u64);
        let rows = made.chain(changed);
        self.events.extend(rows.map(|point| (point, doubt.batch.number)));
        self.points.extend(doubt.made);
        for (target, point) in doubt.changed {
            self.points[target] = point;
        }
    }

    /// What [`digest_sql`](crate::digest_sql) must answer for this writer.
    pub fn digest(&self) -> Digest {
        let mut digest = Digest::default();
        for (number, point) in self.points.iter().enumerate() {
            digest.add_point(number as u64, point.level, point.mark, text(point.level).len());
        }
        digest
    }

    /// What [`derived_digest_sql`](crate::derived_digest_sql) must answer for this writer.
    pub fn derived_digest(&self) -> Digest {
        let mut digest = Digest::default();
        for &(number, batch) in &self.events {
            digest.add_event(number, batch);
        }
        digest
    }

    /// What [`points_sql`](crate::points_sql) must answer for these points of this writer, row by row.
    pub fn rows(&self, numbers: &Range<u64>) -> Vec<Value> {
        let points = self.points.iter().enumerate();
        points
            .skip(numbers.start as usize)
            .take((numbers.end - numbers.start) as usize)
            .map(|(number, point)| point.row(self.id, number as u64))
            .collect()
    }

    /// The numbers of its points in parts, each small enough for one answer.
    pub fn parts(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let points = self.points();
        (0..points)
            .step_by(PART_POINTS as usize)
            .map(move |start| start..(start + PART_POINTS).min(points))
    }
}

impl Point {
    fn made_by(batch: u64, row: u64) -> Self {
        Point {
            batch,
            change: None,
            level: ((batch * 31 + row * 17) % 1000) as i64 - 500,
            mark: None,
        }
    }

    fn changed_by(&self, change: Change, batch: u64) -> Self {
        let mut changed = self.clone();
        changed.change = Some(batch);
        match change {
            Change::Level(level) => changed.level = level,
            Change::Mark(mark) => changed.mark = Some(mark),
        }
        changed
    }

    fn write_line(&self, lines: &mut String, table: &str, writer: u32, number: u64) {
        let _infallible = writeln!(
            lines,
            "{table},series={series},writer={writer} number={number}i,batch={batch}i,level={level}i,ratio={ratio:?},\
             text=\"{text}\" {time}",
            series = number % SERIES,
            batch = self.batch,
            level = self.level,
            ratio = ratio(self.level),
            text = text(self.level),
            time = time_ns(number),
        );
    }

    fn row(&self, writer: u32, number: u64) -> Value {
        let mut row = Map::new();
        row.insert("writer".to_owned(), json!(writer.to_string()));
        row.insert("series".to_owned(), json!((number % SERIES).to_string()));
        row.insert("time_ns".to_owned(), json!(time_ns(number)));
        row.insert("number".to_owned(), json!(number));
        row.insert("batch".to_owned(), json!(self.batch));
        row.insert("level".to_owned(), json!(self.level));
        row.insert("ratio".to_owned(), json!(ratio(self.level)));
        row.insert("text".to_owned(), json!(text(self.level)));
        // Absent values are left out of the answer.
        if let Some(change) = self.change {
            row.insert("change".to_owned(), json!(change));
        }
        if let Some(mark) = self.mark {
            row.insert("mark".to_owned(), json!(mark));
        }
        Value::Object(row)
    }
}

impl Change {
    fn of_row(batch: u64, row: u64) -> Self {
        let value = ((batch * 13 + row * 29) % 1000) as i64;
        if (batch + row / CHANGE_EVERY).is_multiple_of(2) {
            Change::Level(value)
        } else {
            Change::Mark(value)
        }
    }

    fn write_line(self, lines: &mut String, table: &str, writer: u32, number: u64, batch: u64) {
        let series = number % SERIES;
        let _infallible = write!(
            lines,
            "{table},series={series},writer={writer} number={number}i,change={batch}i,"
        );
        let _infallible = match self {
            Change::Level(level) => write!(
                lines,
                "level={level}i,ratio={:?},text=\"{}\"",
                ratio(level),
                text(level)
            ),
            Change::Mark(mark) => write!(lines, "mark={mark}i"),
        };
        let _infallible = writeln!(lines, " {}", time_ns(number));
    }
}

/// Follows the level, so that one changed without the other would be seen.
fn text(level: i64) -> String {
    format!("level {level}")
}

/// Follows the level too; in eighths, which floats hold exactly.
fn ratio(level: i64) -> f64 {
    level as f64 / 8.0
}

/// No two points of a writer have the same time.
fn time_ns(number: u64) -> i64 {
    let number_ns = number as i64;
    if number % HISTORICAL_EVERY == HISTORICAL_EVERY / 2 {
        START_NS - (number_ns + 1) * HOUR_NS
    } else {
        START_NS + number_ns * SECOND_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Applies line protocol to a map of points, last field by field: the plainest database there is.
    fn apply(database: &mut BTreeMap<String, BTreeMap<String, String>>, lines: &str) {
        for line in lines.lines() {
            let (key, rest) = line.split_once(' ').expect("a line has fields");
            let (fields, time) = rest.rsplit_once(' ').expect("a line has a time");
            let point = database.entry(format!("{key} {time}")).or_default();
            for field in fields.split(',') {
                let (name, value) = field.split_once('=').expect("a field has a value");
                point.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn integer(point: &BTreeMap<String, String>, field: &str) -> Option<i64> {
        Some(
            point
                .get(field)?
                .trim_end_matches('i')
                .parse()
                .expect("an integer"),
        )
    }

    #[test]
    fn the_model_says_what_the_lines_say() {
        let mut writer = Writer::new(3);
        let mut database = BTreeMap::new();
        for round in 0..40_u64 {
            let lines = writer.next_batch("t", 1 + round * 7 % 30).lines.clone();
            // Every fifth is lost on its way.
            let is_there = round % 5 != 4;
            if is_there {
                apply(&mut database, &lines);
            }
            writer.settle(is_there);
        }
        assert_eq!(writer.points(), database.len() as u64);
        let mut digest = Digest::default();
        for point in database.values() {
            let number = integer(point, "number").expect("every point has a number") as u64;
            let text = point["text"].trim_matches('"');
            let level = integer(point, "level").expect("every point has a level");
            digest.add_point(number, level, integer(point, "mark"), text.len());
        }
        assert_eq!(writer.digest(), digest);
        assert!(writer.rows_written() > writer.points());
    }

    #[test]
    fn a_batch_that_is_not_there_leaves_nothing() {
        let mut writer = Writer::new(0);
        writer.next_batch("t", 10);
        writer.settle(true);
        let before = (writer.digest(), writer.derived_digest(), writer.rows(&(0..99)));
        writer.next_batch("t", 10);
        writer.settle(false);
        assert_eq!(
            (writer.digest(), writer.derived_digest(), writer.rows(&(0..99))),
            before
        );
        assert_eq!(writer.next_batch("t", 10).number, 3);
    }

    #[test]
    fn a_batch_has_a_row_of_each_point_once() {
        let mut writer = Writer::new(0);
        for _ in 0..20 {
            let batch = writer.next_batch("t", 200);
            let rows = batch.lines.lines().count() as u64;
            assert_eq!(rows, batch.rows);
            let keys: BTreeSet<String> = batch
                .lines
                .lines()
                .map(|line| {
                    let (key, rest) = line.split_once(' ').expect("fields");
                    format!("{key} {}", rest.rsplit_once(' ').expect("a time").1)
                })
                .collect();
            assert_eq!(keys.len() as u64, rows);
            writer.settle(true);
        }
    }
}
