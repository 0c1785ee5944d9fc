//! `GET` and `POST /api/v3/query_sql` (`spec/database.md` 1.8).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use serde::Deserialize;
use tidemill_query::Params;

use crate::body;
use crate::error::ApiError;
use crate::format::{Format, respond};
use crate::state::AppState;

#[derive(Debug, Deserialize)]
struct GetParameters {
    db: String,
    q: String,
    format: Option<Format>,
    params: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PostParameters {
    db: String,
    q: String,
    format: Option<Format>,
    params: Option<Params>,
}

pub(crate) async fn get_sql(
    State(state): State<Arc<AppState>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = uri
        .query()
        .ok_or_else(|| ApiError::bad_request("missing query parameters 'db' and 'q'"))?;
    let parameters: GetParameters = body::parse_query(query)?;
    let params = parameters
        .params
        .map(|text| body::parse_json(text.as_bytes()))
        .transpose()?;
    answer(
        &state,
        &headers,
        &parameters.db,
        &parameters.q,
        parameters.format,
        params,
    )
    .await
}

pub(crate) async fn post_sql(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Response, ApiError> {
    let bytes = state.bodies.read(&headers, request_body).await?;
    let parameters: PostParameters = body::parse_json(&bytes)?;
    answer(
        &state,
        &headers,
        &parameters.db,
        &parameters.q,
        parameters.format,
        parameters.params,
    )
    .await
}

async fn answer(
    state: &AppState,
    headers: &HeaderMap,
    database: &str,
    sql: &str,
    format: Option<Format>,
    params: Option<Params>,
) -> Result<Response, ApiError> {
    let format = Format::negotiate(format, headers)?;
    tracing::debug!(database, sql, "handling query_sql");
    let output = state.query.sql(database, sql, params.unwrap_or_default()).await?;
    respond(output, format).await
}
