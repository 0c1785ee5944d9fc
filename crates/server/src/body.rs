//! Request bodies: size limits, decompression, JSON and query strings, with the texts that clients know
//! (`spec/database.md` 1.4, 1.11; `spec/engine.md` 2.5, 8.2).

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::error::ApiError;

/// Compressed bodies above this size are decompressed on the blocking pool.
const INLINE_GZIP_BYTES_MAX: usize = 4 * 1024;

/// See [`BodyLimits::stall_max`].
const STALL_MAX: Duration = Duration::from_secs(30);
/// A body must be complete after this time, however steadily it trickles.
const TRANSFER_MAX: Duration = Duration::from_mins(10);
/// How long, and for how many bytes, a body that is refused is still taken in: a client that cannot get rid of it may
/// never look at the answer.
const DISCARD_MAX: Duration = Duration::from_secs(5);
const DISCARD_BYTES_MAX: u64 = 256 << 20;

/// Memory for bodies is taken in pieces of this size; a body of one piece is free.
const PIECE_BYTES: usize = 64 * 1024;
/// Bodies of the largest size that must find room at once, whatever the budget.
const LARGEST_BODIES_AT_ONCE: usize = 4;

/// Bounds on request bodies: of each, and of all that are in memory together.
pub(crate) struct BodyLimits {
    bytes_max: usize,
    pieces: Arc<Semaphore>,
    /// A client that sends nothing for so long in the middle of a body is given up.
    pub(crate) stall_max: Duration,
}

impl BodyLimits {
    /// At most `bytes_max` bytes a body, and some `all_bytes_max` bytes for all bodies together.
    pub(crate) fn new(bytes_max: usize, all_bytes_max: usize) -> Self {
        let all_bytes_max = all_bytes_max.max(bytes_max.saturating_mul(LARGEST_BODIES_AT_ONCE));
        let pieces = (all_bytes_max / PIECE_BYTES).min(Semaphore::MAX_PERMITS);
        Self {
            bytes_max,
            pieces: Arc::new(Semaphore::new(pieces)),
            stall_max: STALL_MAX,
        }
    }

    /// Reads a body as it came.
    pub(crate) async fn read_raw(&self, headers: &HeaderMap, mut body: Body) -> Result<Bytes, ApiError> {
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > self.bytes_max as u64) {
            // Who asks first has not begun to send.
            if !headers.contains_key(EXPECT) {
                discard(body).await;
            }
            return Err(self.too_large());
        }
        let deadline = Instant::now() + TRANSFER_MAX;
        let mut held = HeldBytes::new(Arc::clone(&self.pieces), announced.unwrap_or(0) as usize);
        loop {
            let next = timeout_at(deadline.min(Instant::now() + self.stall_max), body.frame());
            let Ok(frame) = next.await else {
                return Err(ApiError::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "Failed to read request body: it did not arrive in time",
                ));
            };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                None => return Ok(held.into_bytes()),
                Some(Ok(Ok(data))) if held.len() + data.len() > self.bytes_max => {
                    drop((held, data));
                    discard(body).await;
                    return Err(self.too_large());
                }
                Some(Ok(Ok(data))) => {
                    if let Err(error) = held.push(data) {
                        drop(held);
                        discard(body).await;
                        return Err(error);
                    }
                }
                // Trailers.
                Some(Ok(Err(_))) => {}
                Some(Err(error)) => {
                    return Err(ApiError::bad_request(format!(
                        "Failed to read request body: {error}"
                    )));
                }
            }
        }
    }

    /// Reads a body and decompresses it. The limit holds before and after.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
        let encoding = headers
            .get(CONTENT_ENCODING)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        match encoding.as_deref() {
            None | Some("identity") => self.read_raw(headers, body).await,
            Some("gzip") => {
                let compressed = self.read_raw(headers, body).await?;
                let bytes_max = self.bytes_max;
                let plain = if compressed.len() <= INLINE_GZIP_BYTES_MAX {
                    gunzip(&compressed, bytes_max)?
                } else {
                    let work = tokio::task::spawn_blocking(move || gunzip(&compressed, bytes_max));
                    work.await
                        .map_err(|_| ApiError::unavailable("the server is shutting down", 5))??
                };
                let plain = plain.ok_or_else(|| self.too_large())?;
                let mut held = HeldBytes::new(Arc::clone(&self.pieces), 0);
                held.push(plain)?;
                Ok(held.into_bytes())
            }
            Some(other) => Err(ApiError::bad_request(format!(
                "unacceptable content-encoding: {other}"
            ))),
        }
    }

    /// Reads a JSON body, whose content type must say so.
    pub(crate) async fn read_json<T: DeserializeOwned>(
        &self,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<T, ApiError> {
        if !has_json_content_type(headers) {
            let text = "unacceptable content-type, expected: application/json";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
        }
        parse_json(&self.read(headers, body).await?)
    }

    /// Reads parameters from the query string where there is one, else from a JSON body: what the `DELETE` endpoints
    /// do.
    pub(crate) async fn read_query_or_json<T: DeserializeOwned>(
        &self,
        query: Option<&str>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<T, ApiError> {
        match query.filter(|query| !query.is_empty()) {
            Some(query) => parse_query(query),
            None => self.read_json(headers, body).await,
        }
    }

    fn too_large(&self) -> ApiError {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("max request size ({} bytes) exceeded", self.bytes_max),
        )
    }
}

