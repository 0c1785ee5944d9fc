//! The units of the figures, and how a value is written for people.

use std::fmt::{self, Display};

/// How a figure is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unit {
    RowsPerSecond,
    MegabytesPerSecond,
    RequestsPerSecond,
    Seconds,
    Milliseconds,
    MillisecondsPerMinute,
    Megabytes,
    Mebibytes,
    Ratio,
}

impl Unit {
    /// A value with as many digits as are worth reading.
    pub(crate) fn text(self, value: f64) -> String {
        match self {
            Unit::RowsPerSecond | Unit::RequestsPerSecond => format!("{} {self}", grouped(value)),
            Unit::Ratio => format!("{value:.2}{self}"),
            _ if value < 10.0 => format!("{value:.2} {self}"),
            _ if value < 100.0 => format!("{value:.1} {self}"),
            _ => format!("{} {self}", grouped(value)),
        }
    }
}

impl Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::RowsPerSecond => "rows/s",
            Unit::MegabytesPerSecond => "MB/s",
            Unit::RequestsPerSecond => "req/s",
            Unit::Seconds => "s",
            Unit::Milliseconds => "ms",
            Unit::MillisecondsPerMinute => "ms/min",
            Unit::Megabytes => "MB",
            Unit::Mebibytes => "MiB",
            Unit::Ratio => "x",
        })
    }
}

/// `1234567.8` as `1,234,568`.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_readable() {
        assert_eq!(Unit::RowsPerSecond.text(1_234_567.8), "1,234,568 rows/s");
        assert_eq!(Unit::Milliseconds.text(1.234), "1.23 ms");
        assert_eq!(Unit::Milliseconds.text(1_000.0), "1,000 ms");
        assert_eq!(Unit::Ratio.text(1.9), "1.90x");
        assert_eq!(grouped(999.0), "999");
    }
}
