//! The packages that plugins import (`spec/engine.md` 7.3). Installing takes minutes at times: whoever accepts it is told what
//! is going on meanwhile.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use tidemill_engine::{EngineError, InstallPackages, InstallRequirements};
use tidemill_worker::InstallRequest;
use tokio::sync::mpsc;

use crate::body;
use crate::error::ApiError;
use crate::format::{Format, respond_rows};
use crate::state::AppState;

/// One JSON object a line: `{"line": "…"}` for what is going on, and at the end `{"installed": true}` or `{"error": "…"}`.
const PROGRESS_TYPE: &str = "application/x-ndjson";
/// Lines that wait for a client; if it takes none, further ones are left out and counted.
const LINES_MAX: usize = 1024;

#[derive(Debug, Default, Deserialize)]
struct ListPackages {
    format: Option<Format>,
}

pub(crate) async fn install_packages(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Response, ApiError> {
    let request: InstallPackages = state.bodies.read_json(&headers, request_body).await?;
    install(state, &headers, request.into()).await
}

pub(crate) async fn install_requirements(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Response, ApiError> {
    let request: InstallRequirements = state.bodies.read_json(&headers, request_body).await?;
    install(state, &headers, request.into()).await
}

pub(crate) async fn list(
    State(state): State<Arc<AppState>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let request: ListPackages = uri
        .query()
        .map(body::parse_query)
        .transpose()?
        .unwrap_or_default();
    let format = Format::negotiate(request.format, &headers)?;
    let packages = state.engine.installed_packages().await?.into_iter();
    let rows = packages.map(|package| json!({ "name": package.name, "version": package.version }));
    respond_rows(&["name", "version"], rows.collect(), format).await
}

async fn install(
    state: Arc<AppState>,
    headers: &HeaderMap,
    request: InstallRequest,
) -> Result<Response, ApiError> {
    let accepted = headers.get(ACCEPT).map(HeaderValue::as_bytes);
    if accepted != Some(PROGRESS_TYPE.as_bytes()) {
        state.engine.install(request, |_| {}).await?;
        return Ok(StatusCode::OK.into_response());
    }
    let (sender, lines) = mpsc::channel(LINES_MAX);
    let mut left_out = 0_usize;
    let note = move |line: &str| {
        if left_out > 0 && sender.try_send(format!("… {left_out} lines left out")).is_ok() {
            left_out = 0;
        }
        if left_out > 0 || sender.try_send(line.to_owned()).is_err() {
            left_out += 1;
        }
    };
    let installing = Box::pin(async move { state.engine.install(request, note).await });
    let mut progress = Progress {
        lines,
        installing,
        ended: None,
    };
    // What is refused before there is anything to tell gets its status.
    let first = progress.next().await;
    if let Next::Ended(ended) = first {
        ended?;
        return Ok(progress_response(Body::from(rendered(&last_object(Ok(()))))));
    }
    let rest = stream::unfold(Some((progress, Some(first))), async |state| {
        let (mut progress, first) = state?;
        let next = match first {
            Some(first) => first,
            None => progress.next().await,
        };
        Some(match next {
            Next::Line(line) => (
                Ok::<_, Infallible>(rendered(&json!({ "line": line }))),
                Some((progress, None)),
            ),
            Next::Ended(ended) => (Ok(rendered(&last_object(ended))), None),
        })
    });
    Ok(progress_response(Body::from_stream(rest)))
}

/// An installation and what it says. Dropped with the answer when the client leaves, which stops it.
struct Progress<F> {
    lines: mpsc::Receiver<String>,
    installing: Pin<Box<F>>,
    ended: Option<Result<(), EngineError>>,
}

enum Next {
    Line(String),
    Ended(Result<(), EngineError>),
}

impl<F: Future<Output = Result<(), EngineError>>> Progress<F> {
    /// Not to be called after the end.
    async fn next(&mut self) -> Next {
        loop {
            tokio::select! {
                biased;
                line = self.lines.recv() => match (line, self.ended.take()) {
                    (Some(line), ended) => {
                        self.ended = ended;
                        return Next::Line(line);
                    }
                    (None, Some(ended)) => return Next::Ended(ended),
                    // Nothing more is said; how it ends is still to come.
                    (None, None) => return Next::Ended((&mut self.installing).await),
                },
                ended = &mut self.installing, if self.ended.is_none() => self.ended = Some(ended),
            }
        }
    }
}

fn last_object(ended: Result<(), EngineError>) -> Value {
    match ended {
        Ok(()) => json!({ "installed": true }),
        // The client has had the output.
        Err(error) => json!({ "error": error.summary() }),
    }
}

fn rendered(object: &Value) -> Bytes {
    format!("{object}\n").into()
}

fn progress_response(body: Body) -> Response {
    ([(CONTENT_TYPE, PROGRESS_TYPE)], body).into_response()
}
