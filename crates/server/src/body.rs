//! Request bodies: size limits, decompression, JSON and query strings, with the texts that clients know
//! (`spec/database.md` 1.4, 1.11; `spec/engine.md` 2.5, 8.2).

use std::io::Read;

use axum::body::Body;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// Compressed bodies above this size are decompressed on the blocking pool.
const INLINE_GZIP_BYTES_MAX: usize = 4 * 1024;

/// Reads a body as it came, at most `bytes_max` bytes of it.
pub(crate) async fn read_raw(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(bytes_max)),
        Err(error) => Err(ApiError::bad_request(format!(
            "Failed to read request body: {error}"
        ))),
    }
}

/// Reads a body and decompresses it. The limit holds before and after.
pub(crate) async fn read(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let encoding = headers
        .get(CONTENT_ENCODING)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match encoding.as_deref() {
        None | Some("identity") => read_raw(headers, body, bytes_max).await,
        Some("gzip") => {
            let compressed = read_raw(headers, body, bytes_max).await?;
            if compressed.len() <= INLINE_GZIP_BYTES_MAX {
                return gunzip(&compressed, bytes_max);
            }
            let work = tokio::task::spawn_blocking(move || gunzip(&compressed, bytes_max));
            work.await
                .map_err(|_| ApiError::unavailable("the server is shutting down", 5))?
        }
        Some(other) => Err(ApiError::bad_request(format!(
            "unacceptable content-encoding: {other}"
        ))),
    }
}

fn gunzip(compressed: &[u8], bytes_max: usize) -> Result<Bytes, ApiError> {
    let mut plain = Vec::with_capacity(compressed.len().saturating_mul(4).min(bytes_max));
    MultiGzDecoder::new(compressed)
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|error| ApiError::bad_request(format!("error decoding gzip stream: {error}")))?;
    if plain.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    Ok(plain.into())
}

fn too_large(bytes_max: usize) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("max request size ({bytes_max} bytes) exceeded"),
    )
}

/// Reads a JSON body, whose content type must say so.
pub(crate) async fn read_json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<T, ApiError> {
    if !has_json_content_type(headers) {
        let text = "unacceptable content-type, expected: application/json";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    parse_json(&read(headers, body, bytes_max).await?)
}

/// Parses a JSON body whatever its content type says.
pub(crate) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad_request(format!("serde json error: {error}")))
}

/// Reads parameters from the query string where there is one, else from a JSON body: what the `DELETE` endpoints do.
pub(crate) async fn read_query_or_json<T: DeserializeOwned>(
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<T, ApiError> {
    match query.filter(|query| !query.is_empty()) {
        Some(query) => parse_query(query),
        None => read_json(headers, body, bytes_max).await,
    }
}

/// Parses a query string.
pub(crate) fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, ApiError> {
    serde_urlencoded::from_str(query).map_err(|error| ApiError::bad_request(format!("serde error: {error}")))
}

fn has_json_content_type(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}
