//! Sizes for people.

use std::fmt;

/// A size in the largest unit of which there is at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadableBytes(pub u64);

impl fmt::Display for ReadableBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KB", "MB", "GB", "TB", "PB"];
        if self.0 < 1000 {
            return write!(f, "{} bytes", self.0);
        }
        let mut amount = self.0 as f64 / 1000.0;
        let mut unit = 0;
        while amount >= 999.95 && unit + 1 < UNITS.len() {
            amount /= 1000.0;
            unit += 1;
        }
        write!(f, "{amount:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        let sizes = [0, 999, 1000, 12_345, 999_949, 999_950, 5_300_000_000];
        let words = sizes.map(|size| ReadableBytes(size).to_string());
        assert_eq!(
            words,
            [
                "0 bytes",
                "999 bytes",
                "1.0 KB",
                "12.3 KB",
                "999.9 KB",
                "1.0 MB",
                "5.3 GB"
            ]
        );
    }
}
