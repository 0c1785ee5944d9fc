//! Result formats: which one a client wants, and how batches become bytes (`spec/database.md` 1.8).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::csv;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::{ArrayWriter, LineDelimitedWriter};
use arrow::util::pretty::pretty_format_batches;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::Deserialize;
use serde_json::Value;
use tidemill_query::{BatchStream, QueryError, QueryOutput};

use crate::error::ApiError;

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
        let invalid = || ApiError::bad_request(format!("invalid mime type ({text})"));
        let mut media_types = text
            .split(',')
            .map(|part| part.split(';').next().unwrap_or_default().trim());
        match text.trim() {
            "application/vnd.apache.parquet" => Ok(Self::Parquet),
            "text/csv" => Ok(Self::Csv),
            "text/plain" => Ok(Self::Pretty),
            "application/json" => Ok(Self::Json),
            "application/jsonl" => Ok(Self::JsonLines),
            _ if media_types
                .any(|media_type| matches!(media_type, "*/*" | "text/html" | "application/json")) =>
            {
                Ok(Self::Json)
            }
            _ => Err(invalid()),
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

/// Writes a result. The first batch is computed before the head is sent, so that most errors get their status; an error
/// behind it breaks the connection, so that no client takes the answer for a whole one.
pub(crate) async fn respond(output: QueryOutput, format: Format) -> Result<Response, ApiError> {
    let QueryOutput { schema, mut batches } = output;
    let body = match format {
        Format::Pretty => pretty(&collect(batches).await?)?.into(),
        Format::Parquet => parquet(&schema, batches).await?.into(),
        Format::Json | Format::JsonLines | Format::Csv => {
            let mut encoder = StreamEncoder {
                format,
                started: false,
            };
            let mut head = Vec::new();
            let mut exhausted = false;
            // An empty batch says nothing about whether the query works.
            while head.is_empty() && !exhausted {
                match batches.next().await.transpose()? {
                    Some(batch) => encoder.encode(&batch, &mut head).map_err(internal)?,
                    None => exhausted = true,
                }
            }
            if exhausted {
                encoder.finish(&mut head);
                Body::from(head)
            } else {
                streaming_body(head, batches, encoder)
            }
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
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
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(internal)?;
    respond(
        QueryOutput {
            schema,
            batches: Box::pin(stream::iter([Ok(batch)])),
        },
        format,
    )
    .await
}

fn streaming_body(head: Vec<u8>, batches: BatchStream, encoder: StreamEncoder) -> Body {
    let rest = stream::unfold(Some((batches, encoder)), |state| async move {
        let (mut batches, mut encoder) = state?;
        let mut out = Vec::new();
        match batches.next().await {
            Some(Ok(batch)) => match encoder.encode(&batch, &mut out) {
                Ok(()) => Some((Ok(Bytes::from(out)), Some((batches, encoder)))),
                Err(error) => Some((Err(BrokenAnswer::Encode(error)), None)),
            },
            Some(Err(error)) => {
                tracing::error!(%error, "query failed after the answer had begun, breaking the connection");
                Some((Err(BrokenAnswer::Query(error)), None))
            }
            None => {
                encoder.finish(&mut out);
                Some((Ok(Bytes::from(out)), None))
            }
        }
    });
    Body::from_stream(stream::iter([Ok(Bytes::from(head))]).chain(rest))
}

/// Why a streamed answer breaks off.
#[derive(Debug, thiserror::Error)]
enum BrokenAnswer {
    #[error(transparent)]
    Query(QueryError),
    #[error(transparent)]
    Encode(ArrowError),
}

/// Writes batches one after the other in the formats that need no end before the beginning.
struct StreamEncoder {
    format: Format,
    started: bool,
}

impl StreamEncoder {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        match self.format {
            Format::Json => {
                let start = out.len();
                let mut writer = ArrayWriter::new(&mut *out);
                writer.write(batch)?;
                writer.finish()?;
                // Each batch comes as an array of its own: the brackets between them become commas.
                out[start] = if self.started { b',' } else { b'[' };
                out.pop();
            }
            Format::JsonLines => LineDelimitedWriter::new(&mut *out).write(batch)?,
            Format::Csv => csv::WriterBuilder::new()
                .with_header(!self.started)
                .build(&mut *out)
                .write(batch)?,
            Format::Pretty | Format::Parquet => unreachable!("buffered formats are not streamed"),
        }
        self.started = true;
        Ok(())
    }

    fn finish(&self, out: &mut Vec<u8>) {
        if self.format == Format::Json {
            out.extend_from_slice(if self.started { b"]" } else { b"[]" });
        }
    }
}

async fn collect(mut batches: BatchStream) -> Result<Vec<RecordBatch>, ApiError> {
    let mut collected = Vec::new();
    while let Some(batch) = batches.next().await.transpose()? {
        if batch.num_rows() > 0 {
            collected.push(batch);
        }
    }
    Ok(collected)
}

fn pretty(batches: &[RecordBatch]) -> Result<String, ApiError> {
    // Without a batch this is `++` twice, which is what clients know as an empty table.
    Ok(pretty_format_batches(batches).map_err(internal)?.to_string())
}

async fn parquet(schema: &SchemaRef, mut batches: BatchStream) -> Result<Vec<u8>, ApiError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut writer =
        ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties)).map_err(internal)?;
    while let Some(batch) = batches.next().await.transpose()? {
        writer.write(&batch).map_err(internal)?;
    }
    writer.into_inner().map_err(internal)
}

fn internal(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
