//! Where data is kept, as options say it: for the server and for commands that work on its store while it is stopped.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use tidemill_object_stores::{
    AzureConfig, ConnectionConfig, GoogleConfig, Location, ObjectStoreConfig, S3Config, Secret,
};

use super::settings::{any_path, home, parse_duration, present};
use crate::environment;
use crate::failure::CommandError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StoreKind {
    /// Files under the data directory
    File,
    /// Nothing outlives the process
    Memory,
    /// The same, as slow as a store far away
    MemoryThrottled,
    /// Amazon S3 and what speaks its protocol
    S3,
    /// Google Cloud Storage
    Google,
    /// Azure Blob Storage
    Azure,
}

/// Options of the object store.
#[derive(Debug, Args)]
pub(crate) struct StorageArgs {
    /// Where data is kept
    #[arg(long, env = environment::OBJECT_STORE, value_enum, default_value = "file", help_heading = "Storage")]
    object_store: StoreKind,

    /// Directory of the data [default: ~/.tidemill/data]
    #[arg(long, env = environment::DATA_DIR, value_parser = any_path(), value_name = "DIR", help_heading = "Storage")]
    data_dir: Option<PathBuf>,

    /// Bucket or container, for s3, google and azure
    #[arg(long, env = environment::BUCKET, value_name = "NAME", help_heading = "Storage")]
    bucket: Option<String>,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Credentials for stores on other machines, and how requests are made: for whoever has the place from elsewhere.
#[derive(Debug, Args)]
pub(crate) struct RemoteArgs {
    /// Access key [default: the credentials of the machine or container]
    #[arg(long, env = environment::AWS_ACCESS_KEY_ID, hide_env_values = true, value_name = "KEY", help_heading = "S3")]
    aws_access_key_id: Option<String>,

    /// Secret of the access key
    #[arg(long, env = environment::AWS_SECRET_ACCESS_KEY, hide_env_values = true, value_parser = secret, value_name = "SECRET", help_heading = "S3")]
    aws_secret_access_key: Option<Secret>,

    /// Region of the bucket [default: us-east-1]
    #[arg(long, env = environment::AWS_DEFAULT_REGION, value_name = "REGION", help_heading = "S3")]
    aws_default_region: Option<String>,

    /// URL of a store that is not Amazon's
    #[arg(long, env = environment::AWS_ENDPOINT, value_name = "URL", help_heading = "S3")]
    aws_endpoint: Option<String>,

    /// Token of temporary credentials
    #[arg(long, env = environment::AWS_SESSION_TOKEN, hide_env_values = true, value_parser = secret, value_name = "TOKEN", help_heading = "S3")]
    aws_session_token: Option<Secret>,

    /// Let the endpoint have no TLS
    #[arg(long, env = environment::AWS_ALLOW_HTTP, value_parser = FalseyValueParser::new(), help_heading = "S3")]
    aws_allow_http: bool,

    /// Do not sign requests
    #[arg(long, env = environment::AWS_SKIP_SIGNATURE, value_parser = FalseyValueParser::new(), help_heading = "S3")]
    aws_skip_signature: bool,

    /// File with the access key, its secret and the token; it is read again when it changes
    #[arg(long, env = environment::AWS_CREDENTIALS_FILE, value_parser = any_path(), value_name = "FILE", help_heading = "S3")]
    aws_credentials_file: Option<PathBuf>,

    /// File with the key of a service account [default: the credentials of the machine]
    #[arg(long, env = environment::GOOGLE_SERVICE_ACCOUNT, value_parser = any_path(), value_name = "FILE", help_heading = "Google")]
    google_service_account: Option<PathBuf>,

    /// Storage account
    #[arg(long, env = environment::AZURE_STORAGE_ACCOUNT, value_name = "ACCOUNT", help_heading = "Azure")]
    azure_storage_account: Option<String>,

    /// Key of the account [default: the credentials of the machine]
    #[arg(long, env = environment::AZURE_STORAGE_ACCESS_KEY, hide_env_values = true, value_parser = secret, value_name = "KEY", help_heading = "Azure")]
    azure_storage_access_key: Option<Secret>,

    /// URL of a store that is not Azure's own
    #[arg(long, env = environment::AZURE_ENDPOINT, value_name = "URL", help_heading = "Azure")]
    azure_endpoint: Option<String>,

