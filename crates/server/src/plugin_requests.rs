//! `/api/v3/engine/<path>`: requests that a plugin answers (`spec/engine.md` 1.5, 2.5 to 2.8).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{
    ALLOW, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use tidemill_engine::{PluginBody, PluginRequest, PluginResponse, REQUEST_PATH_PREFIX, RequestError};

use crate::error::ApiError;
use crate::state::AppState;

/// Headers that say how an answer is cut out of its connection. Only the server knows that; a wrong length from a plugin
/// would let the rest of its answer pass for the next one.
const FRAMING_HEADERS: [HeaderName; 5] = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, UPGRADE];

pub(crate) async fn handle(
    State(state): State<Arc<AppState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Response, ApiError> {
    // The path is matched as it came, without decoding.
    let path = uri.path().strip_prefix(REQUEST_PATH_PREFIX).unwrap_or_default();
    let trigger = match state.engine.request_trigger(path, method.as_str()) {
        Ok(trigger) => trigger,
        Err(error) => return Ok(error_response(&error)),
    };
    let query_string = uri.query().unwrap_or_default();
    let request = PluginRequest {
        method: trigger.method(),
        query_string: query_string.to_owned(),
        query_parameters: query_parameters(query_string),
        headers: plugin_headers(&headers),
        body: state.bodies.read(&headers, request_body).await?,
    };
    Ok(match trigger.handle(request).await {
        Ok(answer) => response(answer),
        Err(error) => error_response(&error),
    })
}

fn query_parameters(query: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect()
}

/// Headers as plugins see them: all but the credentials. A value that is not UTF-8 is read as Latin-1, as RFC 9110 has it
/// for old clients; nothing of it is lost.
fn plugin_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let shown = headers.iter().filter(|(name, _)| *name != AUTHORIZATION);
    shown
        .map(|(name, value)| {
            let value = value.as_bytes();
            let text = match std::str::from_utf8(value) {
                Ok(text) => text.to_owned(),
                Err(_) => value.iter().map(|byte| char::from(*byte)).collect(),
            };
            (name.as_str().to_owned(), text)
        })
        .collect()
}

fn response(answer: PluginResponse) -> Response {
    let body = match answer.body {
        PluginBody::Whole(body) => Body::from(body),
        PluginBody::Stream(stream) => Body::from_stream(stream),
    };
    let mut response = Response::new(body);
    match StatusCode::from_u16(answer.status) {
        Ok(status) if !status.is_informational() => *response.status_mut() = status,
        _ => {
            return invalid_answer(&format!(
                "status {} is not one that an answer can have",
                answer.status
            ));
        }
    }
    for (name, value) in answer.headers {
        let Ok(header) = HeaderName::try_from(&name) else {
            return invalid_answer(&format!("'{name}' is not a header name"));
        };
        if FRAMING_HEADERS.contains(&header) {
            continue;
        }
        let Ok(value) = HeaderValue::try_from(value) else {
            return invalid_answer(&format!(
                "the value of header '{name}' has characters that a header cannot carry"
            ));
        };
        response.headers_mut().append(header, value);
    }
    response
}

fn invalid_answer(reason: &str) -> Response {
    use axum::response::IntoResponse;
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, reason).into_response()
}

fn error_response(error: &RequestError) -> Response {
    let mut response = Response::new(Body::from(error.body()));
    *response.status_mut() = StatusCode::from_u16(error.status()).expect("the engine's statuses are HTTP's");
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(allowed) = error.allow() {
        let allowed = HeaderValue::from_str(allowed).expect("names of methods are visible ASCII");
        response.headers_mut().insert(ALLOW, allowed);
    }
    if let Some(retry_after) = error.retry_after() {
        response
            .headers_mut()
            .insert(RETRY_AFTER, retry_after.as_secs().max(1).into());
    }
    response
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn answered(status: u16, headers: &[(&str, &str)]) -> Response {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        response(PluginResponse {
            status,
            headers: headers.collect(),
            body: PluginBody::Whole(Bytes::from_static(b"body")),
        })
    }

    #[test]
    fn a_plugin_does_not_say_where_its_answer_ends() {
        let answer = answered(
            201,
            &[
                ("Content-Length", "1"),
                ("transfer-encoding", "chunked"),
                ("Connection", "close"),
                ("X-Mine", "a"),
                ("X-Mine", "b"),
            ],
        );
        assert_eq!(answer.status(), 201);
        let shown: Vec<_> = answer.headers().iter().collect();
        let mine = HeaderName::from_static("x-mine");
        assert_eq!(
            shown,
            [
                (&mine, &HeaderValue::from_static("a")),
                (&mine, &HeaderValue::from_static("b"))
            ]
        );
    }

    #[test]
    fn headers_are_read_as_utf_8_or_latin_1() {
        let mut headers = HeaderMap::new();
        for value in ["plain", "gr\u{fc}n"] {
            headers.append("x", HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers.append("x", HeaderValue::from_bytes(b"gr\xfcn").unwrap());
        headers.append(AUTHORIZATION, HeaderValue::from_static("secret"));
        let expected = ["plain", "gr\u{fc}n", "gr\u{fc}n"].map(|value| ("x".to_owned(), value.to_owned()));
        assert_eq!(plugin_headers(&headers), expected);
    }

    #[test]
    fn what_no_answer_can_have_is_an_error_of_the_plugin() {
        for status in [0, 99, 100, 101, 1000] {
            assert_eq!(answered(status, &[]).status(), 500, "{status}");
        }
        assert_eq!(answered(200, &[("bad name", "x")]).status(), 500);
        assert_eq!(answered(200, &[("name", "a\nb")]).status(), 500);
    }
}
