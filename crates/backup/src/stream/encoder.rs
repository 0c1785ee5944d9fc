//! Writes a stream.

use bytes::{BufMut, Bytes, BytesMut};
use object_store::path::Path;

use super::{
    Checksum, FRAME_START_BYTES, GIVEN_UP, HEADER_BYTES_MAX, KIND_END, KIND_FAILURE, KIND_HEAD, KIND_OBJECT,
    MAGIC, StreamEnd, StreamHead, VERSION, header_checksum,
};

/// Makes the bytes of a stream, which are to be sent in the order in which they are returned.
pub struct Encoder {
    sent: StreamEnd,
    /// Checksum of what was sent of the object that is open, and how many of its bytes are still to come.
    open: Option<(Checksum, u64)>,
}

impl Encoder {
    /// A stream, and its first bytes.
    pub fn new(head: &StreamHead) -> (Self, Bytes) {
        let head = serde_json::to_vec(head).expect("names and numbers are JSON");
        let mut bytes = BytesMut::new();
        bytes.put_slice(&MAGIC);
        bytes.put_u32_le(VERSION);
        put_frame(&mut bytes, KIND_HEAD, &head, 0);
        let encoder = Self {
            sent: StreamEnd::default(),
            open: None,
        };
        (encoder, bytes.freeze())
    }

    /// Begins an object of so many bytes. Its [parts](Self::part) follow, and [its end](Self::object_end).
    pub fn object(&mut self, path: &Path, length: u64) -> Bytes {
        debug_assert!(
            self.open.is_none(),
            "an object begins after the one before has ended"
        );
        self.open = Some((Checksum::new(), length));
        self.sent.objects += 1;
        self.sent.bytes += length;
        let mut bytes = BytesMut::new();
        put_frame(&mut bytes, KIND_OBJECT, path.as_ref().as_bytes(), length);
        bytes.freeze()
    }

    /// What has to be sent before a part of the open object.
    ///
    /// # Errors
    /// When the object has more bytes than it was said to have.
    pub fn part(&mut self, part: &[u8]) -> Result<Bytes, String> {
        let (checksum, missing) = self.open.as_mut().ok_or("no object was begun")?;
        *missing = missing
            .checked_sub(part.len() as u64)
            .ok_or("it is longer than it should be")?;
        checksum.update(part);
        let mut bytes = BytesMut::new();
        if !part.is_empty() {
            let length = u32::try_from(part.len()).ok().filter(|length| *length < GIVEN_UP);
            bytes.put_u32_le(length.ok_or("a part of it is too long")?);
        }
        Ok(bytes.freeze())
    }

    /// Ends the open object.
    ///
    /// # Errors
    /// When it has less bytes than it was said to have, or another checksum than `expected`.
    pub fn object_end(&mut self, expected: Option<u32>) -> Result<Bytes, String> {
        let (checksum, missing) = self.open.as_ref().ok_or("no object was begun")?;
        if *missing > 0 {
            return Err(format!("it is shorter than it should be by {missing} bytes"));
        }
        let checksum = checksum.value();
        if expected.is_some_and(|expected| expected != checksum) {
            return Err("its checksum does not match".to_owned());
        }
        self.open = None;
        let mut bytes = BytesMut::new();
        bytes.put_u32_le(0);
        bytes.put_u32_le(checksum);
        Ok(bytes.freeze())
    }

    /// What was begun so far.
    pub fn sent(&self) -> StreamEnd {
        self.sent
    }

    /// The last bytes of a stream that is complete.
    pub fn end(self) -> Bytes {
        debug_assert!(
            self.open.is_none(),
            "a stream ends after the last object has ended"
        );
        let end = serde_json::to_vec(&self.sent).expect("numbers are JSON");
        let mut bytes = BytesMut::new();
        put_frame(&mut bytes, KIND_END, &end, 0);
        bytes.freeze()
    }

    /// The last bytes of a stream that cannot be completed.
    pub fn failure(self, reason: &str) -> Bytes {
        let mut bytes = BytesMut::new();
        if self.open.is_some() {
            bytes.put_u32_le(GIVEN_UP);
        }
        let reason = &reason.as_bytes()[..reason.len().min(HEADER_BYTES_MAX)];
        put_frame(&mut bytes, KIND_FAILURE, reason, 0);
        bytes.freeze()
    }
}

fn put_frame(bytes: &mut BytesMut, kind: u8, header: &[u8], length: u64) {
    debug_assert!(header.len() <= HEADER_BYTES_MAX, "headers are bounded");
    let mut start = [0; FRAME_START_BYTES - 4];
    start[0] = kind;
    start[1..5].copy_from_slice(&(header.len() as u32).to_le_bytes());
    start[5..].copy_from_slice(&length.to_le_bytes());
    bytes.put_slice(&start);
    bytes.put_u32_le(header_checksum(&start, header));
    bytes.put_slice(header);
}
