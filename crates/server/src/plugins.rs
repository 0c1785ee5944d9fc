//! Triggers, plugin files and dry runs (`spec/engine.md` 6.4, 8).

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Deserializer};
use tidemill_engine::{
    CreateTrigger, Dropped, RecordNext, RecordedRun, RecordingHead, ReplaceDirectory, Replayed,
    SelectDeadLetters, StartRecording, TestReport, TestRequest, TestSchedule, TestWal, UpdateFile,
    UpdateTrigger, UploadDirectory, UploadFile,
};

use crate::body;
use crate::error::ApiError;
use crate::state::AppState;

#[derive(Debug, Deserialize)]
struct DeleteTrigger {
    db: String,
    trigger_name: String,
    #[serde(default, deserialize_with = "flag")]
    force: bool,
}

#[derive(Debug, Deserialize)]
struct NameTrigger {
    db: String,
    trigger_name: String,
}

#[derive(Debug, Default, Deserialize)]
struct OfDatabase {
    db: Option<String>,
}

/// A boolean in JSON or in a query string, where it comes as text.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Boolean(bool),
        Text(String),
    }
    match Flag::deserialize(deserializer)? {
        Flag::Boolean(flag) => Ok(flag),
        Flag::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

pub(crate) async fn create_trigger(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, ApiError> {
    let request: CreateTrigger = state.bodies.read_json(&headers, request_body).await?;
    state.engine.create_trigger(request).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn update_trigger(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, ApiError> {
    let request: UpdateTrigger = state.bodies.read_json(&headers, request_body).await?;
    state.engine.update_trigger(request).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn replay_dead_letters(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Json<Replayed>, ApiError> {
    let selection: SelectDeadLetters = state.bodies.read_json(&headers, request_body).await?;
    Ok(Json(state.engine.replay_dead_letters(&selection).await?))
}

pub(crate) async fn drop_dead_letters(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Json<Dropped>, ApiError> {
    let selection: SelectDeadLetters = state.bodies.read_json(&headers, request_body).await?;
    Ok(Json(state.engine.drop_dead_letters(&selection).await?))
}

pub(crate) async fn delete_trigger(
    State(state): State<Arc<AppState>>,
    uri: Uri,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, ApiError> {
    let request: DeleteTrigger = state
        .bodies
        .read_query_or_json(uri.query(), &headers, request_body)
        .await?;
    state
        .engine
        .delete_trigger(&request.db, &request.trigger_name, request.force)
        .await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn enable_trigger(
    State(state): State<Arc<AppState>>,
    uri: Uri,
) -> Result<StatusCode, ApiError> {
    let request: NameTrigger = body::parse_query(uri.query().unwrap_or_default())?;
    state
        .engine
        .enable_trigger(&request.db, &request.trigger_name)
        .await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn disable_trigger(
    State(state): State<Arc<AppState>>,
    uri: Uri,
) -> Result<StatusCode, ApiError> {
    let request: NameTrigger = body::parse_query(uri.query().unwrap_or_default())?;
    state
        .engine
        .disable_trigger(&request.db, &request.trigger_name)
        .await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn start_recording(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Json<RecordingHead>, ApiError> {
    let request: StartRecording = state.bodies.read_json(&headers, request_body).await?;
    Ok(Json(state.engine.start_recording(&request).await?))
}

pub(crate) async fn record_next(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Json<RecordedRun>, ApiError> {
    let request: RecordNext = state.bodies.read_json(&headers, request_body).await?;
    Ok(Json(state.engine.record_next(&request).await?))
}

pub(crate) async fn upload_file(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, ApiError> {
    let request: UploadFile = state.bodies.read_json(&headers, request_body).await?;
    state.engine.upload_file(request).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn update_file(
    State(state): State<Arc<AppState>>,
    uri: Uri,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, ApiError> {
    let mut request: UpdateFile = state.bodies.read_json(&headers, request_body).await?;
    request.db = database_of(&uri)?.or(request.db);
    state.engine.update_file(request).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn upload_directory(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, ApiError> {
    let request: UploadDirectory = state.bodies.read_json(&headers, request_body).await?;
    state.engine.upload_directory(request).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn replace_directory(
    State(state): State<Arc<AppState>>,
    uri: Uri,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, ApiError> {
    let mut request: ReplaceDirectory = state.bodies.read_json(&headers, request_body).await?;
    request.db = database_of(&uri)?.or(request.db);
    state.engine.replace_directory(request).await?;
    Ok(StatusCode::OK)
}

fn database_of(uri: &Uri) -> Result<Option<String>, ApiError> {
    let parameters: OfDatabase = uri
        .query()
        .map(body::parse_query)
        .transpose()?
        .unwrap_or_default();
    Ok(parameters.db)
}

pub(crate) async fn test_wal(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Json<TestReport>, ApiError> {
    let request: TestWal = state.bodies.read_json(&headers, request_body).await?;
    Ok(Json(state.engine.test_wal(request).await?))
}

pub(crate) async fn test_schedule(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Json<TestReport>, ApiError> {
    let request: TestSchedule = state.bodies.read_json(&headers, request_body).await?;
    Ok(Json(state.engine.test_schedule(request).await?))
}

pub(crate) async fn test_request(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Json<TestReport>, ApiError> {
    let request: TestRequest = state.bodies.read_json(&headers, request_body).await?;
    Ok(Json(state.engine.test_request(request).await?))
}
