//! Contents of files in JSON: text as it is, anything else as Base64.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

/// The bytes of a file. In JSON the key `content` with text, or `content_base64`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ContentFields")]
pub struct FileContent(pub Vec<u8>);

impl From<&str> for FileContent {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

#[derive(Deserialize)]
struct ContentFields {
    content: Option<String>,
    content_base64: Option<String>,
}

/// What is wrong with the keys of a file's content.
#[derive(Debug, thiserror::Error)]
enum ContentError {
    #[error("missing field `content`, or `content_base64` for a file that is not text")]
    Missing,
    #[error("a file has `content` or `content_base64`, not both")]
    Both,
    #[error("`content_base64` is not Base64: {0}")]
    NotBase64(#[from] base64::DecodeError),
}

impl TryFrom<ContentFields> for FileContent {
    type Error = ContentError;

    fn try_from(fields: ContentFields) -> Result<Self, ContentError> {
        match (fields.content, fields.content_base64) {
            (Some(text), None) => Ok(Self(text.into_bytes())),
            (None, Some(encoded)) => Ok(Self(BASE64_STANDARD.decode(encoded)?)),
            (None, None) => Err(ContentError::Missing),
            (Some(_), Some(_)) => Err(ContentError::Both),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::UploadFile;

    #[test]
    fn content_is_text_or_base64() {
        let read = |json: &str| serde_json::from_str::<UploadFile>(json);
        for (json, bytes) in [
            (r#"{"plugin_name":"a","content":"é"}"#, "é".as_bytes()),
            (r#"{"plugin_name":"a","content_base64":"AP8="}"#, &[0, 255][..]),
            (r#"{"plugin_name":"a","content":""}"#, &[][..]),
        ] {
            let file = read(json).unwrap();
            assert_eq!((file.plugin_name.as_str(), &*file.content.0), ("a", bytes));
        }
        for (json, expected) in [
            (r#"{"plugin_name":"a"}"#, "missing field `content`"),
            (
                r#"{"plugin_name":"a","content":"","content_base64":""}"#,
                "not both",
            ),
            (r#"{"plugin_name":"a","content_base64":"?"}"#, "is not Base64"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
