//! The write endpoints: `POST /api/v3/write_lp`, and `/write` and `/api/v2/write` of the versions before
//! (`spec/database.md` 1.4 to 1.7).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use tidemill_ingest::{NameRule, WriteError, WriteOutcome, WriteRequest};
use tidemill_lineproto::Precision;

use crate::body;
use crate::error::{ApiError, V2Error};
use crate::state::{AppState, now_ns};

#[derive(Debug, Deserialize)]
struct WriteParameters {
    db: String,
    #[serde(default)]
    precision: PrecisionParameter,
    #[serde(default = "default_accept_partial")]
    accept_partial: bool,
    #[serde(default)]
    no_sync: bool,
}

fn default_accept_partial() -> bool {
    true
}

/// The spellings of a precision; their order is the order in the error text.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PrecisionParameter {
    #[default]
    Auto,
    #[serde(rename = "s", alias = "second")]
    Second,
    #[serde(rename = "ms", alias = "millisecond")]
    Millisecond,
    #[serde(rename = "us", alias = "microsecond", alias = "u")]
    Microsecond,
    #[serde(rename = "ns", alias = "nanosecond", alias = "n")]
    Nanosecond,
}

impl From<PrecisionParameter> for Precision {
    fn from(parameter: PrecisionParameter) -> Self {
        match parameter {
            PrecisionParameter::Auto => Self::Auto,
            PrecisionParameter::Second => Self::Second,
            PrecisionParameter::Millisecond => Self::Millisecond,
            PrecisionParameter::Microsecond => Self::Microsecond,
            PrecisionParameter::Nanosecond => Self::Nanosecond,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
struct V1Parameters {
    db: Option<String>,
    #[serde(default)]
    rp: String,
    #[serde(default)]
    precision: FixedPrecisionParameter,
}

impl V1Parameters {
    /// The database that the retention policy is in: one other than the default is a database of its own.
    fn database(self) -> Result<String, ApiError> {
        let database = self
            .db
            .ok_or_else(|| ApiError::bad_request("no db destination provided"))?;
        let is_default = ["", "autogen", "default"]
            .iter()
            .any(|name| self.rp.eq_ignore_ascii_case(name));
        Ok(if is_default {
            database
        } else {
            format!("{database}/{}", self.rp)
        })
    }
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct V2Parameters {
    bucket: Option<String>,
    #[serde(default)]
    precision: FixedPrecisionParameter,
}

impl V2Parameters {
    pub(crate) fn database(self) -> Result<String, ApiError> {
        match self.bucket {
            None => Err(ApiError::bad_request("no org/bucket destination provided")),
            Some(bucket) if bucket.is_empty() => Err(ApiError::bad_request("missing bucket value")),
            Some(bucket) => Ok(bucket),
        }
    }
}

/// A precision where none is told from the timestamps; the order is the order in the error text.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
enum FixedPrecisionParameter {
    #[serde(rename = "s", alias = "second")]
    Second,
    #[serde(rename = "ms", alias = "millisecond")]
    Millisecond,
    #[serde(rename = "us", alias = "microsecond", alias = "u")]
    Microsecond,
    #[default]
    #[serde(rename = "ns", alias = "nanosecond", alias = "n")]
    Nanosecond,
}

impl From<FixedPrecisionParameter> for Precision {
    fn from(parameter: FixedPrecisionParameter) -> Self {
        match parameter {
            FixedPrecisionParameter::Second => Self::Second,
            FixedPrecisionParameter::Millisecond => Self::Millisecond,
            FixedPrecisionParameter::Microsecond => Self::Microsecond,
            FixedPrecisionParameter::Nanosecond => Self::Nanosecond,
        }
    }
}

/// `POST /api/v3/write_lp`.
pub(crate) async fn write_lp(
    State(state): State<Arc<AppState>>,
    uri: Uri,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Response, ApiError> {
    // The body is read whatever the parameters are: a client that cannot get rid of it may never look at the answer.
    let body = state.bodies.read(&headers, request_body).await;
    let query = uri
        .query()
        .ok_or_else(|| ApiError::bad_request("missing query parameter 'db'"))?;
    let parameters: WriteParameters = body::parse_query(query)?;
    let request = WriteRequest {
        database: parameters.db,
        body: body?,
        precision: parameters.precision.into(),
        accept_partial: parameters.accept_partial,
        no_sync: parameters.no_sync,
        received_ns: now_ns(),
        name_rule: NameRule::Strict,
        depth: 0,
    };
    let outcome = write(&state, request).await?;
    if outcome.rejected.is_empty() {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(ApiError::partial_write(&outcome.rejected))
    }
}

/// Writes and counts.
async fn write(state: &AppState, request: WriteRequest) -> Result<WriteOutcome, WriteError> {
    let bytes = request.body.len();
    let outcome = state.ingest.write(request).await;
    state.metrics.wrote(bytes, &outcome);
    outcome
}

/// `POST /write`.
pub(crate) async fn write_v1(
    State(state): State<Arc<AppState>>,
    uri: Uri,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, ApiError> {
    let body = state.bodies.read(&headers, request_body).await;
    let parameters: V1Parameters = compatible_parameters(&uri, "db/rp/precision")?;
    let precision = parameters.precision.into();
    let request = whole_and_durable(parameters.database()?, body?, precision);
    write(&state, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/v2/write`.
pub(crate) async fn write_v2(
    State(state): State<Arc<AppState>>,
    uri: Uri,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, V2Error> {
    let body = state.bodies.read(&headers, request_body).await;
    let parameters: V2Parameters = compatible_parameters(&uri, "org/bucket/precision")?;
    let precision = parameters.precision.into();
    let request = whole_and_durable(parameters.database()?, body?, precision);
    write(&state, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) fn compatible_parameters<T: Default + for<'de> Deserialize<'de>>(
    uri: &Uri,
    names: &str,
) -> Result<T, ApiError> {
    let Some(query) = uri.query() else {
        return Ok(T::default());
    };
    serde_urlencoded::from_str(query)
        .map_err(|error| ApiError::bad_request(format!("failed to deserialize {names} in request: {error}")))
}

/// What the older interfaces always ask for: all lines or none, and an answer when they are durable.
fn whole_and_durable(database: String, body: Bytes, precision: Precision) -> WriteRequest {
    WriteRequest {
        database,
        body,
        precision,
        accept_partial: false,
        no_sync: false,
        received_ns: now_ns(),
        name_rule: NameRule::Strict,
        depth: 0,
    }
}
