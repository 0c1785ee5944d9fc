//! `/api/v3/configure/database`, its `/retention_period`, and `/api/v3/configure/table` (`spec/database.md` 1.11); the
//! `/undelete` of both.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tidemill_catalog::{KEPT_FOR_EVER_NS, Strictness, Transaction, validate_database_name};
use tidemill_lineproto::ColumnType;

use crate::body;
use crate::error::ApiError;
use crate::format::{Format, respond_rows};
use crate::state::AppState;

#[derive(Debug, Deserialize)]
struct CreateDatabase {
    db: String,
    #[serde(default, deserialize_with = "duration_ns")]
    retention_period: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct SetRetentionPeriod {
    db: String,
    duration: String,
}

#[derive(Debug, Deserialize)]
struct OfDatabase {
    db: String,
}

#[derive(Debug, Deserialize)]
struct ListDatabases {
    format: Format,
    #[serde(default)]
    show_deleted: bool,
}

#[derive(Debug, Deserialize)]
struct DeleteDatabase {
    db: String,
    #[serde(default)]
    hard_delete_at: HardDeleteAt,
}

#[derive(Debug, Deserialize)]
struct CreateTable {
    db: String,
    table: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    fields: Vec<Field>,
    #[serde(default)]
    retention_period: TableRetention,
}

#[derive(Debug, Deserialize)]
struct UpdateTable {
    db: String,
    table: String,
    #[serde(default)]
    retention_period: TableRetention,
}

/// How long a table keeps its rows, in nanoseconds, where it does not do as its database: a duration, or `infinite`.
#[derive(Debug, Default)]
struct TableRetention(Option<u64>);

impl<'de> Deserialize<'de> for TableRetention {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        match text.as_deref() {
            Some("infinite") => Ok(Self(Some(KEPT_FOR_EVER_NS))),
            Some(text) => parse_duration_ns(text, "a duration or infinite").map(|ns| Self(Some(ns))),
            None => Ok(Self(None)),
        }
    }
}

