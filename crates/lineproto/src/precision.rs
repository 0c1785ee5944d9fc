//! The unit of the timestamps in a body (`spec/database.md` 3.7).

const NS_PER_US: i64 = 1_000;
const NS_PER_MS: i64 = 1_000_000;
const NS_PER_S: i64 = 1_000_000_000;

/// Below these magnitudes a timestamp of unknown unit is taken as seconds, milliseconds, microseconds; else
/// nanoseconds.
const AUTO_SECONDS_BELOW: u64 = 5_000_000_000;
const AUTO_MILLISECONDS_BELOW: u64 = 5_000_000_000_000;
const AUTO_MICROSECONDS_BELOW: u64 = 5_000_000_000_000_000;

/// The unit of the timestamps of a body.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Precision {
    /// Decided for each line by the magnitude of its timestamp.
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

impl Precision {
    /// A timestamp of this unit in nanoseconds; `None` if that is beyond 64 bits.
    #[inline]
    pub fn to_ns(self, timestamp: i64) -> Option<i64> {
        let unit_ns = match self {
            Self::Nanosecond => return Some(timestamp),
            Self::Microsecond => NS_PER_US,
            Self::Millisecond => NS_PER_MS,
            Self::Second => NS_PER_S,
            Self::Auto => match timestamp.unsigned_abs() {
                ..AUTO_SECONDS_BELOW => NS_PER_S,
                AUTO_SECONDS_BELOW..AUTO_MILLISECONDS_BELOW => NS_PER_MS,
                AUTO_MILLISECONDS_BELOW..AUTO_MICROSECONDS_BELOW => NS_PER_US,
                AUTO_MICROSECONDS_BELOW.. => return Some(timestamp),
            },
        };
        timestamp.checked_mul(unit_ns)
    }

    /// An instant in nanoseconds, cut down to a whole number of this unit (towards the past). `Auto` keeps
    /// nanoseconds.
    pub fn truncate_ns(self, time_ns: i64) -> i64 {
        let unit_ns = match self {
            Self::Auto | Self::Nanosecond => return time_ns,
            Self::Microsecond => NS_PER_US,
            Self::Millisecond => NS_PER_MS,
            Self::Second => NS_PER_S,
        };
        // Saturates only within one unit of the smallest 64 bit instant, where no whole unit exists below.
        time_ns.saturating_sub(time_ns.rem_euclid(unit_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::Precision::{Auto, Microsecond, Millisecond, Nanosecond, Second};

    #[test]
    fn auto_decides_by_magnitude() {
        let check = |timestamp: i64, expected_ns: i64| assert_eq!(Auto.to_ns(timestamp), Some(expected_ns));
        check(0, 0);
        check(-5, -5_000_000_000);
        check(4_999_999_999, 4_999_999_999_000_000_000);
        check(5_000_000_000, 5_000_000_000_000_000);
        check(-5_000_000_000, -5_000_000_000_000_000);
        check(4_999_999_999_999, 4_999_999_999_999_000_000);
        check(5_000_000_000_000, 5_000_000_000_000_000);
        check(4_999_999_999_999_999, 4_999_999_999_999_999_000);
        check(5_000_000_000_000_000, 5_000_000_000_000_000);
        check(i64::MIN, i64::MIN);
        check(i64::MAX, i64::MAX);
    }

    #[test]
    fn a_unit_is_scaled_or_overflows() {
        assert_eq!(Second.to_ns(-1), Some(-1_000_000_000));
        assert_eq!(Millisecond.to_ns(2), Some(2_000_000));
        assert_eq!(Microsecond.to_ns(3), Some(3_000));
        assert_eq!(Nanosecond.to_ns(4), Some(4));
        assert_eq!(Second.to_ns(99_999_999_999_999), None);
        assert_eq!(Microsecond.to_ns(i64::MIN), None);
    }

    #[test]
    fn truncation_goes_to_the_past() {
        assert_eq!(Second.truncate_ns(1_999_999_999), 1_000_000_000);
        assert_eq!(Second.truncate_ns(-1), -1_000_000_000);
        assert_eq!(Millisecond.truncate_ns(1_999_999_999), 1_999_000_000);
        assert_eq!(Microsecond.truncate_ns(1_999_999_999), 1_999_999_000);
        assert_eq!(Nanosecond.truncate_ns(1_999_999_999), 1_999_999_999);
        assert_eq!(Auto.truncate_ns(-1), -1);
        assert_eq!(Second.truncate_ns(i64::MIN), i64::MIN);
    }
}
