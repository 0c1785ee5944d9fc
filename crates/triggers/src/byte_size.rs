//! Sizes as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Units by suffix in lower case; all are powers of 1,024.
const UNITS: [(&str, u64); 9] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1 << 10),
    ("mb", 1 << 20),
    ("gb", 1 << 30),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
];

/// A number of bytes: `67108864`, `64MB` or `64MiB`. Written with the largest unit that divides it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ByteSize(pub u64);

/// A text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a size, expected bytes, for example 67108864 or 64MB")]
pub struct ByteSizeError(pub String);

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ByteSizeError(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        let suffixed = UNITS
            .iter()
            .find_map(|&(unit, factor)| Some((lower.strip_suffix(unit)?, factor)));
        let (number, factor) = suffixed.unwrap_or((lower.as_str(), 1));
        let number: u64 = number.trim().parse().map_err(|_| invalid())?;
        number.checked_mul(factor).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let whole = units
            .into_iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match whole {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => self.0.fmt(f),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a size is a number of bytes or a text such as \"64MB\""
        )]
        enum Form {
            Bytes(u64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Bytes(bytes) => Ok(Self(bytes)),
            Form::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_as_people_do() {
        for (text, bytes, written) in [
            ("1024", 1024, "1KiB"),
            ("1000", 1000, "1000"),
            ("64MB", 64 << 20, "64MiB"),
            (" 2 GiB", 2 << 30, "2GiB"),
            ("1536m", 1536 << 20, "1536MiB"),
            ("0", 0, "0"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(
                (size, size.to_string().as_str()),
                (ByteSize(bytes), written),
                "{text}"
            );
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        for text in ["", "-1", "x", "1.5GB", "99999999999999999999", "99999999999GB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        assert_eq!(serde_json::from_str::<ByteSize>("4096").unwrap(), ByteSize(4096));
        assert_eq!(
            serde_json::from_str::<ByteSize>("\"4KB\"").unwrap(),
            ByteSize(4096)
        );
        assert!(serde_json::from_str::<ByteSize>("true").is_err());
    }
}
