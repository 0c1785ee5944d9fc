//! The messages. The order of variants and fields is the wire format: a change raises
//! [`PROTOCOL_VERSION`](crate::PROTOCOL_VERSION).

use serde::{Deserialize, Serialize};

/// A run of the plugin, chosen by the server, unique within one worker process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunId(pub u64);

/// A call of the plugin into the server that waits for an answer, chosen by the worker, unique within its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallId(pub u64);

/// Server to worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Load (or replace) the plugin. Answered by `Loaded` or `LoadFailed`. Caches of the process are kept.
    Load(Box<Load>),
    /// Call the entry point. Answered by exactly one `Finished`. Blob: see [`Work`].
    Run {
        /// Names the run in all later messages.
        run: RunId,
        /// Stable over retries of the same work; what plugins see as `influxdb3_local.run_id`.
        run_id: String,
        /// What to call it with.
        work: Work,
    },
    /// A part of a query's result. Blob: one self-contained Arrow IPC stream.
    QueryPart {
        /// The query.
        call: CallId,
    },
    /// The query is done; no part follows. The error is the text of the Python exception `QueryError`.
    QueryDone {
        /// The query.
        call: CallId,
        /// Whether it succeeded.
        outcome: Result<(), String>,
    },
    /// Answer to `Write`. The error is the text of the Python exception.
    WriteDone {
        /// The write.
        call: CallId,
        /// Whether it was committed.
        outcome: Result<(), String>,
    },
    /// Answer to `GlobalCache`. Blob: the pickled value for `CacheReply::Value`.
    CacheDone {
        /// The operation.
        call: CallId,
        /// Its result.
        reply: CacheReply,
    },
    /// Answer to `State`. Blob: the pickled value for `StateReply::Value`.
    StateDone {
        /// The operation.
        call: CallId,
        /// Its result.
        reply: StateReply,
    },
    /// Raise an exception in the thread that executes this run; it still answers with `Finished`.
    Cancel {
        /// The run.
        run: RunId,
        /// Text of the exception.
        reason: String,
    },
    /// Finish nothing, start nothing, exit. Closing the socket means the same.
    Shutdown,
    /// The client of a streamed answer has taken some of it: so much more may be sent.
    ResponseTaken {
        /// The run.
        run: RunId,
        /// How many bytes.
        bytes: u64,
    },
}

/// What to load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Single file or package.
    pub form: PluginForm,
    /// Absolute path of the file, or of the package's directory.
    pub path: String,
    /// Absolute path of the plugin directory; it and the plugin's own folder stand at the end of `sys.path`.
    pub plugin_dir: String,
    /// Function to call.
    pub entry: EntryPoint,
    /// `influxdb3_local.trigger_name`.
    pub trigger_name: String,
    /// `influxdb3_local.database`, and the default of `query()` and `write()`.
    pub database: String,
    /// `args`; `None` gives Python's `None` (`spec/engine.md` 2.2).
    pub arguments: Option<Vec<(String, String)>>,
    /// Runs that may execute at the same time, each on its own thread; 1 for synchronous triggers.
    pub concurrency: u32,
    /// Time to live of trigger-cache entries put without one, in milliseconds (test caches); `None` is for ever.
    pub cache_ttl_default_ms: Option<u64>,
    /// Bytes that one run may give back: the lines that it collects and its answer, and for itself each write that is
    /// committed at once. At most [`OUTPUT_BYTES_MAX`](crate::OUTPUT_BYTES_MAX).
    pub output_bytes_max: u64,
    /// The URL path of a request trigger: what plugins see as `influxdb3_local.request.path`.
    pub request_path: Option<String>,
}

/// Forms of a plugin on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PluginForm {
    /// One Python file.
    SingleFile,
    /// A directory with `__init__.py`.
    Package,
}

/// Functions that a plugin may define (`spec/engine.md` 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryPoint {
    /// `process_writes(influxdb3_local, table_batches, args)`
    Writes,
    /// `process_scheduled_call(influxdb3_local, call_time, args)`
    ScheduledCall,
    /// `process_request(influxdb3_local, query_parameters, request_headers, request_body, args)`
    Request,
}

/// What a run is called with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Work {
    /// Written rows. Blob: the Arrow IPC streams of all tables, joined in order.
    Writes {
        /// One entry a table, in first-write order.
        tables: Vec<TableWrites>,
    },
    /// The scheduled instant, nanoseconds since the epoch.
    Schedule {
        /// The instant.
        time_ns: i64,
    },
    /// An HTTP request. Blob: its body, decompressed.
    Request(RequestHead),
}