#[derive(Debug, Deserialize)]
struct UndeleteDatabase {
    db: String,
    #[serde(default)]
    new_name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct UndeleteTable {
    db: String,
    table: String,
    #[serde(default)]
    new_name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Field {
    name: String,
    #[serde(rename = "type")]
    field_type: FieldType,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FieldType {
    Utf8,
    Int64,
    UInt64,
    Float64,
    Bool,
}

impl From<FieldType> for ColumnType {
    fn from(field_type: FieldType) -> Self {
        match field_type {
            FieldType::Utf8 => Self::String,
            FieldType::Int64 => Self::Integer,
            FieldType::UInt64 => Self::UInteger,
            FieldType::Float64 => Self::Float,
            FieldType::Bool => Self::Boolean,
        }
    }
}

#[derive(Debug, Deserialize)]
struct DeleteTable {
    db: String,
    table: String,
    #[serde(default)]
    hard_delete_at: HardDeleteAt,
}

/// When the data of something deleted may go: `never`, `now`, `default`, or an RFC 3339 time.
#[derive(Debug, Default, Deserialize)]
struct HardDeleteAt(Option<String>);

impl HardDeleteAt {
    fn at(&self, now: DateTime<Utc>, default: Duration) -> Result<Option<DateTime<Utc>>, ApiError> {
        match self.0.as_deref() {
            // A time that no clock reaches is never.
            None | Some("default") => Ok(TimeDelta::from_std(default)
                .ok()
                .and_then(|default| now.checked_add_signed(default))),
            Some("never") => Ok(None),
            Some("now") => Ok(Some(now)),
            Some(time) => match DateTime::parse_from_rfc3339(time) {
                Ok(time) => Ok(Some(time.to_utc())),
                Err(error) => Err(ApiError::bad_request(format!(
                    "Cannot parse the timestamp: {error}"
                ))),
            },
        }
    }
}

/// Reads a duration such as `30d` as nanoseconds.
fn duration_ns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse_duration_ns(&text, "a duration"))
        .transpose()
}

fn parse_duration_ns<E: serde::de::Error>(text: &str, expected: &'static str) -> Result<u64, E> {
    let invalid = || E::invalid_value(serde::de::Unexpected::Str(text), &expected);
    let duration = humantime::parse_duration(text).map_err(|_| invalid())?;
    u64::try_from(duration.as_nanos()).map_err(|_| invalid())
}

pub(crate) async fn create_database(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, ApiError> {
    let request: CreateDatabase = state.bodies.read_json(&headers, request_body).await?;
    let create = |transaction: &mut Transaction| {
        validate_database_name(&request.db, Strictness::Strict)?;
        transaction.create_database(&request.db, request.retention_period)
    };
    state.catalog.transact(create).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn update_database(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, ApiError> {
    let request: CreateDatabase = state.bodies.read_json(&headers, request_body).await?;
    update_retention(&state, &request.db, request.retention_period).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn set_retention_period(
    State(state): State<Arc<AppState>>,
    uri: Uri,
) -> Result<StatusCode, ApiError> {
    let request: SetRetentionPeriod = body::parse_query(uri.query().unwrap_or_default())?;
    let invalid =
        |reason: String| ApiError::bad_request(format!("Cannot parse the given human time: {reason}"));
    let duration =
        humantime::parse_duration(&request.duration).map_err(|error| invalid(error.to_string()))?;
    let retention_ns =
        u64::try_from(duration.as_nanos()).map_err(|_| invalid("duration is too long".to_owned()))?;
    update_retention(&state, &request.db, Some(retention_ns)).await
}

pub(crate) async fn clear_retention_period(
    State(state): State<Arc<AppState>>,
    uri: Uri,
) -> Result<StatusCode, ApiError> {
    let request: OfDatabase = body::parse_query(uri.query().unwrap_or_default())?;
    update_retention(&state, &request.db, None).await
}

async fn update_retention(
    state: &AppState,
    database: &str,
    retention_ns: Option<u64>,
) -> Result<StatusCode, ApiError> {
    let update = |transaction: &mut Transaction| transaction.set_retention(database, retention_ns);
    state.catalog.transact(update).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn list_databases(
    State(state): State<Arc<AppState>>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let request: ListDatabases = body::parse_query(uri.query().unwrap_or_default())?;
    let catalog = state.catalog.state();
    let shown = catalog
        .databases()
        .filter(|database| request.show_deleted || database.deleted.is_none());
    let rows = shown.map(|database| {
        let mut row = json!({ "iox::database": database.name.as_ref() });
        if request.show_deleted {
            row["deleted"] = database.deleted.is_some().into();
        }
        row
    });
    let columns: &[&str] = if request.show_deleted {
        &["iox::database", "deleted"]
    } else {
        &["iox::database"]
    };
    respond_rows(columns, rows.collect(), request.format).await
}

pub(crate) async fn delete_database(
    State(state): State<Arc<AppState>>,
    uri: Uri,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, ApiError> {
    let request: DeleteDatabase = state
        .bodies
        .read_query_or_json(uri.query(), &headers, request_body)
        .await?;
    let now = Utc::now();
    let hard_delete_at = request.hard_delete_at.at(now, state.hard_delete_default)?;
    let delete =
        |transaction: &mut Transaction| transaction.soft_delete_database(&request.db, now, hard_delete_at);
    state.catalog.transact(delete).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn create_table(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, ApiError> {
    let request: CreateTable = state.bodies.read_json(&headers, request_body).await?;
    let tags = request.tags.into_iter().map(|name| (name, ColumnType::Tag));
    let fields = request
        .fields
        .into_iter()
        .map(|field| (field.name, field.field_type.into()));
    let columns: Vec<(String, ColumnType)> = tags.chain(fields).collect();
    let create = |transaction: &mut Transaction| {
        let existing = transaction
            .state()
            .database(&request.db)
            .map(|database| database.id);
        let database = if let Some(id) = existing {
            id
        } else {
            validate_database_name(&request.db, Strictness::Strict)?;
            transaction.create_database(&request.db, None)?
        };
        transaction.create_table(database, &request.table, columns)?;
        transaction.set_table_retention(&request.db, &request.table, request.retention_period.0)
    };
    state.catalog.transact(create).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn delete_table(
    State(state): State<Arc<AppState>>,
    uri: Uri,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, ApiError> {
    let request: DeleteTable = state
        .bodies
        .read_query_or_json(uri.query(), &headers, request_body)
        .await?;
    let now = Utc::now();
    let hard_delete_at = request.hard_delete_at.at(now, state.hard_delete_default)?;
    let delete = |transaction: &mut Transaction| {
        transaction.soft_delete_table(&request.db, &request.table, now, hard_delete_at)
    };
    state.catalog.transact(delete).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn update_table(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<StatusCode, ApiError> {
    let request: UpdateTable = state.bodies.read_json(&headers, request_body).await?;
    let update = |transaction: &mut Transaction| {
        transaction.set_table_retention(&request.db, &request.table, request.retention_period.0)
    };
    state.catalog.transact(update).await?;
    Ok(StatusCode::OK)
}

/// Answers with the name that the database has then.
pub(crate) async fn undelete_database(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Json<Value>, ApiError> {
    let request: UndeleteDatabase = state.bodies.read_json(&headers, request_body).await?;
    let undelete = |transaction: &mut Transaction| {
        if let Some(new_name) = &request.new_name {
            validate_database_name(new_name, Strictness::Strict)?;
        }
        transaction.undelete_database(&request.db, request.new_name.as_deref())
    };
    let name = state.catalog.transact(undelete).await?;
    Ok(Json(json!({ "db": &*name })))
}

/// Answers with the name that the table has then.
pub(crate) async fn undelete_table(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Json<Value>, ApiError> {
    let request: UndeleteTable = state.bodies.read_json(&headers, request_body).await?;
    let undelete = |transaction: &mut Transaction| {
        transaction.undelete_table(&request.db, &request.table, request.new_name.as_deref())
    };
    let name = state.catalog.transact(undelete).await?;
    Ok(Json(json!({ "db": request.db, "table": &*name })))
}
