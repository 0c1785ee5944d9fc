//! Asking a repository over HTTP.

use reqwest::header::{ETAG, HeaderMap, IF_NONE_MATCH};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Client, Response, StatusCode};
use tokio::sync::OnceCell;
use url::Url;

use crate::error::root_cause;
use crate::plugin_path::PluginPath;
use crate::{RepositoryConfig, RepositoryError};

const REDIRECTS_MAX: usize = 10;

/// What the repository said.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The whole file.
    Content {
        bytes: Vec<u8>,
        /// What the repository calls this version.
        etag: Option<String>,
    },
    /// The file is still the version that was asked about.
    Unchanged,
}

/// Where a file is.
pub(crate) struct Place<'a> {
    pub(crate) path: &'a PluginPath,
    /// Where to ask, with credentials.
    pub(crate) url: Url,
    /// What clients may see of it.
    pub(crate) shown: String,
}

/// The way to HTTP repositories. Whoever asks sets the limit on the time that the whole answer takes.
#[derive(Debug, Default)]
pub(crate) struct HttpSource {
    /// Set up at the first use: without certificate authorities on the machine it cannot be, and many servers use no
    /// repository.
    client: OnceCell<Client>,
}

impl HttpSource {
    /// Asks for a file, or whether it is still the version `known`.
    pub(crate) async fn ask(
        &self,
        place: &Place<'_>,
        known: Option<&str>,
        config: &RepositoryConfig,
    ) -> Result<Answer, RepositoryError> {
        let client = self.client.get_or_try_init(|| set_up(config)).await?;
        let mut request = client.get(place.url.clone());
        if let Some(etag) = known {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let response = request
            .send()
            .await
            .map_err(|error| unreachable(&error, config))?;
        let status = response.status();
        match status {
            _ if status.is_success() => {
                let etag = etag(response.headers());
                let bytes = read_body(response, place.path, config).await?;
                Ok(Answer::Content { bytes, etag })
            }
            StatusCode::NOT_MODIFIED if known.is_some() => Ok(Answer::Unchanged),
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(RepositoryError::NotFound {
                status: status.to_string(),
                location: place.shown.clone(),
            }),
            _ => Err(RepositoryError::Status {
                status: status.to_string(),
                location: place.shown.clone(),
            }),
        }
    }
}

async fn set_up(config: &RepositoryConfig) -> Result<Client, RepositoryError> {
    let builder = Client::builder()
        .user_agent(concat!("tidemill/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(config.connect_timeout)
        .redirect(Policy::custom(follow));
    // Reads the certificate authorities of the machine.
    tokio::task::spawn_blocking(|| builder.build())
        .await
        .map_err(|error| RepositoryError::Unreachable(error.to_string()))?
        .map_err(|error| RepositoryError::Unreachable(root_cause(&error)))
}

fn follow(attempt: Attempt) -> Action {
    if attempt.previous().len() > REDIRECTS_MAX {
        attempt.error("it redirects too often")
    } else if leaves_encryption(attempt.previous(), attempt.url()) {
        attempt.error("it redirects from https to http")
    } else {
        attempt.follow()
    }
}

/// Code that was asked for over an encrypted connection must not arrive over another.
fn leaves_encryption(previous: &[Url], next: &Url) -> bool {
    next.scheme() != "https" && previous.iter().any(|url| url.scheme() == "https")
}

fn etag(headers: &HeaderMap) -> Option<String> {
    headers.get(ETAG)?.to_str().ok().map(str::to_owned)
}

async fn read_body(
    mut response: Response,
    path: &PluginPath,
    config: &RepositoryConfig,
) -> Result<Vec<u8>, RepositoryError> {
    let limit_bytes = config.file_bytes_max;
    let too_large = || RepositoryError::TooLarge {
        path: path.as_str().to_owned(),
        limit_bytes,
    };
    if response
        .content_length()
        .is_some_and(|announced| announced > limit_bytes as u64)
    {
        return Err(too_large());
    }
    let mut content = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| unreachable(&error, config))?
    {
        if content.len() + chunk.len() > limit_bytes {
            return Err(too_large());
        }
        content.extend_from_slice(&chunk);
    }
    Ok(content)
}

fn unreachable(error: &reqwest::Error, config: &RepositoryConfig) -> RepositoryError {
    RepositoryError::Unreachable(if error.is_connect() && error.is_timeout() {
        format!("no connection within {:?}", config.connect_timeout)
    } else {
        root_cause(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_may_not_lead_from_https_to_http() {
        let url = |text: &str| Url::parse(text).unwrap();
        let (open, encrypted) = (url("http://a/"), url("https://a/"));
        for (previous, next, leaves) in [
            (vec![encrypted.clone()], &open, true),
            (vec![open.clone(), encrypted.clone()], &open, true),
            (vec![encrypted.clone()], &encrypted, false),
            (vec![open.clone()], &encrypted, false),
            (vec![open.clone()], &open, false),
        ] {
            assert_eq!(leaves_encryption(&previous, next), leaves, "{previous:?} {next}");
        }
    }
}
