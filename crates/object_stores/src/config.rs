//! Where data is kept, and how requests are made.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Secret;

/// Where data is kept, and how requests are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectStoreConfig {
    /// Where.
    pub location: Location,
    /// How; without effect on local files and memory.
    pub connection: ConnectionConfig,
}

impl ObjectStoreConfig {
    /// Files below a directory.
    pub fn file(data_dir: impl Into<PathBuf>) -> Self {
        Location::File {
            data_dir: data_dir.into(),
        }
        .into()
    }

    /// Memory, gone when the process ends.
    pub fn memory() -> Self {
        Location::Memory.into()
    }

    /// The directory of local files, if that is where data is kept.
    pub fn data_dir(&self) -> Option<&Path> {
        match &self.location {
            Location::File { data_dir } => Some(data_dir),
            _ => None,
        }
    }

    /// Whether other machines reach it, and requests take time and cost money.
    pub fn is_remote(&self) -> bool {
        matches!(
            self.location,
            Location::S3(_) | Location::Google(_) | Location::Azure(_)
        )
    }
}

impl From<Location> for ObjectStoreConfig {
    fn from(location: Location) -> Self {
        Self {
            location,
            connection: ConnectionConfig::default(),
        }
    }
}

/// For people: a directory, or the kind of store and its bucket.
impl fmt::Display for ObjectStoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Location::File { data_dir } => write!(f, "{}", data_dir.display()),
            Location::Memory => f.write_str("in memory, gone when the server stops"),
            Location::MemoryThrottled => f.write_str("in slow memory, gone when the server stops"),
            Location::S3(config) => match &config.endpoint {
                Some(endpoint) => write!(f, "s3://{} at {endpoint}", config.bucket),
                None => write!(f, "s3://{}", config.bucket),
            },
            Location::Google(config) => write!(f, "gs://{}", config.bucket),
            Location::Azure(config) => write!(f, "azure://{}", config.container),
        }
    }
}

/// The kinds of stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Files below a directory, which is created.
    File {
        /// The directory.
        data_dir: PathBuf,
    },
    /// In memory; gone when the process ends.
    Memory,
    /// In memory, as slow as a store far away.
    MemoryThrottled,
    /// Amazon S3 and what speaks its protocol.
    S3(S3Config),
    /// Google Cloud Storage.
    Google(GoogleConfig),
    /// Azure Blob Storage.
    Azure(AzureConfig),
}

/// Access to S3. What is not given is taken from the environment of the process as Amazon's own tools do: roles of
/// containers and of machines, and tokens of a web identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3Config {
    /// Name of the bucket.
    pub bucket: String,
    /// Access key.
    pub access_key_id: Option<String>,
    /// Its secret.
    pub secret_access_key: Option<Secret>,
    /// Token of temporary credentials.
    pub session_token: Option<Secret>,
    /// A file with the three of them, which is read again when it changes.
    pub credentials_file: Option<PathBuf>,
    /// Region of the bucket; none: `us-east-1`.
    pub region: Option<String>,
    /// URL of a store that is not Amazon's.
    pub endpoint: Option<String>,
    /// Permits an endpoint without TLS.
    pub allow_http: bool,
    /// Requests are not signed: for buckets that everybody may use.
    pub skip_signature: bool,
}

/// Access to Google Cloud Storage. Without a service account the default credentials of the environment are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GoogleConfig {
    /// Name of the bucket.
    pub bucket: String,
    /// File with the key of a service account.
    pub service_account: Option<PathBuf>,
}

/// Access to Azure Blob Storage. Without a key the credentials of the environment are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AzureConfig {
    /// Name of the container.
    pub container: String,
    /// Storage account.
    pub account: Option<String>,
    /// Its key.
    pub access_key: Option<Secret>,
    /// URL of a store that is not Azure's own.
    pub endpoint: Option<String>,
    /// Permits an endpoint without TLS.
    pub allow_http: bool,
}

/// How requests to a remote store are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// Requests at the same time; more wait.
    pub connection_limit: usize,
    /// HTTP/2 from the first byte on; otherwise HTTP/1.1.
    pub http2_only: bool,
    /// Largest frame of HTTP/2 in bytes; none: what the client has.
    pub http2_max_frame_size: Option<u32>,
    /// Longest duration of one request, from connecting to the last byte of the answer.
    pub request_timeout: Duration,
    /// How often a request is repeated after a failure of the server or the network; none: 10 times.
    pub max_retries: Option<usize>,
    /// No request is repeated longer than this after it was first made; none: 3 minutes.
    pub retry_timeout: Option<Duration>,
    /// Certificates of the server are not checked.
    pub tls_allow_insecure: bool,
    /// File with certificates (PEM) that are trusted besides those of the system.
    pub tls_ca: Option<PathBuf>,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            connection_limit: 64,
            http2_only: false,
            http2_max_frame_size: None,
            request_timeout: Duration::from_secs(30),
            max_retries: None,
            retry_timeout: None,
            tls_allow_insecure: false,
            tls_ca: None,
        }
    }
}