/// A body on its way in, and its share of the memory for bodies.
struct HeldBytes {
    /// The first part, as long as it is the only one: most bodies are never copied.
    first: Bytes,
    all: BytesMut,
    announced: usize,
    pieces: Arc<Semaphore>,
    share: Option<OwnedSemaphorePermit>,
}

impl HeldBytes {
    fn new(pieces: Arc<Semaphore>, announced: usize) -> Self {
        Self {
            first: Bytes::new(),
            all: BytesMut::new(),
            announced,
            pieces,
            share: None,
        }
    }

    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    /// Errors: all memory for bodies is in use.
    fn push(&mut self, data: Bytes) -> Result<(), ApiError> {
        self.take_share(self.len() + data.len())?;
        if self.len() == 0 {
            self.first = data;
            return Ok(());
        }
        if self.all.is_empty() {
            // Memory that is reserved and not written to costs nothing.
            self.all
                .reserve(self.announced.max(self.first.len() + data.len()));
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&data);
        Ok(())
    }

    fn take_share(&mut self, bytes: usize) -> Result<(), ApiError> {
        let held = self.share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Some(missing) = (bytes / PIECE_BYTES)
            .checked_sub(held)
            .filter(|missing| *missing > 0)
        else {
            return Ok(());
        };
        let more = Arc::clone(&self.pieces)
            .try_acquire_many_owned(u32::try_from(missing).unwrap_or(u32::MAX))
            .map_err(|_| ApiError::unavailable("too many large requests at once, try again", 1))?;
        match &mut self.share {
            Some(share) => share.merge(more),
            None => self.share = Some(more),
        }
        Ok(())
    }

    /// The whole body. Its share is given back when its last reference is dropped.
    fn into_bytes(self) -> Bytes {
        let bytes = if self.all.is_empty() {
            self.first
        } else {
            self.all.freeze()
        };
        match self.share {
            None => bytes,
            Some(share) => Bytes::from_owner(SharedBytes { bytes, _share: share }),
        }
    }
}

struct SharedBytes {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Takes in what is left of a body that nobody wants.
async fn discard(mut body: Body) {
    let deadline = Instant::now() + DISCARD_MAX;
    let mut bytes = 0;
    while bytes < DISCARD_BYTES_MAX
        && let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await
    {
        bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
    }
}

/// The plain bytes; `None` if they are more than `bytes_max`.
fn gunzip(compressed: &[u8], bytes_max: usize) -> Result<Option<Bytes>, ApiError> {
    let mut plain = Vec::with_capacity(compressed.len().saturating_mul(4).min(bytes_max));
    MultiGzDecoder::new(compressed)
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|error| ApiError::bad_request(format!("error decoding gzip stream: {error}")))?;
    Ok((plain.len() <= bytes_max).then(|| plain.into()))
}

/// Parses a JSON body whatever its content type says.
pub(crate) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad_request(format!("serde json error: {error}")))
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
