//! `/health`, `/ping` and who is answering (`spec/database.md` 1.10).

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use serde_json::json;
use uuid::Uuid;

use crate::state::AppState;

/// Version of the interface that clients compare with; they choose their endpoints by it.
pub(crate) const COMPATIBLE_VERSION: &str = "3.10.0";

pub(crate) async fn health() -> &'static str {
    "OK"
}

pub(crate) async fn ping(State(state): State<Arc<AppState>>) -> Response {
    let body = json!({
        "product_name": "Tidemill",
        "version": COMPATIBLE_VERSION,
        "revision": env!("CARGO_PKG_VERSION"),
        "process_id": state.process_id.to_string(),
    });
    let request_id = Uuid::now_v7().to_string();
    let mut response = body.to_string().into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let request_id = HeaderValue::from_str(&request_id).expect("a UUID is visible ASCII");
    headers.insert(HeaderName::from_static("request-id"), request_id.clone());
    headers.insert(HeaderName::from_static("x-request-id"), request_id);
    headers.insert(
        HeaderName::from_static("x-influxdb-build"),
        HeaderValue::from_static("Core"),
    );
    headers.insert(
        HeaderName::from_static("x-influxdb-version"),
        HeaderValue::from_static(COMPATIBLE_VERSION),
    );
    response
}
