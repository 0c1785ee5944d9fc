//! Request bodies: their limits, and clients that send them badly.

use std::convert::Infallible;
use std::io::Write;
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::body::BodyLimits;

const KIB: usize = 1024;

fn pieces(sizes: impl IntoIterator<Item = usize> + Send + 'static) -> Body {
    let sizes: Vec<usize> = sizes.into_iter().collect();
    let pieces = sizes
        .into_iter()
        .map(|size| Ok::<_, Infallible>(Bytes::from(vec![b'x'; size])));
    Body::from_stream(stream::iter(pieces))
}

async fn status(limits: &BodyLimits, headers: &HeaderMap, body: Body) -> StatusCode {
    match limits.read(headers, body).await {
        Ok(_) => StatusCode::OK,
        Err(error) => error.into_response().status(),
    }
}

#[tokio::test]
async fn a_body_in_pieces_is_put_together_within_its_limit() {
    let limits = BodyLimits::new(100, 0);
    let headers = HeaderMap::new();
    let whole = limits.read(&headers, pieces([40, 0, 60])).await.unwrap();
    assert_eq!(whole, vec![b'x'; 100]);
    assert!(limits.read(&headers, Body::empty()).await.unwrap().is_empty());
    let too_large = StatusCode::PAYLOAD_TOO_LARGE;
    assert_eq!(status(&limits, &headers, pieces([40, 61])).await, too_large);
    let announced = HeaderMap::from_iter([(http::header::CONTENT_LENGTH, HeaderValue::from_static("101"))]);
    assert_eq!(status(&limits, &announced, pieces([])).await, too_large);
}

#[tokio::test]
async fn all_bodies_together_are_limited() {
    let limits = BodyLimits::new(1024 * KIB, 4096 * KIB);
    let headers = HeaderMap::new();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(
            limits
                .read(&headers, pieces([1000 * KIB, 24 * KIB]))
                .await
                .unwrap(),
        );
    }
    let refused = limits
        .read(&headers, pieces([64 * KIB]))
        .await
        .unwrap_err()
        .into_response();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "1");
    // Small ones always get in, and a share is free when the last reference to its body is gone.
    assert_eq!(status(&limits, &headers, pieces([KIB])).await, StatusCode::OK);
    let slice = held.pop().unwrap().slice(5..6);
    let large = || pieces([64 * KIB]);
    assert_eq!(
        status(&limits, &headers, large()).await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    drop(slice);
    assert_eq!(status(&limits, &headers, large()).await, StatusCode::OK);
}

#[tokio::test]
async fn a_plain_body_counts_and_not_only_the_compressed() {
    let limits = BodyLimits::new(512 * KIB, 0);
    let headers = HeaderMap::from_iter([(http::header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))]);
    let zipped = |bytes: usize| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&vec![b'x'; bytes]).unwrap();
        Body::from(encoder.finish().unwrap())
    };
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(limits.read(&headers, zipped(512 * KIB)).await.unwrap());
    }
    assert_eq!(
        status(&limits, &headers, zipped(512 * KIB)).await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    drop(held);
    assert_eq!(
        status(&limits, &headers, zipped(512 * KIB + 1)).await,
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up() {
    let mut limits = BodyLimits::new(KIB, 0);
    limits.stall_max = Duration::from_millis(20);
    let silent = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    assert_eq!(
        status(&limits, &HeaderMap::new(), silent).await,
        StatusCode::REQUEST_TIMEOUT
    );
}
