//! The questions, and the answers that are right.

use std::fmt;
use std::ops::Range;

use serde_json::{Map, Value};

/// Sums over the points or derived rows of a writer. Two writers whose points differ have, but for chance, different digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    rows: i64,
    levels: i64,
    marks: i64,
    marked: i64,
    /// Tells points that have exchanged their values.
    weighted: i64,
    text_bytes: i64,
}

/// Weights repeat after so many points; a prime.
const WEIGHTS: u64 = 1009;
/// More than a batch has points, so that a batch and a point make one number.
const EVENT_BASE: u64 = 1_000_003;

impl Digest {
    pub(crate) fn add_point(&mut self, number: u64, level: i64, mark: Option<i64>, text_bytes: usize) {
        self.rows += 1;
        self.levels += level;
        self.marks += mark.unwrap_or(0);
        self.marked += i64::from(mark.is_some());
        self.weighted += (number % WEIGHTS + 1) as i64 * level;
        self.text_bytes += text_bytes as i64;
    }

    pub(crate) fn add_event(&mut self, number: u64, batch: u64) {
        self.rows += 1;
        self.levels += number as i64;
        self.marks += batch as i64;
        self.weighted += ((number * WEIGHTS + batch) % EVENT_BASE) as i64;
    }

    /// From a row that [`digest_sql`] or [`derived_digest_sql`] answered; `None` where it is not such a row. Sums over
    /// nothing are absent, and count as zero.
    pub fn from_row(row: &Map<String, Value>) -> Option<Self> {
        let number = |name: &str| match row.get(name) {
            Some(value) => value.as_i64(),
            None => Some(0),
        };
        Some(Self {
            rows: number("points")?,
            levels: number("levels")?,
            marks: number("marks")?,
            marked: number("marked")?,
            weighted: number("weighted")?,
            text_bytes: number("text_bytes")?,
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Digest {
            rows,
            levels,
            marks,
            marked,
            weighted,
            text_bytes,
        } = self;
        write!(
            f,
            "{rows} rows, sums {levels} {marks} ({marked}) {weighted} {text_bytes}"
        )
    }
}

/// A line that gives a table every column there is, so that questions can be asked before there is a change. It is written
/// first; its writer, `nobody`, is none that is checked.
pub fn first_line(table: &str) -> String {
    format!(
        "{table},series=0,writer=nobody number=0i,batch=0i,change=0i,level=0i,ratio=0.0,text=\"level 0\",mark=0i 0"
    )
}

/// Asks for the [`Digest`] of every writer, one a row, with the writer's id as text in `writer`. `torn` counts points of which
/// only some fields are there, or whose ratio or text is not that of their level.
pub fn digest_sql(table: &str) -> String {
    format!(
        "SELECT writer, count(*) AS points, sum(level) AS levels, sum(mark) AS marks, count(mark) AS marked, \
         sum((number % {WEIGHTS} + 1) * level) AS weighted, sum(character_length(text)) AS text_bytes, \
         count(*) FILTER (WHERE batch IS NULL OR level IS NULL OR ratio IS NULL OR text IS NULL \
         OR ratio * 8.0 <> level OR text <> concat('level ', level)) AS torn \
         FROM {table} GROUP BY writer ORDER BY writer"
    )
}

/// Asks for the digest of the rows that a trigger derived, which have the tag `writer` and the fields `number` and `batch`
/// (that of the batch which made or changed the point).
pub fn derived_digest_sql(table: &str) -> String {
    format!(
        "SELECT writer, count(*) AS points, sum(number) AS levels, sum(batch) AS marks, \
         sum((number * {WEIGHTS} + batch) % {EVENT_BASE}) AS weighted \
         FROM {table} GROUP BY writer ORDER BY writer"
    )
}

/// Asks for derived rows that are there more than once; there must be none.
pub fn doubled_sql(table: &str) -> String {
    format!(
        "SELECT writer, number, batch, count(*) AS times FROM {table} \
         GROUP BY writer, number, batch HAVING count(*) > 1 ORDER BY writer, number LIMIT 5"
    )
}

/// Asks how many rows of a batch are there, as `n`: all or none.
pub fn in_doubt_sql(table: &str, writer: u32, batch: u64) -> String {
    format!(
        "SELECT count(*) AS n FROM {table} WHERE writer = '{writer}' AND (batch = {batch} OR change = {batch})"
    )
}

/// Asks for the points of a writer with these numbers, in the order of [`Writer::rows`](crate::Writer::rows).
pub fn points_sql(table: &str, writer: u32, numbers: &Range<u64>) -> String {
    let Range { start, end } = numbers;
    format!(
        "SELECT writer, series, CAST(time AS BIGINT) AS time_ns, number, batch, change, level, ratio, text, mark \
         FROM {table} WHERE writer = '{writer}' AND number >= {start} AND number < {end} ORDER BY number"
    )
}