/// The written rows of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableWrites {
    /// Name of the table.
    pub table_name: String,
    /// Lengths in bytes of its Arrow IPC streams in the blob. Their columns may differ; a null is a column that the line
    /// did not have. Column order is the order within the line; `time` is last.
    pub stream_bytes: Vec<u64>,
}

/// Head of an HTTP request to a trigger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestHead {
    /// Its method.
    pub method: RequestMethod,
    /// The query string as it came, without the question mark.
    pub query_string: String,
    /// Decoded query parameters in order; the last of equal names wins.
    pub query_parameters: Vec<(String, String)>,
    /// Lower-case header names without `authorization`; the last of equal names wins.
    pub headers: Vec<(String, String)>,
}

/// HTTP methods that a request trigger may answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestMethod {
    /// `GET`
    #[default]
    Get,
    /// `HEAD`: like `GET`, without the body of the answer.
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
}

impl RequestMethod {
    const ALL: [Self; 6] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Patch,
        Self::Delete,
    ];

    /// The method with that name, which is in capitals.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// Worker to server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// First message; it stays as it is in all versions. Blob: what `tidemill-sandbox` reports of the process, as JSON.
    Hello {
        /// [`PROTOCOL_VERSION`](crate::PROTOCOL_VERSION) of the worker.
        protocol_version: u32,
        /// For example `3.11.7`.
        python_version: String,
    },
    /// The plugin is ready to run.
    Loaded,
    /// The plugin could not be loaded. The worker stays; every run tries again and fails the same way until it loads.
    LoadFailed(Failure),
    /// A line of the plugin's log.
    Log {
        /// The run it belongs to, if any.
        run: Option<RunId>,
        /// Its level.
        level: LogLevel,
        /// Its text.
        text: String,
    },
    /// `influxdb3_local.query`.
    Query {
        /// Names the answer.
        call: CallId,
        /// The run it belongs to, if any.
        run: Option<RunId>,
        /// Database, where it is not the trigger's.
        database: Option<String>,
        /// Query text.
        sql: String,
        /// Named parameters.
        params: Vec<(String, ParamValue)>,
    },
    /// Nobody waits for the answer to this query any more: the run that asked was ended. Not answered.
    AbandonQuery {
        /// The query.
        call: CallId,
    },
    /// `influxdb3_local.write_sync` and, outside a run, `write`. Blob: line protocol.
    Write {
        /// Names the answer.
        call: CallId,
        /// The run it belongs to, if any.
        run: Option<RunId>,
        /// Database, where it is not the trigger's.
        database: Option<String>,
        /// Answer before the data is durable.
        no_sync: bool,
    },
    /// An operation on the cache that all plugins share. Blob: the pickled value for `Put`.
    GlobalCache {
        /// Names the answer.
        call: CallId,
        /// What to do.
        operation: CacheOperation,
    },
    /// An operation on the durable state of the trigger. Within a run only `Get` is sent: what the run changes comes with
    /// `Finished`. Blob: the pickled value for `Put`.
    State {
        /// Names the answer.
        call: CallId,
        /// What to do.
        operation: StateOperation,
    },
    /// The run has ended. Blob: line protocol of all `writes`, joined in order, then the values of `state`, joined in order,
    /// then the body of `response`.
    Finished {
        /// The run.
        run: RunId,
        /// How it ended.
        outcome: Outcome,
    },
    /// The answer of a run begins to leave before the run has ended; `Finished` has no `response` then. Blob: its first part.
    ResponseBegun {
        /// The run.
        run: RunId,
        /// Status and headers.
        response: ResponseHead,
    },
    /// More of a streamed answer. Blob: the part. Never are more than
    /// [`RESPONSE_WINDOW_BYTES`](crate::RESPONSE_WINDOW_BYTES) on their way that `ResponseTaken` has not confirmed.
    ResponsePart {
        /// The run.
        run: RunId,
    },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The function returned.
    Returned {
        /// What `write` and `write_to_db` collected, one entry a database, in first-write order.
        writes: Vec<DatabaseWrites>,
        /// What the run has changed in the trigger's state, at most one entry a key.
        state: Vec<StateChange>,
        /// The answer of a request trigger, unless it was streamed.
        response: Option<ResponseHead>,
    },
    /// It did not; everything collected is discarded.
    Failed(Failure),
}

/// Collected lines for one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseWrites {
    /// Database, where it is not the trigger's.
    pub database: Option<String>,
    /// Length of the line protocol in the blob.
    pub bytes: u64,
}

