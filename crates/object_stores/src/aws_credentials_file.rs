//! Credentials for S3 in a file that somebody else keeps up to date.
//!
//! Two forms are known: a JSON object, and the sections of Amazon's own tools, of which `[default]` counts. In both the
//! names are `aws_access_key_id`, `aws_secret_access_key` and, for temporary ones, `aws_session_token`.

use std::collections::HashMap;
use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::OpenError;
use crate::open::{read, unusable};

const WHAT: &str = "the credentials file";

/// Gives what the file holds at the moment of a request.
pub(crate) struct AwsCredentialsFile {
    path: PathBuf,
    last_read: Mutex<LastRead>,
}

struct LastRead {
    /// What the file was like; none: it could not be looked at.
    stamp: Option<Stamp>,
    credential: Arc<AwsCredential>,
}

/// What changes with every change of a file: replaced ones have another inode.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

impl From<Metadata> for Stamp {
    fn from(metadata: Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.len(),
        }
    }
}

impl AwsCredentialsFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// When it cannot be read or holds no credentials.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        // Looked at before it is read: a change in between is then noticed later.
        let stamp = stamp_of(path);
        let credential = parse(&read(WHAT, path)?).map_err(unusable(WHAT, path))?;
        Ok(Self {
            path: path.to_owned(),
            last_read: Mutex::new(LastRead {
                stamp,
                credential: Arc::new(credential),
            }),
        })
    }

    /// The credentials; after a change that cannot be read those before it, for it may be half written.
    fn current(&self) -> Arc<AwsCredential> {
        let mut last_read = self.last_read.lock();
        let stamp = stamp_of(&self.path);
        if stamp != last_read.stamp {
            let content = read(WHAT, &self.path);
            match content.and_then(|content| parse(&content).map_err(unusable(WHAT, &self.path))) {
                Ok(credential) => {
                    last_read.credential = Arc::new(credential);
                    tracing::info!(path = %self.path.display(), "credentials of the object store were read again");
                }
                Err(error) => tracing::warn!(%error, "the credentials read before stay in use"),
            }
            last_read.stamp = stamp;
        }
        Arc::clone(&last_read.credential)
    }
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(Stamp::from)
}

#[derive(Deserialize)]
struct JsonCredentials {
    #[serde(rename = "aws_access_key_id")]
    key_id: String,
    #[serde(rename = "aws_secret_access_key")]
    secret_key: String,
    #[serde(rename = "aws_session_token", default)]
    token: Option<String>,
}

/// The reason of an error never shows the content.
fn parse(content: &[u8]) -> Result<AwsCredential, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is no text".to_owned())?;
    if text.trim_start().starts_with('{') {
        let parsed: JsonCredentials = serde_json::from_str(text).map_err(|error| {
            format!(
                "line {}: expected an object with aws_access_key_id and aws_secret_access_key",
                error.line()
            )
        })?;
        return Ok(AwsCredential {
            key_id: parsed.key_id,
            secret_key: parsed.secret_key,
            token: parsed.token,
        });
    }
    let mut values = default_section(text);
    let mut required = |name: &str| {
        let value = values.remove(name);
        value
            .map(str::to_owned)
            .ok_or_else(|| format!("it has no {name}"))
    };
    Ok(AwsCredential {
        key_id: required("aws_access_key_id")?,
        secret_key: required("aws_secret_access_key")?,
        token: required("aws_session_token").ok(),
    })
}

/// The values of the section `[default]`, and of those lines that are in none.
fn default_section(text: &str) -> HashMap<&str, &str> {
    let mut is_default = true;
    let mut values = HashMap::new();
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_default = section.trim() == "default";
        } else if let Some((name, value)) = line.split_once('=')
            && is_default
        {
            values.insert(name.trim(), value.trim());
        }
    }
    values
}

#[async_trait]
impl CredentialProvider for AwsCredentialsFile {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        Ok(self.current())
    }
}

impl fmt::Debug for AwsCredentialsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AwsCredentialsFile({})", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_read_again_and_a_damaged_one_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        std::fs::write(
            &path,
            r#"{"aws_access_key_id": "first", "aws_secret_access_key": "hidden", "expiry": 3}"#,
        )
        .unwrap();
        let file = AwsCredentialsFile::open(&path).unwrap();
        assert_eq!(file.current().key_id, "first");
        assert_eq!(file.current().token, None);

        let ini = "[other]\naws_access_key_id = wrong\n[default]\naws_access_key_id = second\n\
                   aws_secret_access_key=hidden\naws_session_token = token=\n";
        std::fs::write(&path, ini).unwrap();
        assert_eq!(file.current().key_id, "second");
        assert_eq!(file.current().token.as_deref(), Some("token="));

        std::fs::write(&path, "{\"aws_access_key_id\": \"hidden").unwrap();
        assert_eq!(file.current().key_id, "second");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.current().key_id, "second");
        std::fs::write(&path, "aws_access_key_id=third\naws_secret_access_key=hidden").unwrap();
        assert_eq!(file.current().key_id, "third");
        assert!(!format!("{file:?} {:?}", file.current()).contains("hidden"));
    }

    #[test]
    fn errors_name_the_file_and_show_no_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        for (content, reason) in [
            (
                "{\"aws_access_key_id\": \"hidden\"}",
                "line 1: expected an object with aws_access_key_id and aws_secret_access_key",
            ),
            ("aws_access_key_id = hidden", "it has no aws_secret_access_key"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = AwsCredentialsFile::open(&path).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("cannot use the credentials file {}: {reason}", path.display())
            );
        }
    }
}
