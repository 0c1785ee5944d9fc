//! `POST /api/v3/write_lp` (`spec/database.md` 1.4, 1.5).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use tidemill_ingest::{NameRule, WriteRequest};
use tidemill_lineproto::Precision;

use crate::body;
use crate::error::ApiError;
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

pub(crate) async fn write_lp(
    State(state): State<Arc<AppState>>,
    uri: Uri,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Response, ApiError> {
    let query = uri
        .query()
        .ok_or_else(|| ApiError::bad_request("missing query parameter 'db'"))?;
    let parameters: WriteParameters = body::parse_query(query)?;
    let request = WriteRequest {
        database: parameters.db,
        body: body::read(&headers, request_body, state.request_bytes_max).await?,
        precision: parameters.precision.into(),
        accept_partial: parameters.accept_partial,
        no_sync: parameters.no_sync,
        received_ns: now_ns(),
        name_rule: NameRule::Strict,
    };
    let outcome = state.ingest.write(request).await?;
    if outcome.rejected.is_empty() {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(ApiError::partial_write(&outcome.rejected))
    }
}
