//! The one place where errors become answers: every one is JSON `{"error": "…"}` with the known text inside
//! (`spec/database.md` 0.17, 1.12).

use std::fmt::Display;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tidemill_backup::export::ExportError;
use tidemill_catalog::CatalogError;
use tidemill_engine::{EngineError, EngineErrorKind};
use tidemill_ingest::{DeleteError, WriteError};
use tidemill_lineproto::LineError;
use tidemill_query::{QueryError, QueryErrorKind};

/// When a writer that finds no room, in memory or on the disk, should come again.
const OUT_OF_ROOM_RETRY_S: u32 = 5;

/// An answer that says what was wrong.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    data: Option<Value>,
    retry_after_s: Option<u32>,
}

/// A rejected line, as clients read it.
#[derive(Serialize)]
struct LineErrorBody<'a> {
    error_message: &'a str,
    line_number: usize,
    original_line: &'a str,
}

impl<'a> From<&'a LineError> for LineErrorBody<'a> {
    fn from(error: &'a LineError) -> Self {
        Self {
            error_message: &error.message,
            line_number: error.line_number,
            original_line: &error.original_line,
        }
    }
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            data: None,
            retry_after_s: None,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A failure of the server's own.
    pub(crate) fn internal(error: impl Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }

    pub(crate) fn unavailable(message: impl Into<String>, retry_after_s: u32) -> Self {
        Self {
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }

    /// Some lines were bad; the good ones are written (`spec/database.md` 1.5).
    pub(crate) fn partial_write(rejected: &[LineError]) -> Self {
        let data: Vec<LineErrorBody<'_>> = rejected.iter().map(LineErrorBody::from).collect();
        Self {
            data: Some(json!(data)),
            ..Self::new(
                status_of_lines(rejected),
                "partial write of line protocol occurred",
            )
        }
    }

    /// A line was bad and nothing is written.
    fn rejected_write(rejected: &[LineError]) -> Self {
        let data = rejected.first().map(|first| json!(LineErrorBody::from(first)));
        Self {
            data,
            ..Self::new(status_of_lines(rejected), "line protocol parsing error")
        }
    }
}

/// A limit of the schema is 422, anything else wrong with a line 400.
fn status_of_lines(rejected: &[LineError]) -> StatusCode {
    const LIMITS: [&str; 2] = [
        "Update to schema would exceed number of",
        "Adding a new database would exceed limit of",
    ];
    let over_limit = |error: &LineError| LIMITS.iter().any(|limit| error.message.starts_with(limit));
    if rejected.iter().any(over_limit) {
        StatusCode::UNPROCESSABLE_ENTITY
    } else {
        StatusCode::BAD_REQUEST
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({ "error": self.message });
        if let Some(data) = self.data {
            body["data"] = data;
        }
        json_response(self.status, body, self.retry_after_s)
    }
}

fn json_response(status: StatusCode, body: Value, retry_after_s: Option<u32>) -> Response {
    let mut response = (status, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = retry_after_s {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    response
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Rejected(rejected) => Self::rejected_write(&rejected),
            WriteError::Catalog(error) => error.into(),
            WriteError::InvalidDatabaseName(_) | WriteError::Empty | WriteError::NotUtf8(_) => {
                Self::bad_request(error.to_string())
            }
            WriteError::ShuttingDown => Self::unavailable(error.to_string(), 5),
            error if error.is_out_of_room() => Self::unavailable(error.to_string(), OUT_OF_ROOM_RETRY_S),
            other => Self::new(StatusCode::INTERNAL_SERVER_ERROR, other.to_string()),
        }
    }
}

impl From<DeleteError> for ApiError {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::Catalog(error) => error.into(),
            DeleteError::Write(error) => error.into(),
            other => Self::bad_request(other.to_string()),
        }
    }
}

impl From<ExportError> for ApiError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Restless { .. } => Self::unavailable(error.to_string(), 5),
            other => Self::internal(other),
        }
    }
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> Self {
        if error.is_out_of_room() {
            return Self::unavailable(error.to_string(), OUT_OF_ROOM_RETRY_S);
        }
        let status = match &error {
            CatalogError::AlreadyExists
            | CatalogError::RequestPathTaken { .. }
            | CatalogError::NameTaken { .. }
            | CatalogError::DataRemoved { .. } => StatusCode::CONFLICT,
            CatalogError::NotFound(_)
            | CatalogError::DatabaseNotFound(_)
            | CatalogError::TableNotFound { .. }
            | CatalogError::TableIdNotFound(_)
            | CatalogError::NotDeleted { .. } => StatusCode::NOT_FOUND,
            CatalogError::InvalidDatabaseName(_)
            | CatalogError::InvalidName(_)
            | CatalogError::SoftDeleted(_)
            | CatalogError::AmbiguousName { .. }
            | CatalogError::ReservedColumn(_)
            | CatalogError::DuplicateColumn(_)
            | CatalogError::ColumnTypeConflict { .. }
            | CatalogError::InternalDatabase { .. }
            | CatalogError::TriggerEnabled(_) => StatusCode::BAD_REQUEST,
            CatalogError::TooManyColumns { .. }
            | CatalogError::TooManyTables { .. }
            | CatalogError::TooManyDatabases { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let status = match error.kind() {
            EngineErrorKind::Invalid => StatusCode::BAD_REQUEST,
            EngineErrorKind::Forbidden => StatusCode::FORBIDDEN,
            EngineErrorKind::NotFound => StatusCode::NOT_FOUND,
            EngineErrorKind::Conflict => StatusCode::CONFLICT,
            EngineErrorKind::Unavailable => return Self::unavailable(error.to_string(), 5),
            EngineErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let status = match error.kind() {
            QueryErrorKind::DatabaseNotFound => {
                return Self::new(StatusCode::NOT_FOUND, format!("query error: {error}"));
            }
            QueryErrorKind::Invalid => StatusCode::BAD_REQUEST,
            QueryErrorKind::NotImplemented => StatusCode::METHOD_NOT_ALLOWED,
            QueryErrorKind::Exhausted | QueryErrorKind::Execution => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

/// An error in the form of the v2 interface: `{"code":"…","message":"…"}` (`spec/database.md` 1.7).
#[derive(Debug)]
pub(crate) struct V2Error(ApiError);

impl From<ApiError> for V2Error {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<WriteError> for V2Error {
    fn from(error: WriteError) -> Self {
        let message = match &error {
            WriteError::Empty | WriteError::Rejected(_) => format!("write buffer error: {error}"),
            _ => error.to_string(),
        };
        Self(ApiError {
            message,
            data: None,
            ..error.into()
        })
    }
}

impl IntoResponse for V2Error {
    fn into_response(self) -> Response {
        let ApiError {
            status,
            message,
            retry_after_s,
            ..
        } = self.0;
        let code = match status {
            StatusCode::UNAUTHORIZED => "unauthorized",
            StatusCode::FORBIDDEN => "forbidden",
            StatusCode::NOT_FOUND => "not found",
            StatusCode::PAYLOAD_TOO_LARGE => "request too large",
            StatusCode::UNPROCESSABLE_ENTITY => "unprocessable entity",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable",
            status if status.is_client_error() => "invalid",
            _ => "internal error",
        };
        json_response(status, json!({ "code": code, "message": message }), retry_after_s)
    }
}
