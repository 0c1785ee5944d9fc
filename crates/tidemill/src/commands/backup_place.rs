//! Where a backup is or goes: a directory, or a URL of a folder in a store.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use object_store::path::Path;
use tidemill_backup::BackupPlace;
use tidemill_object_stores::{Location, ObjectStoreConfig, open};
use url::Url;

use super::storage_args::RemoteArgs;
use crate::failure::CommandError;

/// A directory, `file:///…`, `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PlaceName {
    Directory(PathBuf),
    Bucket {
        store: RemoteStore,
        bucket: String,
        prefix: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RemoteStore {
    S3,
    Google,
    Azure,
}

impl FromStr for PlaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("name a directory or a URL".to_owned());
        }
        if !text.contains("://") {
            return Ok(Self::Directory(PathBuf::from(text)));
        }
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        let store = match url.scheme() {
            "file" => {
                let path = url.to_file_path();
                return path.map(Self::Directory).map_err(|()| {
                    "a file URL has three slashes and an absolute path: file:///backups".to_owned()
                });
            }
            "s3" => RemoteStore::S3,
            "gs" => RemoteStore::Google,
            "az" => RemoteStore::Azure,
            other => return Err(format!("'{other}' is none of file, s3, gs, az")),
        };
        let bucket = url.host_str().filter(|bucket| !bucket.is_empty());
        Ok(Self::Bucket {
            store,
            bucket: bucket.ok_or("the URL names no bucket")?.to_owned(),
            prefix: url.path().trim_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for PlaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => directory.display().fmt(f),
            Self::Bucket {
                store,
                bucket,
                prefix,
            } => {
                let scheme = match store {
                    RemoteStore::S3 => "s3",
                    RemoteStore::Google => "gs",
                    RemoteStore::Azure => "az",
                };
                write!(f, "{scheme}://{bucket}/{prefix}")
            }
        }
    }
}

impl PlaceName {
    /// The place, for a new backup; a directory is created.
    pub(crate) fn create(&self, remote: &RemoteArgs) -> Result<BackupPlace, CommandError> {
        let (location, prefix) = match self {
            Self::Directory(directory) => {
                let data_dir = directory.clone();
                (Location::File { data_dir }, "")
            }
            Self::Bucket {
                store,
                bucket,
                prefix,
            } => {
                let bucket = bucket.clone();
                let location = match store {
                    RemoteStore::S3 => remote.s3(bucket),
                    RemoteStore::Google => remote.google(bucket),
                    RemoteStore::Azure => remote.azure(bucket),
                };
                (location, prefix.as_str())
            }
        };
        let prefix = Path::parse(prefix).map_err(|error| CommandError::message(error.to_string()))?;
        let config = ObjectStoreConfig {
            location,
            connection: remote.connection(),
        };
        let opened = open(&config).map_err(|error| CommandError::message(error.to_string()))?;
        Ok(BackupPlace::new(opened.objects, prefix, self.to_string()))
    }

    /// The place of a backup that is there.
    pub(crate) fn find(&self, remote: &RemoteArgs) -> Result<BackupPlace, CommandError> {
        if let Self::Directory(directory) = self
            && !directory.is_dir()
        {
            return Err(CommandError::message(format!(
                "there is no directory {}",
                directory.display()
            )));
        }
        self.create(remote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<PlaceName, &str>) {
        let parsed = text.parse::<PlaceName>();
        assert_eq!(
            parsed.as_ref().map_err(String::as_str),
            expected.as_ref().map_err(|text| *text)
        );
        if let Ok(place) = parsed {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
    }

    fn bucket(store: RemoteStore, bucket: &str, prefix: &str) -> PlaceName {
        PlaceName::Bucket {
            store,
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        }
    }

    #[test]
    fn places_are_directories_and_urls() {
        check(
            "backups/monday",
            Ok(PlaceName::Directory("backups/monday".into())),
        );
        check("file:///a%20b/c", Ok(PlaceName::Directory("/a b/c".into())));
        check("s3://b/p/q/", Ok(bucket(RemoteStore::S3, "b", "p/q")));
        check("gs://b", Ok(bucket(RemoteStore::Google, "b", "")));
        check("az://c/x", Ok(bucket(RemoteStore::Azure, "c", "x")));
        check("ftp://x/y", Err("'ftp' is none of file, s3, gs, az"));
        check("s3:///p", Err("the URL names no bucket"));
        check("", Err("name a directory or a URL"));
    }
}
