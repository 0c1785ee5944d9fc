//! What the routes share.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use tidemill_catalog::Catalog;
use tidemill_engine::Engine;
use tidemill_ingest::Ingest;
use tidemill_object_stores::ObjectStoreMetrics;
use tidemill_query::QueryEngine;
use tidemill_store::compaction::Compactor;
use uuid::Uuid;

use crate::body::BodyLimits;
use crate::metrics::ServerMetrics;

/// Everything that a route may call.
pub(crate) struct AppState {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) query: Arc<QueryEngine>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) compactor: Arc<Compactor>,
    pub(crate) bodies: BodyLimits,
    pub(crate) metrics: ServerMetrics,
    /// How long deleted data is kept unless the request says otherwise.
    pub(crate) hard_delete_default: Duration,
    pub(crate) object_store: Arc<ObjectStoreMetrics>,
    pub(crate) process_id: Uuid,
    pub(crate) cluster_uuid: HeaderValue,
}

/// Now, in nanoseconds since the epoch.
pub(crate) fn now_ns() -> i64 {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}
