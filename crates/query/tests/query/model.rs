//! What queries should answer, kept as a plain map, and random writes to compare by.

use std::collections::BTreeMap;
use std::fmt::Write;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tidemill_query::Params;

use crate::support::{Fixture, rows};

/// A write: of which point, and of which of its fields.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) host: Option<&'static str>,
    pub(crate) region: Option<&'static str>,
    pub(crate) time: i64,
    pub(crate) number: Option<i64>,
    pub(crate) count: Option<i64>,
    pub(crate) text: Option<&'static str>,
}

pub(crate) type Point = (i64, Option<&'static str>, Option<&'static str>);
pub(crate) type Fields = (Option<i64>, Option<i64>, Option<&'static str>);

/// What should be there: the points and their fields.
#[derive(Default)]
pub(crate) struct Model(BTreeMap<Point, Fields>);

impl Model {
    pub(crate) fn write(&mut self, row: &Row) {
        let fields = self.0.entry((row.time, row.host, row.region)).or_default();
        fields.0 = row.number.or(fields.0);
        fields.1 = row.count.or(fields.1);
        fields.2 = row.text.or(fields.2);
    }

    /// Removes the points for which `goes` holds.
    pub(crate) fn delete(&mut self, goes: impl Fn(&Point) -> bool) {
        self.0.retain(|point, _| !goes(point));
    }

    fn sums_by_host(&self) -> Vec<Vec<String>> {
        let mut sums: BTreeMap<Option<&str>, Option<i64>> = BTreeMap::new();
        for ((_, host, _), (number, ..)) in &self.0 {
            let sum = sums.entry(*host).or_default();
            if let Some(number) = number {
                *sum = Some(sum.unwrap_or_default() + number);
            }
        }
        let mut rows: Vec<_> = sums
            .iter()
            .map(|(host, sum)| vec![text(*host), text(*sum)])
            .collect();
        rows.sort();
        rows
    }

    /// The points for which `keep` holds, as the queries render them, sorted.
    fn rows(
        &self,
        keep: impl Fn(&Point, &Fields) -> bool,
        render: impl Fn(&Point, &Fields) -> Vec<String>,
    ) -> Vec<Vec<String>> {
        let mut rows: Vec<Vec<String>> = self
            .0
            .iter()
            .filter(|(point, fields)| keep(point, fields))
            .map(|(point, fields)| render(point, fields))
            .collect();
        rows.sort();
        rows
    }
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn render_all((time, host, region): &Point, (number, count, string): &Fields) -> Vec<String> {
    vec![
        time.to_string(),
        text(*host),
        text(*region),
        text(*number),
        text(*count),
        text(*string),
    ]
}

pub(crate) fn line(table: &str, row: &Row) -> String {
    let mut line = table.to_owned();
    for (name, value) in [("host", row.host), ("region", row.region)] {
        if let Some(value) = value {
            write!(line, ",{name}={value}").unwrap();
        }
    }
    let fields: Vec<String> = [
        row.number.map(|value| format!("number={value}")),
        row.count.map(|value| format!("count={value}i")),
        row.text.map(|value| format!("text=\"{value}\"")),
    ]
    .into_iter()
    .flatten()
    .collect();
    format!("{line} {} {}", fields.join(","), row.time)
}

pub(crate) fn any_row() -> impl Strategy<Value = Row> {
    let host = prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))];
    let region = prop_oneof![3 => Just(None), 1 => Just(Some("x"))];
    let text = prop_oneof![Just(None), Just(Some("p")), Just(Some("q"))];
    let number = prop::option::of(0..4i64);
    (host, region, 0..8i64, number.clone(), number, text).prop_map(
        |(host, region, time, number, count, text)| {
            // A line needs a field.
            let number = if count.is_none() && text.is_none() {
                number.or(Some(9))
            } else {
                number
            };
            Row {
                host,
                region,
                time,
                number,
                count,
                text,
            }
        },
    )
}

