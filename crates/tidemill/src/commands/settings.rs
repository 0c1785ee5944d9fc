//! Values of options that need more than their text.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use clap::builder::{OsStringValueParser, TypedValueParser};
use tidemill_triggers::{ByteSize, ByteSizeError, OUTPUT_LIMIT_MAX};
use tidemill_worker::machine_memory_bytes;

use crate::failure::CommandError;

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
    parse_memory_of(text, machine_memory_bytes)
}

fn parse_memory_of(text: &str, total: impl FnOnce() -> Option<u64>) -> Result<usize, String> {
    let invalid = || format!("'{text}' is not a size, expected bytes, for example 67108864 or 64MB, or 20%");
    let bytes = match text.trim().strip_suffix('%') {
        None => text.parse::<ByteSize>().map_err(|_| invalid())?.0,
        Some(percent) => {
            let percent: u64 = percent.trim().parse().map_err(|_| invalid())?;
            if percent > 100 {
                return Err(invalid());
            }
            let total = total().ok_or("the size of this machine's memory is not known, give bytes")?;
            total / 100 * percent
        }
    };
    usize::try_from(bytes).map_err(|_| invalid())
}

/// A size up to what the server takes from a run.
pub(super) fn parse_output_limit(text: &str) -> Result<ByteSize, String> {
    let limit: ByteSize = text.parse().map_err(|error: ByteSizeError| error.to_string())?;
    if limit > OUTPUT_LIMIT_MAX {
        return Err(format!("it may be up to {OUTPUT_LIMIT_MAX}"));
    }
    Ok(limit)
}

/// The home directory of whoever runs the program.
pub(super) fn home() -> Result<PathBuf, CommandError> {
    std::env::home_dir()
        .filter(|home| !home.as_os_str().is_empty())
        .ok_or_else(|| CommandError::message("no home directory is known; give --data-dir"))
}

/// Takes an empty path too, which clap's own parser of paths refuses: see [`present`].
pub(super) fn any_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// A path that was given: an empty one stands for none, as in unset variables of container files.
pub(super) fn present(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
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
    }

    #[test]
    fn addresses_have_a_port() {
        assert_eq!(parse_address("127.0.0.1:80").unwrap().port(), 80);
        assert!(parse_address("[::1]:0").unwrap().ip().is_loopback());
        assert!(parse_address("127.0.0.1").unwrap_err().contains("expected"));
    }
}
