//! Where in the log a new data-write trigger begins.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a new trigger is shown first. As text `now`, `beginning`, or an instant as of RFC 3339.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum StartAt {
    /// What is written from now on.
    #[default]
    Now,
    /// Everything that is still in the log.
    Beginning,
    /// What was written at this instant or later, as far as it is still in the log. It is the time of the write, not that
    /// of the rows.
    Time(DateTime<Utc>),
}

/// A text that is none of the three.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no start, expected now, beginning or a time with its zone, for example 2026-01-31T06:00:00Z"
)]
pub struct StartAtError(pub String);

impl FromStr for StartAt {
    type Err = StartAtError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim();
        match trimmed.to_ascii_lowercase().as_str() {
            "now" => Ok(Self::Now),
            "beginning" => Ok(Self::Beginning),
            _ => DateTime::parse_from_rfc3339(trimmed)
                .map(|time| Self::Time(time.to_utc()))
                .map_err(|_| StartAtError(text.to_owned())),
        }
    }
}

impl fmt::Display for StartAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            Self::Beginning => f.write_str("beginning"),
            Self::Time(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        }
    }
}

impl Serialize for StartAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StartAt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_one_of_two_words_or_an_instant() {
        for (text, written) in [
            ("now", "now"),
            (" Beginning", "beginning"),
            ("2026-01-31T06:00:00Z", "2026-01-31T06:00:00Z"),
            ("2026-01-31T06:00:00.25+01:00", "2026-01-31T05:00:00.250Z"),
            ("2026-01-31 06:00:00.000000001z", "2026-01-31T06:00:00.000000001Z"),
        ] {
            let start: StartAt = text.parse().unwrap();
            assert_eq!(start.to_string(), written);
            let json = serde_json::to_string(&start).unwrap();
            assert_eq!(json, format!("\"{written}\""));
            assert_eq!(serde_json::from_str::<StartAt>(&json).unwrap(), start);
        }
        for text in [
            "",
            "end",
            "2026-01-31",
            "2026-01-31T06:00:00",
            "2026-02-30T06:00:00Z",
            "1769839200",
        ] {
            let error = text.parse::<StartAt>().unwrap_err();
            assert!(
                error.to_string().contains("expected now, beginning or a time"),
                "{error}"
            );
        }
        assert!(serde_json::from_str::<StartAt>("7").is_err());
    }
}
