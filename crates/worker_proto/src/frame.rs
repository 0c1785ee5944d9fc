//! Framing: messages to bytes and back.

use bytes::{Buf, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use crate::{FromWorker, ToWorker};

const LENGTH_BYTES: usize = 4;

/// Most bytes that one run may give back: the lines that it writes and its answer. Each run's own limit is in
/// [`Load`](crate::Load).
pub const OUTPUT_BYTES_MAX: u64 = 256 << 20;
/// What a frame may have beside them: headers of an answer, values of the state.
const OTHER_BYTES_MAX: usize = 32 << 20;

/// What can be the head of a frame: the messages of one direction.
pub trait Message: Serialize + DeserializeOwned {
    /// Largest frame of this direction, in bytes.
    const FRAME_BYTES_MAX: usize;
}

impl Message for ToWorker {
    const FRAME_BYTES_MAX: usize = 1 << 30;
}

impl Message for FromWorker {
    // The server holds a frame in its own memory until it is whole: what plugins can make it hold has to be less than
    // what it may send to them.
    const FRAME_BYTES_MAX: usize = OUTPUT_BYTES_MAX as usize + OTHER_BYTES_MAX;
}

/// Why bytes could not be written or read as a frame. The connection is of no further use after one of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A frame longer than its direction allows.
    #[error("frame of {bytes} bytes exceeds the limit of {bytes_max}")]
    TooLong {
        /// Length that the frame has or claims.
        bytes: usize,
        /// [`Message::FRAME_BYTES_MAX`].
        bytes_max: usize,
    },
    /// The lengths inside a frame contradict one another.
    #[error("malformed frame: {0}")]
    Malformed(&'static str),
    /// The head is not a message of this protocol version.
    #[error("malformed message: {0}")]
    Message(#[from] postcard::Error),
}

/// A decoded message and the bytes that came with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame<M> {
    /// The message.
    pub head: M,
    /// The bytes behind it; empty where the message has none.
    pub blob: Bytes,
}

/// Appends one frame to `out`.
///
/// The blob is given in parts, which are joined on the wire: several Arrow streams need not be concatenated first.
/// On an error `out` is as it was.
pub fn encode_frame<M: Message>(head: &M, blob: &[&[u8]], out: &mut Vec<u8>) -> Result<(), ProtocolError> {
    let start = out.len();
    out.extend_from_slice(&[0; 2 * LENGTH_BYTES]);
    if let Err(error) = postcard::to_io(head, &mut *out) {
        out.truncate(start);
        return Err(error.into());
    }
    let head_bytes = out.len() - start - 2 * LENGTH_BYTES;
    let blob_bytes: usize = blob.iter().map(|part| part.len()).sum();
    let bytes = LENGTH_BYTES + head_bytes + blob_bytes;
    if bytes > M::FRAME_BYTES_MAX {
        out.truncate(start);
        return Err(too_long::<M>(bytes));
    }
    out.reserve(blob_bytes);
    for part in blob {
        out.extend_from_slice(part);
    }
    out[start..start + LENGTH_BYTES].copy_from_slice(&(bytes as u32).to_le_bytes());
    out[start + LENGTH_BYTES..start + 2 * LENGTH_BYTES].copy_from_slice(&(head_bytes as u32).to_le_bytes());
    Ok(())
}

/// Cuts a byte stream into frames.
///
/// Read into [`FrameDecoder::buffer`], then call [`FrameDecoder::next`] until it gives `None`.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: BytesMut,
}

