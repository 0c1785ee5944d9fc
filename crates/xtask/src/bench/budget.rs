//! What a figure is held against.

use super::unit::Unit;

/// The bound that section 10 of the design sets for a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Budget {
    AtLeast(f64),
    AtMost(f64),
    /// No figure was set; less is better.
    NoneLessIsBetter,
    /// No figure was set; more is better.
    NoneMoreIsBetter,
}

impl Budget {
    /// Whether `value` keeps to the budget; `None` where there is none.
    pub(crate) fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Budget::AtLeast(bound) => Some(value >= bound),
            Budget::AtMost(bound) => Some(value <= bound),
            Budget::NoneLessIsBetter | Budget::NoneMoreIsBetter => None,
        }
    }

    /// How many times better `value` is than `other`; below 1 it is worse.
    pub(crate) fn times_better(self, value: f64, other: f64) -> f64 {
        match self {
            Budget::AtLeast(_) | Budget::NoneMoreIsBetter => value / other,
            Budget::AtMost(_) | Budget::NoneLessIsBetter => other / value,
        }
    }

    /// The bound with its unit.
    pub(crate) fn text(self, unit: Unit) -> String {
        match self {
            Budget::AtLeast(bound) => format!(">= {}", unit.text(bound)),
            Budget::AtMost(bound) => format!("<= {}", unit.text(bound)),
            Budget::NoneLessIsBetter | Budget::NoneMoreIsBetter => "none".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_is_above_one_for_both_directions() {
        assert!((Budget::AtLeast(1.0).times_better(200.0, 100.0) - 2.0).abs() < 1e-9);
        assert!((Budget::AtMost(1.0).times_better(100.0, 200.0) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_bound_itself_keeps_to_the_budget() {
        assert_eq!(Budget::AtLeast(2.0).is_met(2.0), Some(true));
        assert_eq!(Budget::AtMost(2.0).is_met(2.1), Some(false));
        assert_eq!(Budget::NoneLessIsBetter.is_met(2.0), None);
    }
}