    /// Let the endpoint have no TLS
    #[arg(long, env = environment::AZURE_ALLOW_HTTP, value_parser = FalseyValueParser::new(), help_heading = "Azure")]
    azure_allow_http: bool,

    /// Requests to the store at the same time
    #[arg(long, env = environment::OBJECT_STORE_CONNECTION_LIMIT, default_value = "64", value_parser = clap::value_parser!(u16).range(1..), value_name = "N", help_heading = "Connections to the store")]
    object_store_connection_limit: u16,

    /// Use HTTP/2 and nothing else
    #[arg(long, env = environment::OBJECT_STORE_HTTP2_ONLY, value_parser = FalseyValueParser::new(), help_heading = "Connections to the store")]
    object_store_http2_only: bool,

    /// Largest frame of HTTP/2 in bytes
    #[arg(long, env = environment::OBJECT_STORE_HTTP2_MAX_FRAME_SIZE, value_name = "BYTES", help_heading = "Connections to the store")]
    object_store_http2_max_frame_size: Option<u32>,

    /// Longest duration of one request
    #[arg(long, env = environment::OBJECT_STORE_REQUEST_TIMEOUT, default_value = "30s", value_parser = parse_duration, value_name = "DURATION", help_heading = "Connections to the store")]
    object_store_request_timeout: Duration,

    /// How often a request that failed is repeated [default: 10]
    #[arg(long, env = environment::OBJECT_STORE_MAX_RETRIES, value_name = "N", help_heading = "Connections to the store")]
    object_store_max_retries: Option<usize>,

    /// How long a request that failed is repeated [default: 3m]
    #[arg(long, env = environment::OBJECT_STORE_RETRY_TIMEOUT, value_parser = parse_duration, value_name = "DURATION", help_heading = "Connections to the store")]
    object_store_retry_timeout: Option<Duration>,

    /// Do not check the certificate of the store
    #[arg(long, env = environment::OBJECT_STORE_TLS_ALLOW_INSECURE, value_parser = FalseyValueParser::new(), help_heading = "Connections to the store")]
    object_store_tls_allow_insecure: bool,

    /// File with certificates (PEM) to trust besides those of the system
    #[arg(long, env = environment::OBJECT_STORE_TLS_CA, value_parser = any_path(), value_name = "FILE", help_heading = "Connections to the store")]
    object_store_tls_ca: Option<PathBuf>,

    /// There is no such cache; accepted for existing scripts
    #[arg(long, env = environment::OBJECT_STORE_CACHE_ENDPOINT, hide = true)]
    object_store_cache_endpoint: Option<String>,
}

/// As clap wants its parsers: nothing is wrong with any text.
#[expect(clippy::unnecessary_wraps, reason = "the form of a parser")]
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

/// A text that was given: an empty one stands for none, as in unset variables of container files.
fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn filled_secret(secret: Option<Secret>) -> Option<Secret> {
    secret.filter(|secret| !secret.reveal().is_empty())
}

impl StorageArgs {
    /// What the options come to.
    ///
    /// # Errors
    /// When a bucket is missing, or no home directory is known and none other was given.
    pub(crate) fn config(self) -> Result<ObjectStoreConfig, CommandError> {
        let bucket = filled(self.bucket);
        let bucket_for = |kind: &str| {
            bucket
                .clone()
                .ok_or_else(|| CommandError::Usage(format!("--object-store {kind} needs --bucket <NAME>")))
        };
        let location = match self.object_store {
            StoreKind::File => Location::File {
                data_dir: match present(self.data_dir) {
                    Some(data_dir) => data_dir,
                    None => home()?.join(".tidemill/data"),
                },
            },
            StoreKind::Memory => Location::Memory,
            StoreKind::MemoryThrottled => Location::MemoryThrottled,
            StoreKind::S3 => self.remote.s3(bucket_for("s3")?),
            StoreKind::Google => self.remote.google(bucket_for("google")?),
            StoreKind::Azure => self.remote.azure(bucket_for("azure")?),
        };
        if filled(self.remote.object_store_cache_endpoint.clone()).is_some() {
            tracing::warn!("--object-store-cache-endpoint has no effect: there is no such cache");
        }
        Ok(ObjectStoreConfig {
            location,
            connection: self.remote.connection(),
        })
    }

