//! Options that all commands share which talk to a server.

use std::path::PathBuf;

use clap::{Args, builder::FalseyValueParser};
use tidemill_client::{Client, ClientError};

use crate::environment;

/// How to reach the server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// URL of the server
    #[arg(short = 'H', long = "host", env = environment::HOST_URL, default_value = "http://127.0.0.1:8181", value_name = "URL")]
    host: String,

    /// Token to authenticate with
    #[arg(long, env = environment::AUTH_TOKEN, hide_env_values = true)]
    token: Option<String>,

    /// PEM file with a certificate authority to trust beside those of the system
    #[arg(long, env = environment::TLS_CA, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Accept any certificate of the server
    #[arg(long, env = environment::TLS_NO_VERIFY, value_parser = FalseyValueParser::new())]
    tls_no_verify: bool,
}

impl Connection {
    pub(crate) fn client(&self) -> Result<Client, ClientError> {
        self.client_of(None)
    }

    /// A client of another host with the same credentials, where there is one.
    pub(crate) fn client_of(&self, host: Option<&str>) -> Result<Client, ClientError> {
        Client::builder(host.unwrap_or(&self.host))
            .token(self.token.clone().filter(|token| !token.is_empty()))
            .tls_ca(self.tls_ca.clone())
            .tls_no_verify(self.tls_no_verify)
            .build()
    }
}

/// Which database a command is about.
#[derive(Debug, Args)]
pub(crate) struct Database {
    /// Name of the database
    #[arg(short = 'd', long = "database", env = environment::DATABASE_NAME, value_name = "DATABASE")]
    pub(crate) database: String,
}
