//! Which paths may be asked for.

use crate::RepositoryError;

const PATH_BYTES_MAX: usize = 1024;
/// What file systems allow for one name.
const NAME_BYTES_MAX: usize = 255;

/// The path of a file in a repository: names between single slashes, none of which leads anywhere else or means
/// something else in a URL. The specification knows no required ending (engine.md 6.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PluginPath(String);

impl PluginPath {
    /// Checks a path, which is given without `gh:`.
    pub(crate) fn parse(path: &str) -> Result<Self, RepositoryError> {
        if path.starts_with('/') || path.split(['/', '\\']).any(|name| name == "..") {
            return Err(RepositoryError::Traversal(path.to_owned()));
        }
        match flaw(path) {
            Some(reason) => Err(RepositoryError::InvalidPath {
                path: path.to_owned(),
                reason,
            }),
            None => Ok(Self(path.to_owned())),
        }
    }

    /// As given.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The names from the repository's root to the file; at least one.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The name of the file itself.
    pub(crate) fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

fn flaw(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("it names no file");
    }
    if path.len() > PATH_BYTES_MAX {
        return Some("it is longer than 1024 bytes");
    }
    if path.chars().any(char::is_control) {
        return Some("it holds control characters");
    }
    if path.contains(['\\', '%', '?', '#']) {
        return Some(r"it holds one of \ % ? #; write it as the file is called, without URL encoding");
    }
    if path.ends_with('/') {
        return Some("a repository serves single files, not directories");
    }
    path.split('/').find_map(|name| match name {
        "" => Some("it holds an empty name"),
        "." => Some("it holds the name '.'"),
        _ if name.len() > NAME_BYTES_MAX => Some("it holds a name longer than 255 bytes"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_of_files_are_taken_as_they_are() {
        for path in [
            "influxdata/system_metrics/system_metrics.py",
            "x.py",
            "no_ending",
            ".hidden/…/a b+c:d@e.py",
            "...",
            &"n".repeat(255),
        ] {
            let parsed = PluginPath::parse(path).unwrap();
            assert_eq!(parsed.as_str(), path);
            assert_eq!(parsed.file_name(), path.split('/').next_back().unwrap());
        }
    }

    #[test]
    fn the_texts_name_what_was_given() {
        for (path, text) in [
            (
                "../x.py",
                "Path traversal detected: plugin filename 'gh:../x.py' attempts to access files outside the plugin directory",
            ),
            (
                "a/",
                "invalid plugin filename 'gh:a/': a repository serves single files, not directories",
            ),
            ("", "invalid plugin filename 'gh:': it names no file"),
        ] {
            assert_eq!(PluginPath::parse(path).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn lengths_are_limited() {
        let of_bytes = |count: usize| ["n/".repeat((count - 1) / 2), "n".repeat(2 - count % 2)].concat();
        assert!(PluginPath::parse(&of_bytes(1024)).is_ok());
        assert!(PluginPath::parse(&of_bytes(1025)).is_err());
        assert!(PluginPath::parse(&"n".repeat(256)).is_err());
    }

    /// A name with which no path may be taken.
    fn bad_name() -> impl Strategy<Value = String> {
        let whole = ["", ".", ".."].map(str::to_owned);
        let held = proptest::sample::select(vec!['\0', '\n', '\u{7f}', '\u{85}', '\\', '%', '?', '#']);
        prop_oneof![
            proptest::sample::select(whole.to_vec()),
            ("[a-z.]{0,5}", held, "[a-z.]{0,5}")
                .prop_map(|(before, bad, after)| format!("{before}{bad}{after}")),
        ]
    }

    proptest! {
        #[test]
        fn one_bad_name_anywhere_is_refused(
            before in proptest::collection::vec("[a-z]{1,5}", 0..4),
            bad in bad_name(),
            after in proptest::collection::vec("[a-z]{1,5}", 0..4),
        ) {
            let names: Vec<_> = before.into_iter().chain([bad]).chain(after).collect();
            prop_assert!(PluginPath::parse(&names.join("/")).is_err());
        }
    }
}
