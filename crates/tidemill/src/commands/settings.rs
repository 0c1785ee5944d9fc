//! Values of options that need more than their text.

use std::{
    fs,
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

/// An address to listen on; a name is looked up.
pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| format!("{error}; expected something like 127.0.0.1:8181"))?;
    addresses.next().ok_or_else(|| format!("'{text}' has no address"))
}

/// A duration such as `1s` or `10m`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

/// A number of bytes (`67108864`, `64MB`) or a part of the machine's memory (`20%`).
pub(super) fn parse_memory(text: &str) -> Result<usize, String> {
    parse_memory_of(text, total_memory_bytes)
}

fn parse_memory_of(text: &str, total: impl FnOnce() -> Option<u64>) -> Result<usize, String> {
    const UNITS: [(&str, u64); 10] = [
        ("%", 0),
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
    let invalid = || format!("'{text}' is not a size, expected bytes, for example 67108864 or 64MB, or 20%");
    let lower = text.trim().to_ascii_lowercase();
    let suffixed = UNITS
        .iter()
        .find_map(|&(unit, factor)| Some((lower.strip_suffix(unit)?, factor)));
    let (number, factor) = suffixed.unwrap_or((lower.as_str(), 1));
    let number: u64 = number.trim().parse().map_err(|_| invalid())?;
    let bytes = if factor == 0 {
        if number > 100 {
            return Err(invalid());
        }
        let total = total().ok_or("the size of this machine's memory is not known, give bytes")?;
        total / 100 * number
    } else {
        number.checked_mul(factor).ok_or_else(invalid)?
    };
    usize::try_from(bytes).map_err(|_| invalid())
}

fn total_memory_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_parts_of_memory() {
        let parse = |text| parse_memory_of(text, || Some(1_000_000));
        assert_eq!(parse("1024"), Ok(1024));
        assert_eq!(parse("64MB"), Ok(64 << 20));
        assert_eq!(parse("2 GiB"), Ok(2 << 30));
        assert_eq!(parse("20%"), Ok(200_000));
        for text in [
            "",
            "%",
            "120%",
            "-1",
            "x",
            "99999999999999999999",
            "99999999999GB",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse_memory_of("20%", || None).is_err());
        assert!(total_memory_bytes().is_some());
    }

    #[test]
    fn addresses_have_a_port() {
        assert_eq!(parse_address("127.0.0.1:80").unwrap().port(), 80);
        assert!(parse_address("[::1]:0").unwrap().ip().is_loopback());
        assert!(parse_address("127.0.0.1").unwrap_err().contains("expected"));
    }
}