/// Later commits tend to later times, so that some rows are late and others are not.
pub(crate) fn any_commits() -> impl Strategy<Value = Vec<Vec<Row>>> {
    prop::collection::vec((prop::collection::vec(any_row(), 1..8), 0..4i64), 1..8).prop_map(|commits| {
        let mut start = 0;
        commits
            .into_iter()
            .map(|(mut rows, step)| {
                start += step;
                for row in &mut rows {
                    row.time += start;
                }
                rows
            })
            .collect()
    })
}

/// The first row of every table: it has all columns, so that every query finds its names.
pub(crate) const FIRST: Row = Row {
    host: Some("z"),
    region: Some("z"),
    time: -1,
    number: Some(0),
    count: Some(0),
    text: Some("z"),
};

/// Compares answers over `table` with the model; `from` is an instant to cut at.
pub(crate) async fn check_queries(
    fixture: &Fixture,
    table: &str,
    model: &Model,
    from: i64,
) -> Result<(), TestCaseError> {
    let all = "CAST(time AS BIGINT) AS instant, host, region, CAST(number AS BIGINT), count, text";
    let instant = format!("arrow_cast({from}, 'Timestamp(ns)')");
    let check = async |columns: &str, condition: &str, expected: Vec<Vec<String>>| {
        let sql = format!("SELECT {columns} FROM {table} {condition}");
        let mut found = rows(&fixture.batches(&sql, Params::new()).await.unwrap());
        found.sort();
        prop_assert_eq!(found, expected, "{}", sql);
        Ok(())
    };
    check(all, "", model.rows(|_, _| true, render_all)).await?;
    check(
        all,
        "WHERE host = 'a'",
        model.rows(|point, _| point.1 == Some("a"), render_all),
    )
    .await?;
    check(
        all,
        "WHERE host IS NULL",
        model.rows(|point, _| point.1.is_none(), render_all),
    )
    .await?;
    check(
        all,
        &format!("WHERE time >= {instant}"),
        model.rows(|point, _| point.0 >= from, render_all),
    )
    .await?;
    check(
        all,
        &format!("WHERE time < {instant} AND region = 'x' AND number > 1"),
        model.rows(
            |point, fields| point.0 < from && point.2 == Some("x") && fields.0 > Some(1),
            render_all,
        ),
    )
    .await?;
    check(
        "text, count",
        &format!("WHERE text = 'p' OR time = {instant}"),
        model.rows(
            |point, fields| fields.2 == Some("p") || point.0 == from,
            |_, fields| vec![text(fields.2), text(fields.1)],
        ),
    )
    .await?;
    check(
        "region",
        &format!("WHERE count IS NULL AND (host = 'b' OR time > {instant})"),
        model.rows(
            |point, fields| fields.1.is_none() && (point.1 == Some("b") || point.0 > from),
            |point, _| vec![text(point.2)],
        ),
    )
    .await?;
    check("count(*), count(number)", "", {
        let numbers = model.0.values().filter(|fields| fields.0.is_some()).count();
        vec![vec![model.0.len().to_string(), numbers.to_string()]]
    })
    .await?;
    check(
        "count(*)",
        &format!("WHERE time >= {instant}"),
        vec![vec![
            model.0.keys().filter(|point| point.0 >= from).count().to_string(),
        ]],
    )
    .await?;
    check("CAST(min(time) AS BIGINT), CAST(max(time) AS BIGINT)", "", {
        let times = || model.0.keys().map(|point| point.0);
        vec![vec![text(times().min()), text(times().max())]]
    })
    .await?;
    check(
        "host, CAST(sum(number) AS BIGINT)",
        "GROUP BY host",
        model.sums_by_host(),
    )
    .await?;
    check(
        "CAST(time AS BIGINT) AS instant",
        &format!("WHERE time <= {instant} AND (host = 'a' OR region IS NULL) ORDER BY time DESC LIMIT 3"),
        {
            let is_meant = |point: &&Point| point.0 <= from && (point.1 == Some("a") || point.2.is_none());
            let mut newest: Vec<Vec<String>> = model
                .0
                .keys()
                .rev()
                .filter(is_meant)
                .take(3)
                .map(|point| vec![point.0.to_string()])
                .collect();
            newest.sort();
            newest
        },
    )
    .await
}
