//! What the filters of a query say about `time`.

use datafusion::common::Column;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;

use crate::intervals::Interval;

/// The name of the time column of every table.
pub(crate) const TIME_COLUMN: &str = "time";

/// The instants that a predicate can be true for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeBounds {
    /// `None` if it is true for no instant.
    pub(crate) interval: Option<Interval>,
    /// The predicate says nothing else: it is true for *every* row in the interval.
    pub(crate) exact: bool,
}

impl TimeBounds {
    const UNKNOWN: Self = Self {
        interval: Some(Interval::ALL),
        exact: false,
    };

    fn exactly(interval: Option<Interval>) -> Self {
        Self {
            interval,
            exact: true,
        }
    }
}

/// The bounds on `time` that `predicate` sets. Literals are expected to be folded and coerced, as the optimizer
/// leaves them; whatever is not understood bounds nothing.
pub(crate) fn time_bounds(predicate: &Expr) -> TimeBounds {
    time_bounds_of(TIME_COLUMN, predicate)
}

/// Like [`time_bounds`], of another column of nanoseconds.
pub(crate) fn time_bounds_of(column: &str, predicate: &Expr) -> TimeBounds {
    let time_bounds = |predicate| time_bounds_of(column, predicate);
    let is_time = |expr: &Expr| matches!(expr, Expr::Column(Column { name, .. }) if name == column);
    match predicate {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::And,
            right,
        }) => {
            let (left, right) = (time_bounds(left), time_bounds(right));
            TimeBounds {
                interval: left
                    .interval
                    .zip(right.interval)
                    .and_then(|(a, b)| a.intersect(b)),
                exact: left.exact && right.exact,
            }
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Or,
            right,
        }) => {
            let interval = match (time_bounds(left).interval, time_bounds(right).interval) {
                (Some(left), Some(right)) => Some(left.hull(right)),
                (one, other) => one.or(other),
            };
            TimeBounds {
                interval,
                exact: false,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            if is_time(left)
                && let Some(instant) = instant(right)
            {
                comparison(*op, instant)
            } else if is_time(right)
                && let Some(instant) = instant(left)
            {
                op.swap()
                    .map_or(TimeBounds::UNKNOWN, |op| comparison(op, instant))
            } else {
                TimeBounds::UNKNOWN
            }
        }
        Expr::Between(Between {
            expr,
            negated: false,
            low,
            high,
        }) if is_time(expr) => match (instant(low), instant(high)) {
            (Some(low), Some(high)) => TimeBounds::exactly(Interval::new(low, high)),
            _ => TimeBounds::UNKNOWN,
        },
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) if is_time(expr) => {
            let instants: Option<Vec<i64>> = list.iter().map(instant).collect();
            match instants {
                Some(instants) => {
                    let ends = instants.iter().min().zip(instants.iter().max());
                    let interval = ends.and_then(|(&first, &last)| Interval::new(first, last));
                    TimeBounds {
                        interval,
                        exact: false,
                    }
                }
                None => TimeBounds::UNKNOWN,
            }
        }
        _ => TimeBounds::UNKNOWN,
    }
}

fn comparison(op: Operator, instant: i64) -> TimeBounds {
    TimeBounds::exactly(match op {
        Operator::Eq => Interval::new(instant, instant),
        Operator::GtEq => Interval::new(instant, i64::MAX),
        Operator::LtEq => Interval::new(i64::MIN, instant),
        Operator::Gt => instant
            .checked_add(1)
            .and_then(|first| Interval::new(first, i64::MAX)),
        Operator::Lt => instant
            .checked_sub(1)
            .and_then(|last| Interval::new(i64::MIN, last)),
        _ => return TimeBounds::UNKNOWN,
    })
}

fn instant(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::TimestampNanosecond(instant, _), _) => *instant,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn at(instant: i64) -> Expr {
        lit(ScalarValue::TimestampNanosecond(Some(instant), None))
    }

    fn check(predicate: Expr, interval: Option<(i64, i64)>, exact: bool) {
        let interval = interval.map(|(first, last)| Interval { first, last });
        assert_eq!(
            time_bounds(&predicate),
            TimeBounds { interval, exact },
            "{predicate}"
        );
    }

    #[test]
    fn comparisons_are_exact_from_both_sides() {
        check(col("time").gt(at(5)), Some((6, i64::MAX)), true);
        check(at(5).gt(col("time")), Some((i64::MIN, 4)), true);
        check(
            col("time").gt_eq(at(5)).and(col("time").lt(at(9))),
            Some((5, 8)),
            true,
        );
        check(col("time").between(at(5), at(9)), Some((5, 9)), true);
        check(col("time").eq(at(5)), Some((5, 5)), true);
        check(col("time").gt(at(i64::MAX)), None, true);
    }

    #[test]
    fn what_says_more_is_only_bounded() {
        check(
            col("time").gt(at(5)).and(col("host").eq(lit("a"))),
            Some((6, i64::MAX)),
            false,
        );
        check(
            col("time").eq(at(5)).or(col("time").eq(at(9))),
            Some((5, 9)),
            false,
        );
        check(
            col("time").gt(at(5)).or(col("host").eq(lit("a"))),
            Some((i64::MIN, i64::MAX)),
            false,
        );
        check(
            col("time").in_list(vec![at(9), at(5)], false),
            Some((5, 9)),
            false,
        );
        check(col("time").not_eq(at(5)), Some((i64::MIN, i64::MAX)), false);
        check(
            col("time").in_list(vec![at(9), lit(1)], false),
            Some((i64::MIN, i64::MAX)),
            false,
        );
    }
}
