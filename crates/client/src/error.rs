//! Why there is no answer.

use std::{error::Error, io, path::PathBuf};

use reqwest::StatusCode;

/// Why a request has no (good) answer. The texts are shown to users as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The host is not an `http` or `https` URL.
    #[error("invalid host URL '{host}': {reason}")]
    InvalidHost {
        /// As given.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file with additional certificate authorities cannot be used.
    #[error("cannot read certificate authorities from {}: {reason}", path.display())]
    CertificateAuthority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The client could not be set up: a token with characters that no header can have, or no TLS.
    #[error("cannot set up the HTTP client: {0}")]
    Setup(String),
    /// No answer, or one that broke off.
    #[error("no answer from {url}: {reason}")]
    Transport {
        /// Scheme, host and port.
        url: String,
        /// The chain of causes.
        reason: String,
    },
    /// The server answered with an error.
    #[error("server responded with error [{status}]: {body}")]
    Http {
        /// Its status.
        status: StatusCode,
        /// Its text, mostly JSON with the key `error`.
        body: String,
    },
    /// The answer is not what this endpoint answers with.
    #[error("unexpected answer: {0}")]
    Answer(#[from] serde_json::Error),
    /// The server began to install packages and did not succeed.
    #[error("{0}")]
    Install(String),
    /// A request body could not be compressed.
    #[error("cannot compress the request: {0}")]
    Compress(#[from] io::Error),
}

/// An error and its causes in one line, each text once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The text of the innermost cause.
pub(crate) fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_error_reads_as_users_know_it() {
        let error = ClientError::Http {
            status: StatusCode::CONFLICT,
            body: "attempted to create a resource that already exists".to_owned(),
        };
        assert_eq!(
            error.to_string(),
            "server responded with error [409 Conflict]: attempted to create a resource that already exists"
        );
    }

    #[test]
    fn a_chain_names_every_cause_once() {
        let inner = io::Error::other("refused");
        let outer = io::Error::other(inner);
        assert_eq!(chain(&outer), "refused");
    }
}
