//! Instants as people write them.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};

/// Why a text is no instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstantError {
    /// It is none of the forms.
    #[error("'{0}' is no time: expected one like 2024-05-01T12:00:00Z, a date, or nanoseconds since 1970")]
    Malformed(String),
    /// 64 bits of nanoseconds do not reach so far.
    #[error("the time '{0}' is outside of the years 1677 to 2262 that nanoseconds reach")]
    OutOfRange(String),
}

/// The instant that a text stands for, in nanoseconds since the epoch: RFC 3339, the same without a zone or without a time
/// of day (UTC and midnight then), or a number of nanoseconds.
///
/// # Errors
/// Names the text.
pub fn parse_instant(text: &str) -> Result<i64, InstantError> {
    let trimmed = text.trim();
    if let Ok(nanoseconds) = trimmed.parse() {
        return Ok(nanoseconds);
    }
    let with_zone = || {
        DateTime::parse_from_rfc3339(trimmed)
            .ok()
            .map(|time| time.to_utc())
    };
    let without_zone = |format: &str| {
        let time = NaiveDateTime::parse_from_str(trimmed, format).ok()?;
        Some(time.and_utc())
    };
    let date = || {
        let date = trimmed.parse::<NaiveDate>().ok()?;
        Some(date.and_time(NaiveTime::MIN).and_utc())
    };
    let time = with_zone()
        .or_else(|| without_zone("%Y-%m-%dT%H:%M:%S%.f"))
        .or_else(|| without_zone("%Y-%m-%d %H:%M:%S%.f"))
        .or_else(date)
        .ok_or_else(|| InstantError::Malformed(text.to_owned()))?;
    time.timestamp_nanos_opt()
        .ok_or_else(|| InstantError::OutOfRange(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_one_instant() {
        let expected = Ok(1_714_521_600_000_000_000);
        for text in [
            "2024-05-01T00:00:00Z",
            "2024-05-01T02:00:00+02:00",
            "2024-05-01T00:00:00.000",
            "2024-05-01 00:00:00",
            " 2024-05-01 ",
            "1714521600000000000",
        ] {
            assert_eq!(parse_instant(text), expected, "{text}");
        }
        assert_eq!(parse_instant("1969-12-31T23:59:59.999999999Z"), Ok(-1));
    }

    #[test]
    fn what_is_none_is_named() {
        for text in ["", "yesterday", "2024-13-01", "2024-05-01T25:00:00Z", "1.5"] {
            assert_eq!(parse_instant(text), Err(InstantError::Malformed(text.to_owned())));
        }
        let far = "2300-01-01T00:00:00Z";
        assert_eq!(parse_instant(far), Err(InstantError::OutOfRange(far.to_owned())));
    }
}
