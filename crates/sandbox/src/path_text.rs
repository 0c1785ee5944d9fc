//! Paths as text, in every serde format: bytes that are not UTF-8 become `%` and two digits, and so does `%` itself.

use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Used by `#[serde(with)]`.
pub(crate) fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    let texts: Vec<String> = paths.iter().map(|path| text(path)).collect();
    texts.serialize(serializer)
}

/// Used by `#[serde(with)]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts
        .iter()
        .map(|text| {
            path(text).ok_or_else(|| D::Error::custom("a path has `%` without two hexadecimal digits"))
        })
        .collect()
}

fn text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('%', "%25"));
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn path(text: &str) -> Option<PathBuf> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(OsString::from_vec(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_survives() {
        for bytes in [
            b"/srv/data".as_slice(),
            b"/srv/100%/%41",
            b"/srv/\xff\xfe/x",
            "/srv/Dächer".as_bytes(),
            b"",
        ] {
            let original = PathBuf::from(OsString::from_vec(bytes.to_vec()));
            assert_eq!(path(&text(&original)).as_ref(), Some(&original));
        }
        assert_eq!(text(Path::new("/srv/Dächer")), "/srv/Dächer");
    }

    #[test]
    fn half_an_escape_is_refused() {
        assert_eq!(path("/srv/%4"), None);
        assert_eq!(path("/srv/%"), None);
        assert_eq!(path("/srv/%zz"), None);
    }
}
