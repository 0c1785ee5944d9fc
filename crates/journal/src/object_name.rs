//! The names of objects, which tell all that must be known about one without reading it.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

const SUFFIX: &str = ".parquet";

/// Which rows an object holds, and since when.
///
/// Everything that is written gets a number, higher than all before, also over restarts. A flush keeps its number for
/// good: an object holds the flushes of a range of numbers. One that is merged or rewritten covers the ranges of those
/// that it takes the place of, and has a number of its own as version. See [`recovery`](crate::recovery).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectName {
    pub(crate) flushes: RangeInclusive<u64>,
    pub(crate) version: u64,
    /// The oldest and the newest time of its rows.
    pub(crate) times: RangeInclusive<i64>,
    /// The size of its rows in memory.
    pub(crate) memory_bytes: usize,
    /// The size of the object: one that is shorter was torn.
    pub(crate) stored_bytes: u64,
}

impl ObjectName {
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.flushes.start() <= other.flushes.end() && other.flushes.start() <= self.flushes.end()
    }

    /// Whether it can hold rows of these times.
    pub(crate) fn has_times_in(&self, times: &RangeInclusive<i64>) -> bool {
        self.times.start() <= times.end() && times.start() <= self.times.end()
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:020}_{:020}_{:020}_{}_{}_{}_{}{SUFFIX}",
            self.flushes.start(),
            self.flushes.end(),
            self.version,
            self.times.start(),
            self.times.end(),
            self.memory_bytes,
            self.stored_bytes,
        )
    }
}

/// The object is not one that a journal wrote.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ForeignName;

impl FromStr for ObjectName {
    type Err = ForeignName;

    fn from_str(text: &str) -> Result<Self, ForeignName> {
        let parts: Vec<&str> = text.strip_suffix(SUFFIX).ok_or(ForeignName)?.split('_').collect();
        let [first, last, version, oldest, newest, memory_bytes, stored_bytes] = parts[..] else {
            return Err(ForeignName);
        };
        let name = Self {
            flushes: number(first)?..=number(last)?,
            version: number(version)?,
            times: number(oldest)?..=number(newest)?,
            memory_bytes: number(memory_bytes)?,
            stored_bytes: number(stored_bytes)?,
        };
        let is_sound = name.flushes.start() <= name.flushes.end()
            && *name.flushes.end() <= name.version
            && name.times.start() <= name.times.end()
            && name.to_string() == text;
        is_sound.then_some(name).ok_or(ForeignName)
    }
}

fn number<N: FromStr>(text: &str) -> Result<N, ForeignName> {
    text.parse().map_err(|_| ForeignName)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "00000000000000000003_00000000000000000007_00000000000000000009_-5_12_800_345.parquet";

    #[test]
    fn a_name_tells_everything() {
        let name = ObjectName {
            flushes: 3..=7,
            version: 9,
            times: -5..=12,
            memory_bytes: 800,
            stored_bytes: 345,
        };
        assert_eq!(name.to_string(), NAME);
        assert_eq!(NAME.parse(), Ok(name));
    }

    #[test]
    fn other_names_are_foreign() {
        for (wanted, instead) in [
            (".parquet", ""),
            (".parquet", ".parquet.tmp"),
            ("00000000000000000003", "3"),
            ("00000000000000000003", "00000000000000000008"),
            ("_00000000000000000009", "_00000000000000000006"),
            ("_-5", "_13"),
            ("_-5", ""),
            ("_345", "_0345"),
            ("_345", "_345_1"),
            ("_800", "_x"),
        ] {
            let foreign = NAME.replacen(wanted, instead, 1);
            assert_eq!(foreign.parse::<ObjectName>(), Err(ForeignName), "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_taken_for_another_name(text in "[-0-9_]{0,40}(\\.parquet)?") {
            if let Ok(name) = text.parse::<ObjectName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