/// A change of the trigger's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// The key.
    pub key: String,
    /// Length of the pickled value in the blob; `None` where the key was deleted.
    pub value_bytes: Option<u64>,
}

/// Status and headers of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseHead {
    /// HTTP status; the worker has checked that it is 200 to 599.
    pub status: u16,
    /// Headers in order; a name may repeat. The worker has checked that they can be sent.
    pub headers: Vec<(String, String)>,
}

/// Why loading or running a plugin failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// In which step.
    pub kind: FailureKind,
    /// For `Raised` and `Load` the exception as `Type: message` (for a package that does not load, within the text of
    /// `spec/engine.md` 6.3), else the literal text of `spec/engine.md`.
    pub message: String,
    /// The whole Python traceback, where there is one.
    pub traceback: Option<String>,
}

/// Steps that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The module could not be compiled or executed.
    Load,
    /// The module has no such function.
    MissingFunction,
    /// The function raised.
    Raised,
    /// The function returned what no answer can be made of.
    BadReturn,
}

/// Longest text of a line of a plugin's log, in bytes.
const LOG_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Room for what says that a text was cut.
const CUT_NOTE_BYTES_MAX: usize = 48;

/// A text as it may stand in a log: one that is too long is cut and says so. What has been cut stays as it is.
pub fn bounded_log_text(mut text: String) -> String {
    if text.len() <= LOG_TEXT_BYTES_MAX {
        return text;
    }
    let bytes = text.len();
    text.truncate(text.floor_char_boundary(LOG_TEXT_BYTES_MAX - CUT_NOTE_BYTES_MAX));
    // In a text of its own: the old one keeps the room that it once needed.
    format!("{text}… ({} more bytes)", bytes - text.len())
}

/// Levels of a plugin's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LogLevel {
    /// `influxdb3_local.info`, standard output.
    Info,
    /// `influxdb3_local.warn`, standard error.
    Warn,
    /// `influxdb3_local.error`.
    Error,
}

/// Operations on the global cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheOperation {
    /// Stores the blob.
    Put {
        /// Its key.
        key: String,
        /// Time to live in milliseconds; `None` is for ever.
        ttl_ms: Option<u64>,
    },
    /// Reads a value.
    Get {
        /// Its key.
        key: String,
    },
    /// Removes a value.
    Delete {
        /// Its key.
        key: String,
    },
}

/// Results of global cache operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheReply {
    /// `Put` is done.
    Stored,
    /// `Get` found the value, which is the blob.
    Value,
    /// `Get` found nothing.
    Missing,
    /// `Delete`: whether there was something to delete.
    Deleted(bool),
    /// `Put` was refused: the cache holds as many bytes as it may.
    Full,
}

/// Operations on the durable state of a trigger (`spec/engine.md` 0.29).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateOperation {
    /// Reads a committed value.
    Get {
        /// Its key.
        key: String,
    },
    /// Stores the blob, at once and durably: only outside a run.
    Put {
        /// Its key.
        key: String,
    },
    /// Removes a value, at once and durably: only outside a run.
    Delete {
        /// Its key.
        key: String,
    },
}

/// Results of operations on the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateReply {
    /// `Get` found the value, which is the blob.
    Value,
    /// `Get` found nothing.
    Missing,
    /// `Put` is done.
    Stored,
    /// `Delete`: whether there was something to delete.
    Deleted(bool),
    /// `Put` or `Delete` was refused; the text of the Python exception.
    Refused(String),
}

/// Values of query parameters (`spec/engine.md` 0.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ParamValue {
    /// `None`
    Null,
    /// `bool`
    Boolean(bool),
    /// `int` within 64 signed bits
    Integer(i64),
    /// `int` above them
    UInteger(u64),
    /// `float`
    Float(f64),
    /// `str`
    String(String),
    /// `bytes`
    Bytes(Vec<u8>),
    /// `datetime`, nanoseconds since the epoch
    TimestampNs(i64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_text_is_cut_once() {
        let short = "ö".repeat(LOG_TEXT_BYTES_MAX / 2);
        assert_eq!(bounded_log_text(short.clone()), short);
        let cut = bounded_log_text("ö".repeat(LOG_TEXT_BYTES_MAX));
        assert!(
            cut.len() <= LOG_TEXT_BYTES_MAX && cut.ends_with("ö… (65584 more bytes)"),
            "{}",
            &cut[65_400..]
        );
        assert_eq!(bounded_log_text(cut.clone()), cut);
    }
}
