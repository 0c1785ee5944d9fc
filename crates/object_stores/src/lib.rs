//! The object stores that data may be kept in, and what every one of them gets: a limit on connections, counters, and for
//! those that several machines reach, a lease that keeps two servers of one name apart.
//!
//! **It is** the one place that knows of S3, Google Cloud Storage, Azure and local files. **It is not** a layout: it does not
//! know what lies in a store, apart from the lease.
//!
//! Invariants:
//! - A put that returned is durable, also in local files.
//! - Secrets are shown neither by `Debug` nor in a log.
#![deny(unsafe_code)]

mod aws_credentials_file;
mod config;
mod directories;
mod durable_local_store;
mod lease;
mod metered_store;
mod metrics;
mod open;
mod process;
mod secret;

pub use config::{AzureConfig, ConnectionConfig, GoogleConfig, Location, ObjectStoreConfig, S3Config};
pub use durable_local_store::DurableLocalStore;
pub use lease::{LeaseClock, LeaseError, LeaseLost, NodeLease, SystemClock};
pub use metered_store::MeteredStore;
pub use metrics::{ObjectStoreMetrics, Operation, OperationCounts, Outcome};
pub use open::{OpenError, OpenedStore, open};
pub use process::ProcessIdentity;
pub use secret::Secret;
