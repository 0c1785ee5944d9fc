//! The two directions of a worker's socket.

use std::{io, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use tidemill_worker_proto::{Frame, FrameDecoder, FromWorker, ProtocolError, encode_frame};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
};

use crate::{
    WorkerEvents,
    pace::Pace,
    queue::{Blob, Outgoing, QueuedFrames},
};

const READ_BYTES: usize = 64 * 1024;
/// Frames taken from the queue at once.
const FRAMES_MAX: usize = 256;
/// Frames in a tenth of a second above which the reader rests: several times as many as the quickest request trigger
/// needs, but less than a plugin can log that does nothing else.
const FRAMES_PACE_MAX: u32 = 50_000;
/// Encoded bytes after which a write is made although more frames wait.
const WRITE_BYTES: usize = 256 * 1024;
/// Capacity that the write buffer keeps; a larger one, grown for a large blob, is given back.
const WRITE_CAPACITY_MAX: usize = 1 << 20;

/// Why reading from a worker ended.
#[derive(Debug)]
pub(crate) enum ReadEnd {
    /// End of file, or an error, which means the same: the worker is gone or closed its end.
    Closed,
    /// It sent what is not a frame.
    Malformed(ProtocolError),
}

/// The reading side: cuts frames out of large reads.
pub(crate) struct FrameReader {
    socket: OwnedReadHalf,
    decoder: FrameDecoder,
}

impl FrameReader {
    pub(crate) fn new(socket: OwnedReadHalf) -> Self {
        Self {
            socket,
            decoder: FrameDecoder::new(),
        }
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Result<Frame<FromWorker>, ReadEnd> {
        loop {
            if let Some(frame) = self.decoder.next().map_err(ReadEnd::Malformed)? {
                return Ok(frame);
            }
            let buffer: &mut BytesMut = self.decoder.buffer();
            buffer.reserve(READ_BYTES);
            let Ok(1..) = self.socket.read_buf(buffer).await else {
                return Err(ReadEnd::Closed);
            };
        }
    }

    /// Gives every frame to `events` until the end.
    pub(crate) async fn deliver_all(mut self, events: Arc<dyn WorkerEvents>) -> ReadEnd {
        let mut pace = Pace::new(FRAMES_PACE_MAX, Instant::now());
        loop {
            if let Some(rest) = pace.count(1, Instant::now) {
                tokio::time::sleep(rest).await;
            }
            match self.next().await {
                // An empty slice of the buffer would keep all of it.
                Ok(frame) if frame.blob.is_empty() => events.message(frame.head, Bytes::new()),
                Ok(frame) => events.message(frame.head, frame.blob),
                Err(end) => return end,
            }
        }
    }
}

/// Writes queued frames until the socket is closed; many that wait become one write. An error is a message that does
/// not fit a frame.
pub(crate) async fn write_all(
    mut socket: OwnedWriteHalf,
    mut frames: QueuedFrames,
) -> Result<(), ProtocolError> {
    let mut batch = Vec::new();
    let mut buffer = Vec::new();
    while frames.next(&mut batch, FRAMES_MAX).await {
        match write_batch(&mut socket, &batch, &mut buffer).await {
            Ok(()) => {}
            Err(WriteError::Socket) => break,
            Err(WriteError::Frame(error)) => return Err(error),
        }
        frames.written(&batch);
        batch.clear();
        if buffer.capacity() > WRITE_CAPACITY_MAX {
            buffer = Vec::new();
        }
    }
    Ok(())
}

enum WriteError {
    /// The worker is gone; whoever reads from it finds out why.
    Socket,
    Frame(ProtocolError),
}

impl From<io::Error> for WriteError {
    fn from(_: io::Error) -> Self {
        Self::Socket
    }
}

async fn write_batch(
    socket: &mut OwnedWriteHalf,
    batch: &[Outgoing],
    buffer: &mut Vec<u8>,
) -> Result<(), WriteError> {
    for outgoing in batch {
        encode(outgoing, buffer).map_err(WriteError::Frame)?;
        if buffer.len() >= WRITE_BYTES {
            socket.write_all(buffer).await?;
            buffer.clear();
        }
    }
    socket.write_all(buffer).await?;
    buffer.clear();
    Ok(())
}

fn encode(outgoing: &Outgoing, buffer: &mut Vec<u8>) -> Result<(), ProtocolError> {
    match &outgoing.blob {
        Blob::One(blob) => encode_frame(&outgoing.message, &[blob], buffer),
        Blob::Many(parts) => {
            let parts: Vec<&[u8]> = parts.iter().map(Bytes::as_ref).collect();
            encode_frame(&outgoing.message, &parts, buffer)
        }
    }
}
