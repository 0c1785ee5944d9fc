//! From a configuration to a store.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::limit::LimitStore;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{Certificate, ClientOptions, ObjectStore, RetryConfig};
use thiserror::Error;

use crate::aws_credentials_file::AwsCredentialsFile;
use crate::{
    AzureConfig, ConnectionConfig, DurableLocalStore, GoogleConfig, Location, MeteredStore,
    ObjectStoreConfig, ObjectStoreMetrics, S3Config,
};

/// What each call takes in throttled memory: about what a store in the same region takes.
const THROTTLED_CALL: Duration = Duration::from_millis(20);

/// Why a store cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error("cannot use the data directory {}: {source}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A file that the configuration names cannot be read, or holds something else.
    #[error("cannot use {what} {}: {reason}", path.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The client of the store refuses its settings.
    #[error("cannot use the object store: {0}")]
    Store(#[from] object_store::Error),
}

/// A store that can be used.
#[derive(Debug, Clone)]
pub struct OpenedStore {
    /// For everything: counted, and with no more requests at the same time than were configured.
    pub objects: Arc<dyn ObjectStore>,
    /// The same without a limit on requests, for what must not wait behind others: the lease.
    pub unlimited: Arc<dyn ObjectStore>,
    /// What all requests came to.
    pub metrics: Arc<ObjectStoreMetrics>,
}

/// Makes the client of a store. Nothing is requested yet: a wrong key shows at the first request.
///
/// # Errors
/// [`OpenError`]; it names the directory or file that is at fault.
pub fn open(config: &ObjectStoreConfig) -> Result<OpenedStore, OpenError> {
    let store: Arc<dyn ObjectStore> = match &config.location {
        Location::File { data_dir } => {
            let failed = |source| OpenError::DataDir {
                path: data_dir.clone(),
                source,
            };
            std::fs::create_dir_all(data_dir).map_err(failed)?;
            Arc::new(DurableLocalStore::open(data_dir)?)
        }
        Location::Memory => Arc::new(InMemory::new()),
        Location::MemoryThrottled => Arc::new(ThrottledStore::new(InMemory::new(), throttle())),
        Location::S3(s3) => Arc::new(s3_builder(s3, &config.connection)?.build()?),
        Location::Google(google) => Arc::new(google_builder(google, &config.connection)?.build()?),
        Location::Azure(azure) => Arc::new(azure_builder(azure, &config.connection)?.build()?),
    };
    let metrics = Arc::new(ObjectStoreMetrics::default());
    let unlimited: Arc<dyn ObjectStore> = Arc::new(MeteredStore::new(store, Arc::clone(&metrics)));
    let objects = if config.is_remote() {
        let limit = config.connection.connection_limit.max(1);
        Arc::new(LimitStore::new(Arc::clone(&unlimited), limit))
    } else {
        Arc::clone(&unlimited)
    };
    Ok(OpenedStore {
        objects,
        unlimited,
        metrics,
    })
}

fn throttle() -> ThrottleConfig {
    ThrottleConfig {
        wait_delete_per_call: THROTTLED_CALL,
        wait_get_per_call: THROTTLED_CALL,
        wait_list_per_call: THROTTLED_CALL,
        wait_list_with_delimiter_per_call: THROTTLED_CALL,
        wait_put_per_call: THROTTLED_CALL,
        ..ThrottleConfig::default()
    }
}

fn s3_builder(s3: &S3Config, connection: &ConnectionConfig) -> Result<AmazonS3Builder, OpenError> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&s3.bucket)
        .with_skip_signature(s3.skip_signature)
        .with_client_options(client_options(connection, s3.allow_http)?)
        .with_retry(retries(connection));
    if let Some(region) = &s3.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(key) = &s3.access_key_id {
        builder = builder.with_access_key_id(key);
    }
    if let Some(secret) = &s3.secret_access_key {
        builder = builder.with_secret_access_key(secret.reveal());
    }
    if let Some(token) = &s3.session_token {
        builder = builder.with_token(token.reveal());
    }
    if let Some(path) = &s3.credentials_file {
        builder = builder.with_credentials(Arc::new(AwsCredentialsFile::open(path)?));
    }
    Ok(builder)
}

fn google_builder(
    google: &GoogleConfig,
    connection: &ConnectionConfig,
) -> Result<GoogleCloudStorageBuilder, OpenError> {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(&google.bucket)
        .with_client_options(client_options(connection, false)?)
        .with_retry(retries(connection));
    if let Some(path) = &google.service_account {
        // The client would find that out too, but without the name of the file.
        read("the service account file", path)?;
        builder = builder.with_service_account_path(path.to_string_lossy());
    }
    Ok(builder)
}

fn azure_builder(
    azure: &AzureConfig,
    connection: &ConnectionConfig,
) -> Result<MicrosoftAzureBuilder, OpenError> {
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(&azure.container)
        .with_client_options(client_options(connection, azure.allow_http)?)
        .with_retry(retries(connection));
    if let Some(account) = &azure.account {
        builder = builder.with_account(account);
    }
    if let Some(key) = &azure.access_key {
        builder = builder.with_access_key(key.reveal());
    }
    if let Some(endpoint) = &azure.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    Ok(builder)
}

fn client_options(connection: &ConnectionConfig, allow_http: bool) -> Result<ClientOptions, OpenError> {
    let mut options = ClientOptions::new()
        .with_allow_http(allow_http)
        .with_timeout(connection.request_timeout)
        .with_allow_invalid_certificates(connection.tls_allow_insecure);
    if connection.http2_only {
        options = options.with_http2_only();
    }
    if let Some(bytes) = connection.http2_max_frame_size {
        options = options.with_http2_max_frame_size(bytes);
    }
    if let Some(path) = &connection.tls_ca {
        let what = "the certificate file";
        let certificates = Certificate::from_pem_bundle(&read(what, path)?);
        let certificates = certificates.map_err(|error| unusable(what, path)(error.to_string()))?;
        if certificates.is_empty() {
            return Err(unusable(what, path)("it holds no certificate".to_owned()));
        }
        for certificate in certificates {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

fn retries(connection: &ConnectionConfig) -> RetryConfig {
    let default = RetryConfig::default();
    RetryConfig {
        max_retries: connection.max_retries.unwrap_or(default.max_retries),
        retry_timeout: connection.retry_timeout.unwrap_or(default.retry_timeout),
        ..default
    }
}

pub(crate) fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, OpenError> {
    std::fs::read(path).map_err(|error| unusable(what, path)(error.to_string()))
}

pub(crate) fn unusable(what: &'static str, path: &Path) -> impl Fn(String) -> OpenError {
    move |reason| OpenError::File {
        what,
        path: path.to_owned(),
        reason,
    }
}
