//! What a client needs to know of its server.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{
    Certificate,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect,
};
use url::Url;

use crate::{Client, ClientError, error::chain};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sets up a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    host: String,
    token: Option<String>,
    tls_ca: Option<PathBuf>,
    tls_no_verify: bool,
}

impl ClientBuilder {
    /// A client for a server, such as `http://127.0.0.1:8181`. A path in the URL stands before all paths.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            token: None,
            tls_ca: None,
            tls_no_verify: false,
        }
    }

    /// Token to authenticate with.
    #[must_use]
    pub fn token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    /// PEM file with certificate authorities to trust beside those of the system.
    #[must_use]
    pub fn tls_ca(mut self, path: Option<PathBuf>) -> Self {
        self.tls_ca = path;
        self
    }

    /// Accepts any certificate.
    #[must_use]
    pub fn tls_no_verify(mut self, no_verify: bool) -> Self {
        self.tls_no_verify = no_verify;
        self
    }

    /// The client; nothing is sent yet.
    pub fn build(self) -> Result<Client, ClientError> {
        let base = parse_host(&self.host)?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("tidemill/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none());
        if let Some(token) = &self.token {
            builder = builder.default_headers(authorization(token)?);
        }
        if let Some(path) = &self.tls_ca {
            for certificate in certificates(path)? {
                builder = builder.add_root_certificate(certificate);
            }
        }
        if self.tls_no_verify {
            builder = builder.danger_accept_invalid_certs(true);
        }
        if base.scheme() == "http" {
            // Reading the authorities of the machine takes longer than most commands.
            builder = builder.tls_built_in_root_certs(false);
        }
        let http = builder
            .build()
            .map_err(|error| ClientError::Setup(chain(&error)))?;
        Ok(Client::new(http, base))
    }
}

fn parse_host(host: &str) -> Result<Url, ClientError> {
    let invalid = |reason: String| ClientError::InvalidHost {
        host: host.to_owned(),
        reason,
    };
    let url = Url::parse(host).map_err(|error| invalid(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(invalid(
            "expected something like http://127.0.0.1:8181".to_owned(),
        ));
    }
    Ok(url)
}

fn authorization(token: &str) -> Result<HeaderMap, ClientError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .map_err(|_| ClientError::Setup("the token has characters that no token has".to_owned()))?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let invalid = |reason: String| ClientError::CertificateAuthority {
        path: path.to_owned(),
        reason,
    };
    let pem = fs::read(path).map_err(|error| invalid(error.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| invalid(chain(&error)))?;
    if certificates.is_empty() {
        return Err(invalid("it holds no certificate".to_owned()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_urls() {
        for host in ["localhost:8181", "ftp://a", "127.0.0.1:8181", ""] {
            let error = ClientBuilder::new(host).build().unwrap_err();
            assert!(matches!(error, ClientError::InvalidHost { .. }), "{host}");
        }
        assert!(parse_host("https://example.org/prefix").is_ok());
    }

    #[test]
    fn a_token_that_no_header_can_have_is_refused_without_being_shown() {
        let error = authorization("secret\n1").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn certificate_authorities_are_read_when_the_client_is_built() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path(), Path::new("/nonexistent.pem")] {
            let error = certificates(path).unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
    }
}
