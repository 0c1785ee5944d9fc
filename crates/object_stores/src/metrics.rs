//! What the requests to a store came to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// An object, or a part of one, is read.
    Get,
    /// The size and version of an object are asked for.
    Head,
    /// An object is written whole.
    Put,
    /// A part of a large object is written, or such an object is begun or completed.
    PutPart,
    /// An object is removed.
    Delete,
    /// A folder is listed.
    List,
    /// An object is copied or renamed.
    Copy,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Get,
        Self::Head,
        Self::Put,
        Self::PutPart,
        Self::Delete,
        Self::List,
        Self::Copy,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Put => "put",
            Self::PutPart => "put_part",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Copy => "copy",
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Done,
    /// There is no such object, which is often what was to be found out.
    NotFound,
    /// A condition was not met: the object is there already, or is another one.
    Conflict,
    /// It failed.
    Failed,
    /// Nobody waited for its end.
    Cancelled,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Done,
        Self::NotFound,
        Self::Conflict,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Failed => "error",
            Self::Cancelled => "cancelled",
        }
    }

    pub(crate) fn of_error(error: &object_store::Error) -> Self {
        use object_store::Error;
        match error {
            Error::NotFound { .. } => Self::NotFound,
            Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => {
                Self::Conflict
            }
            _ => Self::Failed,
        }
    }
}

/// Counters of one store since it was opened.
#[derive(Debug, Default)]
pub struct ObjectStoreMetrics {
    operations: [OperationCounters; Operation::ALL.len()],
}

#[derive(Debug, Default)]
struct OperationCounters {
    requests: [AtomicU64; Outcome::ALL.len()],
    bytes: AtomicU64,
    nanoseconds: AtomicU64,
}

/// What the requests of one kind came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationCounts {
    /// The kind.
    pub operation: Operation,
    /// Requests by how they ended.
    pub requests: Vec<(Outcome, u64)>,
    /// Bytes that were written or asked for.
    pub bytes: u64,
    /// Time from the requests to the first bytes of their answers, added up.
    pub duration: Duration,
}

impl ObjectStoreMetrics {
    pub(crate) fn record(&self, operation: Operation, outcome: Outcome, bytes: u64, duration: Duration) {
        let counters = &self.operations[operation as usize];
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        counters.requests[outcome as usize].fetch_add(1, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        counters.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// The counters as they are now, for every kind of request.
    pub fn counts(&self) -> Vec<OperationCounts> {
        let counts_of = |operation: Operation| {
            let counters = &self.operations[operation as usize];
            let requests = Outcome::ALL.map(|outcome| {
                (
                    outcome,
                    counters.requests[outcome as usize].load(Ordering::Relaxed),
                )
            });
            OperationCounts {
                operation,
                requests: requests.to_vec(),
                bytes: counters.bytes.load(Ordering::Relaxed),
                duration: Duration::from_nanos(counters.nanoseconds.load(Ordering::Relaxed)),
            }
        };
        Operation::ALL.map(counts_of).to_vec()
    }
}
