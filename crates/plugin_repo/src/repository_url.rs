//! Where a repository is, and where a file in it is.

use std::path::PathBuf;

use url::Url;

use crate::plugin_path::PluginPath;
use crate::{PREFIX, RepositoryError};

/// The base URL of a repository.
#[derive(Debug, Clone)]
pub(crate) struct RepositoryUrl(Url);

impl RepositoryUrl {
    /// Checks a base URL; whether it ends with a slash makes no difference.
    pub(crate) fn parse(text: &str) -> Result<Self, RepositoryError> {
        let invalid = |reason: &str| Err(RepositoryError::InvalidUrl(reason.to_owned()));
        let url = match Url::parse(text.trim()) {
            Ok(url) => url,
            Err(error) => return invalid(&error.to_string()),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return invalid("it has a query or a fragment, behind which no path can stand");
        }
        match url.scheme() {
            "http" | "https" => Ok(Self(url)),
            "file" if url.to_file_path().is_ok() => Ok(Self(url)),
            "file" => invalid("it names another machine"),
            _ => invalid("its scheme is not http, https or file"),
        }
    }

    /// The repository's directory, if it is one of this machine.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        match self.0.scheme() {
            "file" => self.0.to_file_path().ok(),
            _ => None,
        }
    }

    /// The URL of a file, with the credentials of the base.
    pub(crate) fn locate(&self, path: &PluginPath) -> Url {
        let mut url = self.0.clone();
        url.path_segments_mut()
            .expect("the schemes of a repository have paths")
            .pop_if_empty()
            .extend(path.names());
        url
    }

    /// What a client may see of the place of a file: neither credentials nor directories of the server.
    pub(crate) fn shown(&self, path: &PluginPath) -> String {
        match self.0.scheme() {
            "file" => format!("{PREFIX}{}", path.as_str()),
            _ => without_credentials(self.locate(path)).into(),
        }
    }

    /// What two names of one repository have in common. Credentials may change while the repository stays what it is.
    pub(crate) fn identity(&self) -> String {
        let url: String = without_credentials(self.0.clone()).into();
        url.trim_end_matches('/').to_owned()
    }
}

fn without_credentials(mut url: Url) -> Url {
    // Refused only by URLs that have no credentials: those without a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn located(base: &str, path: &str) -> String {
        let path = PluginPath::parse(path).unwrap();
        RepositoryUrl::parse(base).unwrap().locate(&path).into()
    }

    #[test]
    fn one_slash_stands_between_base_and_path() {
        for base in ["https://example.org/main", "https://example.org/main/"] {
            assert_eq!(located(base, "a/b.py"), "https://example.org/main/a/b.py");
        }
        assert_eq!(located("http://example.org", "b.py"), "http://example.org/b.py");
        assert_eq!(located("file:///srv/plugins", "b.py"), "file:///srv/plugins/b.py");
        assert_eq!(
            located(crate::DEFAULT_URL, "ä b.py"),
            "https://raw.githubusercontent.com/influxdata/influxdb3_plugins/main/%C3%A4%20b.py"
        );
    }

    #[test]
    fn other_urls_are_refused_without_being_shown() {
        for base in [
            "",
            "/srv/plugins",
            "ftp://user:secret@example.org/",
            "https://user:secret@example.org/?ref=main",
            "https://user:secret@example.org/#main",
            "https://user:secret@",
            "file://example.org/plugins",
            "data:text/plain,secret",
        ] {
            let error = RepositoryUrl::parse(base).unwrap_err();
            assert!(matches!(error, RepositoryError::InvalidUrl(_)), "{base}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn credentials_are_sent_and_neither_shown_nor_part_of_the_identity() {
        let url = RepositoryUrl::parse("https://user:secret@example.org/main/").unwrap();
        let path = PluginPath::parse("b.py").unwrap();
        assert_eq!(url.locate(&path).password(), Some("secret"));
        assert_eq!(url.shown(&path), "https://example.org/main/b.py");
        assert_eq!(url.identity(), "https://example.org/main");
        let directory = RepositoryUrl::parse("file:///srv/plugins/").unwrap();
        assert_eq!(directory.shown(&path), "gh:b.py");
    }

    proptest! {
        /// Whatever passes as a path: the file's URL is the base's, with exactly the path's names behind it.
        #[test]
        fn no_path_leads_out_of_the_base(
            path in prop_oneof![r"[a-z.%/\\ :@?#]{0,12}", r"(\.|/|%2e|a|:|@|\PC){0,8}"]
        ) {
            let base = RepositoryUrl::parse("https://example.org/one/two/").unwrap();
            if let Ok(path) = PluginPath::parse(&path) {
                let url = base.locate(&path);
                prop_assert_eq!(url.origin(), base.0.origin());
                prop_assert!(url.query().is_none() && url.fragment().is_none());
                // Read anew, as the other side reads it.
                let read = Url::parse(url.as_str()).unwrap();
                let names = read.path_segments().unwrap().count();
                prop_assert!(read.path().starts_with("/one/two/"));
                prop_assert_eq!(names, 2 + path.names().count());
            }
        }
    }
}
