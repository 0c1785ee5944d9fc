//! Result formats: which one a client wants, and answers in it (`spec/database.md` 1.8).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use tidemill_query::{BatchStream, QueryError, QueryOutput};

use crate::encoder::{EncodeError, Encoder};
use crate::error::ApiError;
use crate::pretty;

/// How a result is written. The order of the variants is the order in the error text for an unknown one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    Parquet,
    Csv,
    Pretty,
    Json,
    #[serde(rename = "json_lines", alias = "jsonl")]
    JsonLines,
}

impl Format {
    /// The format that the parameter or, without one, the `Accept` header asks for. `Accept` is checked in both cases.
    pub(crate) fn negotiate(parameter: Option<Self>, headers: &HeaderMap) -> Result<Self, ApiError> {
        let accepted = match headers.get(ACCEPT) {
            None => Self::Json,
            Some(value) => Self::from_accept(value)?,
        };
        Ok(parameter.unwrap_or(accepted))
    }

    fn from_accept(value: &HeaderValue) -> Result<Self, ApiError> {
        let text = String::from_utf8_lossy(value.as_bytes());
        let media_types: Vec<&str> = text
            .split(',')
            .map(|part| part.split(';').next().unwrap_or_default().trim())
            .collect();
        match media_types[..] {
            ["application/vnd.apache.parquet"] => Ok(Self::Parquet),
            ["text/csv"] => Ok(Self::Csv),
            ["text/plain"] => Ok(Self::Pretty),
            ["application/jsonl"] => Ok(Self::JsonLines),
            _ if media_types
                .iter()
                .any(|media_type| matches!(*media_type, "*/*" | "text/html" | "application/json")) =>
            {
                Ok(Self::Json)
            }
            _ => Err(ApiError::bad_request(format!("invalid mime type ({text})"))),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Csv => "text/csv",
            Self::Pretty => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            Self::JsonLines => "application/jsonl",
        }
    }
}

/// Writes a result. The first rows are computed before the head is sent, so that most errors get their status; an error
/// behind them breaks the connection, so that no client takes the answer for a whole one.
pub(crate) async fn respond(output: QueryOutput, format: Format) -> Result<Response, ApiError> {
    let QueryOutput { schema, batches } = output;
    let body = match format {
        Format::Pretty => pretty::table(batches).await?.into(),
        Format::Json => stream_rows(batches, Encoder::json()).await?,
        Format::JsonLines => stream_rows(batches, Encoder::json_lines()).await?,
        Format::Csv => stream_rows(batches, Encoder::csv()).await?,
        Format::Parquet => stream_rows(batches, Encoder::parquet(schema)?).await?,
    };
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    Ok(response)
}

/// Answers a listing whose rows are JSON objects of text and booleans with these columns.
pub(crate) async fn respond_rows(
    columns: &[&str],
    rows: Vec<Value>,
    format: Format,
) -> Result<Response, ApiError> {
    let text_of = |row: &Value, name: &str| row[name].as_str().map(str::to_owned);
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for &name in columns {
        let array: ArrayRef = if rows.iter().any(|row| row[name].is_boolean()) {
            Arc::new(
                rows.iter()
                    .map(|row| row[name].as_bool())
                    .collect::<BooleanArray>(),
            )
        } else {
            Arc::new(rows.iter().map(|row| text_of(row, name)).collect::<StringArray>())
        };
        fields.push(Field::new(name, array.data_type().clone(), false));
        arrays.push(array);
    }
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(ApiError::internal)?;
    respond(
        QueryOutput {
            schema,
            batches: Box::pin(stream::iter([Ok(batch)])),
        },
        format,
    )
    .await
}

/// A body that begins with the first rows, which are computed now.
async fn stream_rows(mut batches: BatchStream, mut encoder: Encoder) -> Result<Body, ApiError> {
    let mut head = Vec::new();
    // An empty batch says nothing about whether the query works.
    while !encoder.has_started() {
        let Some(batch) = batches.next().await.transpose()? else {
            head.extend(encoder.finish()?);
            return Ok(Body::from(head));
        };
        let bytes;
        (encoder, bytes) = encoder.encode(batch).await?;
        head.extend(bytes);
    }
    let rest = stream::unfold(Some((batches, encoder)), |state| async move {
        let (mut batches, encoder) = state?;
        match next_bytes(&mut batches, encoder).await {
            Ok((bytes, encoder)) => Some((Ok(bytes), encoder.map(|encoder| (batches, encoder)))),
            Err(error) => {
                tracing::error!(%error, "query failed after the answer had begun, breaking the connection");
                Some((Err(error), None))
            }
        }
    });
    Ok(Body::from_stream(
        stream::iter([Ok(Bytes::from(head))]).chain(rest),
    ))
}

/// What the next batch adds, and the encoder unless that was the end.
async fn next_bytes(
    batches: &mut BatchStream,
    encoder: Encoder,
) -> Result<(Bytes, Option<Encoder>), BrokenAnswer> {
    match batches.next().await.transpose()? {
        Some(batch) => {
            let (encoder, bytes) = encoder.encode(batch).await?;
            Ok((bytes.into(), Some(encoder)))
        }
        None => Ok((encoder.finish()?.into(), None)),
    }
}

/// Why a streamed answer breaks off.
#[derive(Debug, thiserror::Error)]
enum BrokenAnswer {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl From<EncodeError> for ApiError {
    fn from(error: EncodeError) -> Self {
        Self::internal(error)
    }
}
