//! Deletes of rows: `POST /api/v3/delete`, and `POST /api/v2/delete` of the version before.

use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode, Uri};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use tidemill_ingest::{DeleteRequest, parse_instant};

use crate::body::parse_json;
use crate::error::{ApiError, V2Error};
use crate::state::{AppState, now_ns};
use crate::write::{V2Parameters, compatible_parameters};

#[derive(Debug, Deserialize)]
struct DeleteRows {
    db: String,
    table: String,
    #[serde(default)]
    start: Option<Instant>,
    #[serde(default)]
    stop: Option<Instant>,
    #[serde(default)]
    predicate: Option<String>,
}

/// What clients of the version before send; for them both times are mandatory.
#[derive(Debug, Deserialize)]
struct V2DeleteRows {
    start: Instant,
    stop: Instant,
    #[serde(default)]
    predicate: Option<String>,
}

/// Nanoseconds since the epoch; in JSON a text as people write times, or a number.
#[derive(Debug, Clone, Copy)]
struct Instant(i64);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InstantVisitor)
    }
}

struct InstantVisitor;

impl Visitor<'_> for InstantVisitor {
    type Value = Instant;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Instant, E> {
        parse_instant(text).map(Instant).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, nanoseconds: i64) -> Result<Instant, E> {
        Ok(Instant(nanoseconds))
    }

    fn visit_u64<E: Error>(self, nanoseconds: u64) -> Result<Instant, E> {
        parse_instant(&nanoseconds.to_string())
            .map(Instant)
            .map_err(E::custom)
    }
}

/// `POST /api/v3/delete`: 204 when the rows are gone. How many they were nobody knows without reading files for it.
pub(crate) async fn delete_rows(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, ApiError> {
    let request: DeleteRows = state.bodies.read_json(&headers, request_body).await?;
    let request = DeleteRequest {
        database: request.db,
        table: Some(request.table),
        start_ns: request.start.map(|Instant(ns)| ns),
        stop_ns: request.stop.map(|Instant(ns)| ns),
        predicate: request.predicate.unwrap_or_default(),
        received_ns: now_ns(),
    };
    state.ingest.delete_rows(&request).await.map_err(ApiError::from)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/v2/delete`.
pub(crate) async fn delete_rows_v2(
    State(state): State<Arc<AppState>>,
    uri: Uri,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, V2Error> {
    let body = state.bodies.read(&headers, request_body).await;
    let parameters: V2Parameters = compatible_parameters(&uri, "org/bucket")?;
    let database = parameters.database()?;
    let request: V2DeleteRows = parse_json(&body?)?;
    let request = DeleteRequest {
        database,
        table: None,
        start_ns: Some(request.start.0),
        stop_ns: Some(request.stop.0),
        predicate: request.predicate.unwrap_or_default(),
        received_ns: now_ns(),
    };
    state.ingest.delete_rows(&request).await.map_err(ApiError::from)?;
    Ok(StatusCode::NO_CONTENT)
}
