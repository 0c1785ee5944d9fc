//! Units of timestamps in line protocol.

use std::{fmt, str::FromStr};

/// Unit of the timestamps in a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Told from the size of each timestamp.
    #[default]
    Auto,
    /// Seconds.
    Second,
    /// Milliseconds.
    Millisecond,
    /// Microseconds.
    Microsecond,
    /// Nanoseconds.
    Nanosecond,
}

/// A text that names no unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized precision unit: {0}")]
pub struct UnknownPrecision(pub String);

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "s" | "second" => Ok(Self::Second),
            "ms" | "millisecond" => Ok(Self::Millisecond),
            "us" | "u" | "microsecond" => Ok(Self::Microsecond),
            "ns" | "n" | "nanosecond" => Ok(Self::Nanosecond),
            _ => Err(UnknownPrecision(text.to_owned())),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Second => "second",
            Self::Millisecond => "millisecond",
            Self::Microsecond => "microsecond",
            Self::Nanosecond => "nanosecond",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rendered_is_understood() {
        for precision in [
            Precision::Auto,
            Precision::Second,
            Precision::Millisecond,
            Precision::Microsecond,
            Precision::Nanosecond,
        ] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        let error = "fake".parse::<Precision>().unwrap_err();
        assert_eq!(error.to_string(), "unrecognized precision unit: fake");
    }
}
