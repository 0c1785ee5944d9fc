//! What requests to the object store came to, for Prometheus.

use tidemill_metrics::{Exposition, Kind};
use tidemill_object_stores::ObjectStoreMetrics;

use crate::metrics::number;

/// Adds the counters of the store; a kind of request that there was none of is shown as zero.
pub(crate) fn write_object_store(text: &mut Exposition, metrics: &ObjectStoreMetrics) {
    let counts = metrics.counts();
    let requests = counts.iter().flat_map(|counts| {
        let operation = counts.operation.name();
        counts.requests.iter().map(move |(outcome, requests)| {
            let labels = [("operation", operation), ("outcome", outcome.name())];
            (labels, number(*requests))
        })
    });
    text.metric(
        "tidemill_object_store_requests_total",
        "Requests to the object store by kind and outcome, repetitions of the same request not counted.",
        Kind::Counter,
        requests,
    );
    text.metric(
        "tidemill_object_store_bytes_total",
        "Bytes of objects that were written or asked for, by kind of request.",
        Kind::Counter,
        counts
            .iter()
            .map(|counts| ([("operation", counts.operation.name())], number(counts.bytes))),
    );
    text.metric(
        "tidemill_object_store_request_seconds_total",
        "Time from requests to the beginning of their answers, added up, by kind of request.",
        Kind::Counter,
        counts.iter().map(|counts| {
            let labels = [("operation", counts.operation.name())];
            (labels, counts.duration.as_secs_f64())
        }),
    );
}