impl FrameDecoder {
    /// An empty decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where bytes read from the peer are to be appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole frame, or `None` while more bytes are needed. Blobs share the read buffer: they are not copied.
    #[expect(
        clippy::should_implement_trait,
        reason = "fallible and generic over the message"
    )]
    pub fn next<M: Message>(&mut self) -> Result<Option<Frame<M>>, ProtocolError> {
        let Some(length) = read_length(&self.buffer, 0) else {
            return Ok(None);
        };
        if length > M::FRAME_BYTES_MAX {
            return Err(too_long::<M>(length));
        }
        if length < LENGTH_BYTES {
            return Err(ProtocolError::Malformed("shorter than its own header"));
        }
        if self.buffer.len() < LENGTH_BYTES + length {
            self.buffer.reserve(LENGTH_BYTES + length - self.buffer.len());
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(LENGTH_BYTES + length).freeze();
        frame.advance(LENGTH_BYTES);
        let head_bytes = frame.get_u32_le() as usize;
        if head_bytes > frame.len() {
            return Err(ProtocolError::Malformed("head longer than the frame"));
        }
        let head = frame.split_to(head_bytes);
        Ok(Some(Frame {
            head: postcard::from_bytes(&head)?,
            blob: frame,
        }))
    }
}

fn too_long<M: Message>(bytes: usize) -> ProtocolError {
    ProtocolError::TooLong {
        bytes,
        bytes_max: M::FRAME_BYTES_MAX,
    }
}

fn read_length(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at + LENGTH_BYTES)?;
    Some(u32::from_le_bytes(four.try_into().expect("slice of four bytes")) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{CallId, FromWorker, LogLevel, RunId, ToWorker};

    #[test]
    fn a_frame_survives_any_cut_of_the_stream() {
        let log = FromWorker::Log {
            run: Some(RunId(7)),
            level: LogLevel::Warn,
            text: "ebb".into(),
        };
        let query = FromWorker::Query {
            call: CallId(3),
            run: None,
            database: None,
            sql: "SELECT 1".into(),
            params: vec![],
        };
        let mut stream = Vec::new();
        encode_frame(&log, &[], &mut stream).unwrap();
        encode_frame(&query, &[b"ab", b"", b"c"], &mut stream).unwrap();
        for cut in 0..=stream.len() {
            let mut decoder = FrameDecoder::new();
            let mut frames = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                decoder.buffer().extend_from_slice(part);
                while let Some(frame) = decoder.next::<FromWorker>().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames.len(), 2, "cut at {cut}");
            assert_eq!(
                frames[0],
                Frame {
                    head: log.clone(),
                    blob: Bytes::new()
                }
            );
            assert_eq!(
                frames[1],
                Frame {
                    head: query.clone(),
                    blob: Bytes::from_static(b"abc")
                }
            );
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let mut decoder = FrameDecoder::new();
        decoder.buffer().extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            decoder.next::<ToWorker>(),
            Err(ProtocolError::TooLong { .. })
        ));

        let mut decoder = FrameDecoder::new();
        decoder.buffer().extend_from_slice(&[5, 0, 0, 0, 99, 0, 0, 0, 1]);
        assert!(matches!(
            decoder.next::<ToWorker>(),
            Err(ProtocolError::Malformed(_))
        ));

        let mut decoder = FrameDecoder::new();
        decoder.buffer().extend_from_slice(&[3, 0, 0, 0, 99, 0, 0]);
        assert!(matches!(
            decoder.next::<ToWorker>(),
            Err(ProtocolError::Malformed(_))
        ));
    }

    #[test]
    fn a_worker_may_send_less_than_it_is_sent() {
        let claimed = (<FromWorker as Message>::FRAME_BYTES_MAX as u32 + 1).to_le_bytes();
        let mut decoder = FrameDecoder::new();
        decoder.buffer().extend_from_slice(&claimed);
        assert!(matches!(decoder.next::<ToWorker>(), Ok(None)));
        assert!(matches!(
            decoder.next::<FromWorker>(),
            Err(ProtocolError::TooLong { .. })
        ));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = FrameDecoder::new();
            decoder.buffer().extend_from_slice(&bytes);
            while let Ok(Some(_)) = decoder.next::<FromWorker>() {}
            let mut decoder = FrameDecoder::new();
            decoder.buffer().extend_from_slice(&bytes);
            while let Ok(Some(_)) = decoder.next::<ToWorker>() {}
        }
    }
}
