//! What must be in the database: a plain map, and the operations whose fate is not known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

/// Identifies a point: table, tags, time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PointKey {
    pub(crate) table: String,
    /// `host` and `region`, as far as the point has them.
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) time: i64,
}

/// The fields of each point.
pub(crate) type Points = BTreeMap<PointKey, BTreeMap<String, i64>>;

/// One operation that changes points.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    /// Rows, each a point with some of its fields.
    Write(Vec<(PointKey, BTreeMap<String, i64>)>),
    /// The points of a table in a span of time, those of one host or all.
    Delete {
        table: String,
        time_first: i64,
        time_last: i64,
        host: Option<String>,
    },
}

impl Operation {
    fn apply(&self, points: &mut Points) {
        match self {
            Self::Write(rows) => {
                for (key, fields) in rows {
                    let point = points.entry(key.clone()).or_default();
                    point.extend(fields.iter().map(|(name, value)| (name.clone(), *value)));
                }
            }
            Self::Delete {
                table,
                time_first,
                time_last,
                host,
            } => points.retain(|key, _| {
                let is_meant = key.table == *table
                    && (*time_first..=*time_last).contains(&key.time)
                    && host
                        .as_ref()
                        .is_none_or(|host| key.tags.get("host") == Some(host));
                !is_meant
            }),
        }
    }

    /// The values that it writes.
    fn values(&self) -> Vec<i64> {
        match self {
            Self::Write(rows) => rows
                .iter()
                .flat_map(|(_, fields)| fields.values().copied())
                .collect(),
            Self::Delete { .. } => Vec::new(),
        }
    }

    /// As line protocol, unless it is a delete.
    pub(crate) fn lines(&self) -> Option<String> {
        let Self::Write(rows) = self else { return None };
        let line = |(key, fields): &(PointKey, BTreeMap<String, i64>)| {
            let tags: String = key
                .tags
                .iter()
                .map(|(name, value)| format!(",{name}={value}"))
                .collect();
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name}={value}i"))
                .collect();
            format!("{}{tags} {} {}\n", key.table, fields.join(","), key.time)
        };
        Some(rows.iter().map(line).collect())
    }
}

/// The points that were acknowledged, and what may have happened since.
#[derive(Debug, Default)]
pub(crate) struct Model {
    acknowledged: Points,
    /// Operations behind the last acknowledged one that failed or were not waited for, in order: a log can hold a run of
    /// them that follow each other, or none.
    uncertain: Vec<Operation>,
    /// Every value that is known to have been durable.
    written: BTreeSet<i64>,
}

/// Content that no course of events leads to.
pub(crate) struct Contradiction(String);

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Model {
    /// The operation is durable. Those before it that failed will not come back: their place in the log is taken.
    pub(crate) fn acknowledge(&mut self, operation: &Operation) {
        operation.apply(&mut self.acknowledged);
        self.written.extend(operation.values());
        self.uncertain.clear();
    }

    /// Every value that is known to have been durable, overwritten and deleted ones too.
    pub(crate) fn written(&self) -> &BTreeSet<i64> {
        &self.written
    }

    /// What has not happened by now will not: a record was written behind it.
    pub(crate) fn forget_doubts(&mut self) {
        self.uncertain.clear();
    }

    /// The operation may be durable, or become so.
    pub(crate) fn doubt(&mut self, operation: Operation) {
        self.uncertain.push(operation);
    }

    /// Compares with what is there, and takes what turned out to have happened as acknowledged. What has not happened may
    /// still come back.
    pub(crate) fn resolve(&mut self, found: &Points) -> Result<(), Contradiction> {
        let count = self.uncertain.len();
        let runs = (0..=count).flat_map(|first| (first..=count).map(move |end| (first, end)));
        for (first, end) in runs.filter(|(first, end)| first < end || *first == 0) {
            let mut points = self.acknowledged.clone();
            for operation in &self.uncertain[first..end] {
                operation.apply(&mut points);
            }
            if points == *found {
                if first < end {
                    let happened: Vec<i64> = self.uncertain[first..end]
                        .iter()
                        .flat_map(Operation::values)
                        .collect();
                    self.written.extend(happened);
                    self.uncertain.clear();
                }
                self.acknowledged = points;
                return Ok(());
            }
        }
        Err(Contradiction(self.describe(found)))
    }

    /// The first differences from what was acknowledged.
    fn describe(&self, found: &Points) -> String {
        let missing = self
            .acknowledged
            .iter()
            .filter(|(key, fields)| found.get(key) != Some(fields));
        let strange = found
            .iter()
            .filter(|(key, _)| !self.acknowledged.contains_key(key));
        let mut text = format!(
            "{} points acknowledged, {} found, {} operations uncertain",
            self.acknowledged.len(),
            found.len(),
            self.uncertain.len()
        );
        for (key, fields) in missing.take(5) {
            let there = found.get(key);
            let _ = write!(text, "\n  acknowledged {key:?} = {fields:?}, found {there:?}");
        }
        for (key, fields) in strange.take(5) {
            let _ = write!(text, "\n  found {key:?} = {fields:?}, never acknowledged");
        }
        text
    }
}
