//! Counts rows: what was acknowledged must be there, and derived exactly once.

use std::collections::BTreeMap;

use super::finding::Finding;
use super::writers::{Account, RowId};

/// How often each row is in a table.
pub(super) type Counts = BTreeMap<RowId, u64>;

const EXAMPLES: usize = 3;

/// Counts the rows of a table.
pub(super) fn count(rows: impl IntoIterator<Item = RowId>) -> Counts {
    let mut counts = Counts::new();
    for row in rows {
        *counts.entry(row).or_default() += 1;
    }
    counts
}

/// Requires that the table the writers wrote has every acknowledged row, and none that they did not send.
pub(super) fn require_source(finding: &mut Finding, account: &Account, source: &Counts) {
    let lost = account
        .acknowledged
        .iter()
        .filter(|row| !source.contains_key(row));
    require_none(finding, "acknowledged rows are lost", lost);
    let invented = source
        .keys()
        .filter(|row| !account.acknowledged.contains(row) && !account.uncertain.contains(row));
    require_none(finding, "rows are there that nobody wrote", invented);
    let doubled = source.iter().filter(|(_, count)| **count > 1).map(|(row, _)| row);
    require_none(finding, "written rows are there twice", doubled);
}

/// Requires that a derived table has every row of its source exactly once.
pub(super) fn require_derived(finding: &mut Finding, how: &str, source: &Counts, derived: &Counts) {
    let missing = source.keys().filter(|row| !derived.contains_key(row));
    require_none(finding, &format!("rows were not derived {how}"), missing);
    let doubled = derived
        .iter()
        .filter(|(_, count)| **count > 1)
        .map(|(row, _)| row);
    require_none(
        finding,
        &format!("rows were derived more than once {how}"),
        doubled,
    );
    let invented = derived.keys().filter(|row| !source.contains_key(row));
    require_none(
        finding,
        &format!("rows were derived {how} from rows that are not there"),
        invented,
    );
}

fn require_none<'a>(finding: &mut Finding, what: &str, rows: impl Iterator<Item = &'a RowId>) {
    let rows: Vec<&RowId> = rows.collect();
    let examples: Vec<String> = rows
        .iter()
        .take(EXAMPLES)
        .map(|(writer, number)| format!("{writer}/{number}"))
        .collect();
    finding.require(
        rows.is_empty(),
        format!("{} {what}, for example {}", rows.len(), examples.join(", ")),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(check: impl FnOnce(&mut Finding)) -> Vec<String> {
        let mut finding = Finding::default();
        check(&mut finding);
        finding.violations().to_vec()
    }

    #[test]
    fn a_row_that_was_not_answered_may_be_there_or_not() {
        let account = Account {
            acknowledged: [(0, 1), (0, 2)].into(),
            uncertain: [(0, 3), (0, 4)].into(),
            ..Account::default()
        };
        let found = |rows: &[RowId]| {
            let source = count(rows.iter().copied());
            violations(|finding| require_source(finding, &account, &source))
        };
        assert!(found(&[(0, 1), (0, 2), (0, 4)]).is_empty());
        assert_eq!(
            found(&[(0, 1), (0, 9)]),
            [
                "1 acknowledged rows are lost, for example 0/2",
                "1 rows are there that nobody wrote, for example 0/9",
            ]
        );
    }

    #[test]
    fn derived_rows_are_counted_one_by_one() {
        let source = count([(0, 1), (0, 2), (1, 1)]);
        let found = |rows: &[RowId]| {
            let derived = count(rows.iter().copied());
            violations(|finding| require_derived(finding, "in order", &source, &derived))
        };
        assert!(found(&[(1, 1), (0, 1), (0, 2)]).is_empty());
        assert_eq!(
            found(&[(0, 1), (0, 1), (0, 2), (2, 1)]),
            [
                "1 rows were not derived in order, for example 1/1",
                "1 rows were derived more than once in order, for example 0/1",
                "1 rows were derived in order from rows that are not there, for example 2/1",
            ]
        );
    }
}