    /// The credentials alone.
    pub(crate) fn remote(&self) -> &RemoteArgs {
        &self.remote
    }
}

impl RemoteArgs {
    /// A bucket of S3.
    pub(crate) fn s3(&self, bucket: String) -> Location {
        Location::S3(S3Config {
            bucket,
            access_key_id: filled(self.aws_access_key_id.clone()),
            secret_access_key: filled_secret(self.aws_secret_access_key.clone()),
            session_token: filled_secret(self.aws_session_token.clone()),
            credentials_file: present(self.aws_credentials_file.clone()),
            region: filled(self.aws_default_region.clone()),
            endpoint: filled(self.aws_endpoint.clone()),
            allow_http: self.aws_allow_http,
            skip_signature: self.aws_skip_signature,
        })
    }

    /// A bucket of Google Cloud Storage.
    pub(crate) fn google(&self, bucket: String) -> Location {
        Location::Google(GoogleConfig {
            bucket,
            service_account: present(self.google_service_account.clone()),
        })
    }

    /// A container of Azure Blob Storage.
    pub(crate) fn azure(&self, container: String) -> Location {
        Location::Azure(AzureConfig {
            container,
            account: filled(self.azure_storage_account.clone()),
            access_key: filled_secret(self.azure_storage_access_key.clone()),
            endpoint: filled(self.azure_endpoint.clone()),
            allow_http: self.azure_allow_http,
        })
    }

    /// How requests are made.
    pub(crate) fn connection(&self) -> ConnectionConfig {
        ConnectionConfig {
            connection_limit: self.object_store_connection_limit.into(),
            http2_only: self.object_store_http2_only,
            http2_max_frame_size: self.object_store_http2_max_frame_size,
            request_timeout: self.object_store_request_timeout,
            max_retries: self.object_store_max_retries,
            retry_timeout: self.object_store_retry_timeout,
            tls_allow_insecure: self.object_store_tls_allow_insecure,
            tls_ca: present(self.object_store_tls_ca.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<ObjectStoreConfig, String> {
        let command = StorageArgs::augment_args(clap::Command::new("test"));
        // The variables of whoever runs the tests are of no interest.
        let command = command.mut_args(|argument| argument.env(None::<&str>));
        let matches = command
            .try_get_matches_from([&["test"], arguments].concat())
            .map_err(|error| error.to_string())?;
        let args = StorageArgs::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        args.config().map_err(|error| error.to_string())
    }

    #[test]
    fn the_options_of_s3_arrive_and_secrets_are_not_shown() {
        let config = parse(&[
            "--object-store",
            "s3",
            "--bucket",
            "b",
            "--aws-endpoint",
            "http://127.0.0.1:9000",
            "--aws-allow-http",
            "--aws-access-key-id",
            "key",
            "--aws-secret-access-key",
            "hidden",
            "--aws-session-token",
            "hidden",
            "--object-store-connection-limit",
            "3",
            "--object-store-max-retries",
            "0",
            "--object-store-request-timeout",
            "5s",
            "--object-store-cache-endpoint",
            "http://cache",
        ])
        .unwrap();
        assert!(!format!("{config:?} {config}").contains("hidden"), "{config:?}");
        assert_eq!(config.to_string(), "s3://b at http://127.0.0.1:9000");
        assert_eq!(config.connection.connection_limit, 3);
        assert_eq!(config.connection.max_retries, Some(0));
        assert_eq!(config.connection.request_timeout, Duration::from_secs(5));
        let Location::S3(s3) = config.location else {
            panic!("it is S3");
        };
        assert_eq!(s3.access_key_id.as_deref(), Some("key"));
        assert_eq!(s3.secret_access_key, Some(Secret::new("hidden")));
        assert!(s3.allow_http && !s3.skip_signature);
    }

    #[test]
    fn stores_far_away_need_a_bucket() {
        for kind in ["s3", "google", "azure"] {
            for arguments in [
                &["--object-store", kind][..],
                &["--object-store", kind, "--bucket", ""],
            ] {
                let error = parse(arguments).unwrap_err();
                assert_eq!(error, format!("--object-store {kind} needs --bucket <NAME>"));
            }
            let config = parse(&["--object-store", kind, "--bucket", "b"]).unwrap();
            assert!(config.is_remote());
        }
        let config = parse(&["--object-store", "memory-throttled"]).unwrap();
        assert_eq!(config.location, Location::MemoryThrottled);
    }
}
