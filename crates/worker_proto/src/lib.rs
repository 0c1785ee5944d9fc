//! The frames between the server and a worker process: the only place that knows the wire.
//!
//! It **is** the message types ([`ToWorker`], [`FromWorker`]), their encoding, and an incremental decoder for a byte
//! stream. It **is not** a transport: it opens no socket, starts no process and knows no Python, database or HTTP.
//!
//! A frame is a small *head* (a message, encoded with `postcard`) and a *blob* (bytes that are never re-encoded: Arrow IPC
//! streams, line protocol, HTTP bodies):
//!
//! ```text
//! u32 LE  length of all that follows
//! u32 LE  length of the head
//! bytes   head
//! bytes   blob
//! ```
//!
//! Invariants:
//! - The first frame of a worker is [`FromWorker::Hello`] with [`PROTOCOL_VERSION`]; a server that reads another number
//!   ends the worker, so neither side ever guesses.
//! - A frame is at most [`Message::FRAME_BYTES_MAX`] of its direction; a longer one is refused by both sides.
//! - Malformed input is an error, never a panic: the peer runs code that we do not control.

mod frame;
mod message;

pub use frame::{Frame, FrameDecoder, Message, OUTPUT_BYTES_MAX, ProtocolError, encode_frame};
pub use message::{
    CacheOperation, CacheReply, CallId, DatabaseWrites, EntryPoint, Failure, FailureKind, FromWorker, Load,
    LogLevel, Outcome, ParamValue, PluginForm, RequestHead, RequestMethod, ResponseHead, RunId, StateChange,
    StateOperation, StateReply, TableWrites, ToWorker, Work, bounded_log_text,
};

/// Version of the messages; raised with every change of [`ToWorker`] or [`FromWorker`].
pub const PROTOCOL_VERSION: u32 = 5;

/// Exit code of a worker whose plugin has closed the connection, which nothing can be said through any more.
pub const EXIT_CONNECTION_CLOSED: i32 = 71;

/// Bytes of one streamed answer that may be on their way to its client: when so many are, the plugin waits.
pub const RESPONSE_WINDOW_BYTES: usize = 1 << 20;
