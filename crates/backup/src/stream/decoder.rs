//! Reads a stream.

use bytes::{Buf, Bytes, BytesMut};
use object_store::path::Path;

use super::{
    Checksum, FRAME_START_BYTES, GIVEN_UP, HEADER_BYTES_MAX, KIND_END, KIND_FAILURE, KIND_HEAD, KIND_OBJECT,
    MAGIC, PREAMBLE_BYTES, StreamEnd, StreamError, StreamHead, VERSION, header_checksum,
};

/// What comes next in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What the backup is of: always the first one.
    Head(StreamHead),
    /// An object begins.
    Object {
        /// Its path below the node.
        path: Path,
        /// How many bytes it will have.
        length: u64,
    },
    /// A part of the object that is open.
    Part(Bytes),
    /// The object that is open has ended, and is as it was sent.
    ObjectEnd {
        /// Its CRC-32/ISCSI.
        checksum: u32,
    },
    /// The stream is complete.
    End(StreamEnd),
}

/// Takes bytes as they come and gives what they mean. Holds no more than what it was given.
#[derive(Default)]
pub struct Decoder {
    unread: BytesMut,
    offset: u64,
    received: StreamEnd,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Preamble,
    Head,
    Frame,
    /// Between the parts of an object.
    Parts(Open),
    /// Inside of a part, of which so many bytes are missing.
    Part(Open, u32),
    /// After an object that was given up.
    Failure,
    Ended,
    /// Nothing that follows has a meaning.
    Failed(StreamError),
}

/// The object that is open.
struct Open {
    checksum: Checksum,
    missing: u64,
    length: u64,
}

impl Decoder {
    /// At the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what follows.
    pub fn push(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// What was received whole so far.
    pub fn received(&self) -> StreamEnd {
        self.received
    }

    /// The next event; `None`: more bytes are needed.
    ///
    /// # Errors
    /// What is wrong with the stream. It stays so.
    pub fn next_event(&mut self) -> Result<Option<Event>, StreamError> {
        loop {
            let state = std::mem::take(&mut self.state);
            match self.step(state) {
                Ok(Step::Event(state, event)) => {
                    self.state = state;
                    return Ok(Some(event));
                }
                Ok(Step::Skip(state)) => self.state = state,
                Ok(Step::Wait(state)) => {
                    self.state = state;
                    return Ok(None);
                }
                Err(error) => {
                    self.state = State::Failed(error.clone());
                    return Err(error);
                }
            }
        }
    }

    /// Says that no more bytes will come.
    ///
    /// # Errors
    /// When the stream is not complete.
    pub fn finish(self) -> Result<(), StreamError> {
        match self.state {
            State::Ended => Ok(()),
            State::Failed(error) => Err(error),
            _ => Err(StreamError::Cut {
                objects: self.received.objects,
                bytes: self.received.bytes,
            }),
        }
    }

    fn step(&mut self, state: State) -> Result<Step, StreamError> {
        match state {
            State::Preamble => self.preamble(),
            State::Head => self.frame(State::Head),
            State::Frame => self.frame(State::Frame),
            State::Failure => self.frame(State::Failure),
            State::Parts(open) => self.between_parts(open),
            State::Part(open, missing) => Ok(self.inside_part(open, missing)),
            State::Ended if self.unread.is_empty() => Ok(Step::Wait(State::Ended)),
            State::Ended => Err(self.damaged("something follows its end")),
            State::Failed(error) => Err(error),
        }
    }

    fn preamble(&mut self) -> Result<Step, StreamError> {
        let known = self.unread.len().min(MAGIC.len());
        if self.unread[..known] != MAGIC[..known] {
            return Err(StreamError::Magic);
        }
        if self.unread.len() < PREAMBLE_BYTES {
            return Ok(Step::Wait(State::Preamble));
        }
        self.take(MAGIC.len());
        let version = self.take_u32();
        if version == 0 || version > VERSION {
            return Err(StreamError::Version(version));
        }
        Ok(Step::Skip(State::Head))
    }

    /// Reads a frame in a state in which one comes.
    fn frame(&mut self, state: State) -> Result<Step, StreamError> {
        if self.unread.len() < FRAME_START_BYTES {
            return Ok(Step::Wait(state));
        }
        let start = &self.unread[..FRAME_START_BYTES];
        let kind = start[0];
        let header_bytes = u32::from_le_bytes(start[1..5].try_into().expect("four bytes")) as usize;
        let length = u64::from_le_bytes(start[5..13].try_into().expect("eight bytes"));
        let checksum = u32::from_le_bytes(start[13..].try_into().expect("four bytes"));
        if header_bytes > HEADER_BYTES_MAX {
            return Err(self.damaged("a header is too long"));
        }
        if self.unread.len() < FRAME_START_BYTES + header_bytes {
            return Ok(Step::Wait(state));
        }
        let header = &self.unread[FRAME_START_BYTES..FRAME_START_BYTES + header_bytes];
        if header_checksum(&start[..13], header) != checksum {
            return Err(self.damaged("the checksum of a header does not match"));
        }
        let header = self
            .take(FRAME_START_BYTES + header_bytes)
            .slice(FRAME_START_BYTES..);
        match (kind, state) {
            (KIND_HEAD, State::Head) => {
                let head = serde_json::from_slice(&header);
                let head =
                    head.map_err(|error| self.damaged(&format!("its head is not understood: {error}")))?;
                Ok(Step::Event(State::Frame, Event::Head(head)))
            }
            (KIND_OBJECT, State::Frame) => {
                let path = self.path(&header)?;
                let open = Open {
                    checksum: Checksum::new(),
                    missing: length,
                    length,
                };
                Ok(Step::Event(State::Parts(open), Event::Object { path, length }))
            }
            (KIND_END, State::Frame) => {
                let end: StreamEnd = serde_json::from_slice(&header)
                    .map_err(|error| self.damaged(&format!("its end is not understood: {error}")))?;
                if end != self.received {
                    return Err(self.damaged("objects are missing before its end"));
                }
                Ok(Step::Event(State::Ended, Event::End(end)))
            }
            (KIND_FAILURE, State::Frame | State::Failure) => {
                Err(StreamError::Server(String::from_utf8_lossy(&header).into_owned()))
            }
            _ => Err(self.damaged(&format!("a frame of kind {kind} does not belong there"))),
        }
    }

    /// A path that leads below the node and nowhere else.
    fn path(&self, header: &[u8]) -> Result<Path, StreamError> {
        let text = std::str::from_utf8(header).ok();
        let path = text.and_then(|text| Path::parse(text).ok().filter(|path| path.as_ref() == text));
        path.filter(|path| !path.as_ref().is_empty())
            .ok_or_else(|| self.damaged("the path of an object is none"))
    }

    fn between_parts(&mut self, open: Open) -> Result<Step, StreamError> {
        let Some(length) = self.unread.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)) else {
            return Ok(Step::Wait(State::Parts(open)));
        };
        match length {
            0 => self.object_end(open),
            GIVEN_UP => {
                self.take(4);
                Ok(Step::Skip(State::Failure))
            }
            length if u64::from(length) > open.missing => {
                Err(self.damaged("an object is longer than it should be"))
            }
            length => {
                self.take(4);
                Ok(Step::Skip(State::Part(open, length)))
            }
        }
    }

    fn object_end(&mut self, open: Open) -> Result<Step, StreamError> {
        if self.unread.len() < 8 {
            return Ok(Step::Wait(State::Parts(open)));
        }
        if open.missing > 0 {
            return Err(self.damaged("an object is shorter than it should be"));
        }
        self.take(4);
        let checksum = self.take_u32();
        if checksum != open.checksum.value() {
            return Err(self.damaged("the checksum of an object does not match"));
        }
        self.received.objects += 1;
        self.received.bytes += open.length;
        Ok(Step::Event(State::Frame, Event::ObjectEnd { checksum }))
    }

    fn inside_part(&mut self, mut open: Open, missing: u32) -> Step {
        let length = self.unread.len().min(missing as usize);
        if length == 0 {
            return Step::Wait(State::Part(open, missing));
        }
        let part = self.take(length);
        open.checksum.update(&part);
        open.missing -= length as u64;
        let state = match missing - length as u32 {
            0 => State::Parts(open),
            missing => State::Part(open, missing),
        };
        Step::Event(state, Event::Part(part))
    }

    fn take(&mut self, length: usize) -> Bytes {
        self.offset += length as u64;
        self.unread.split_to(length).freeze()
    }

    fn take_u32(&mut self) -> u32 {
        self.take(4).get_u32_le()
    }

    fn damaged(&self, reason: &str) -> StreamError {
        StreamError::Damaged {
            offset: self.offset,
            reason: reason.to_owned(),
        }
    }
}

enum Step {
    Event(State, Event),
    Skip(State),
    Wait(State),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stream::Encoder;

    fn head() -> StreamHead {
        StreamHead {
            program_version: "0.1.0".to_owned(),
            node_id: "n".to_owned(),
            created_ns: 7,
            snapshot_lsn: 3,
            log_first: 4,
            log_last: 9,
            bytes_expected: 100,
        }
    }

    /// A whole stream of objects in parts of a size.
    fn encode(objects: &[Vec<u8>], part_bytes: usize) -> Vec<u8> {
        let (mut encoder, start) = Encoder::new(&head());
        let mut stream = start.to_vec();
        for (number, object) in objects.iter().enumerate() {
            stream.extend(encoder.object(&Path::from(format!("a/{number}")), object.len() as u64));
            for part in object.chunks(part_bytes) {
                stream.extend(encoder.part(part).unwrap());
                stream.extend(part);
            }
            stream.extend(encoder.object_end(None).unwrap());
        }
        stream.extend(encoder.end());
        stream
    }

    /// The objects of a stream that comes in pieces of a size, and whether it is complete.
    fn decode(stream: &[u8], piece_bytes: usize) -> Result<Vec<Vec<u8>>, StreamError> {
        let mut decoder = Decoder::new();
        let mut objects = Vec::new();
        for piece in stream.chunks(piece_bytes) {
            decoder.push(piece);
            while let Some(event) = decoder.next_event()? {
                match event {
                    Event::Head(found) => assert_eq!(found, head()),
                    Event::Object { path, .. } => {
                        assert_eq!(path, Path::from(format!("a/{}", objects.len())));
                        objects.push(Vec::new());
                    }
                    Event::Part(part) => objects.last_mut().expect("an object is open").extend(part),
                    Event::ObjectEnd { .. } | Event::End(_) => {}
                }
            }
        }
        decoder.finish().map(|()| objects)
    }

    #[test]
    fn a_failure_is_told_wherever_it_happens() {
        for begun in [false, true] {
            let (mut encoder, start) = Encoder::new(&head());
            let mut stream = start.to_vec();
            if begun {
                stream.extend(encoder.object(&Path::from("a/0"), 10));
                stream.extend(encoder.part(b"123").unwrap());
                stream.extend(b"123");
            }
            stream.extend(encoder.failure("the disk is full"));
            let error = StreamError::Server("the disk is full".to_owned());
            assert_eq!(decode(&stream, 5), Err(error));
        }
    }

    #[test]
    fn an_object_that_changed_is_not_sent() {
        let (mut encoder, _) = Encoder::new(&head());
        encoder.object(&Path::from("a"), 2);
        encoder.part(b"x").unwrap();
        assert!(encoder.object_end(None).unwrap_err().contains("shorter"));
        encoder.part(b"y").unwrap();
        assert!(encoder.part(b"z").unwrap_err().contains("longer"));
        assert!(encoder.object_end(Some(1)).unwrap_err().contains("checksum"));
        assert!(encoder.object_end(Some(crc_fast::crc32_iscsi(b"xy"))).is_ok());
    }

    #[test]
    fn paths_lead_nowhere_else() {
        for path in ["", "/etc/passwd", "../x", "a//b", "a/../b", "a/"] {
            assert!(Decoder::new().path(path.as_bytes()).is_err(), "{path:?}");
        }
    }

    #[test]
    fn other_answers_are_none() {
        assert_eq!(decode(b"<html>", 100), Err(StreamError::Magic));
        let mut newer = encode(&[], 1);
        newer[8] = 2;
        assert_eq!(decode(&newer, 100), Err(StreamError::Version(2)));
    }

    fn objects() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..6)
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded_however_it_is_cut(
            objects in objects(), part_bytes in 1_usize..60, piece_bytes in 1_usize..200,
        ) {
            let stream = encode(&objects, part_bytes);
            prop_assert_eq!(decode(&stream, piece_bytes), Ok(objects));
        }

        #[test]
        fn every_cut_is_noticed(objects in objects(), cut in any::<prop::sample::Index>()) {
            let stream = encode(&objects, 20);
            prop_assert!(decode(&stream[..cut.index(stream.len())], 16).is_err());
        }

        #[test]
        fn every_changed_byte_is_noticed(
            objects in objects(), at in any::<prop::sample::Index>(), bits in 1_u8..,
        ) {
            let mut stream = encode(&objects, 20);
            let at = at.index(stream.len());
            stream[at] ^= bits;
            prop_assert!(decode(&stream, 16).is_err());
        }

        #[test]
        fn anything_at_all_is_taken_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300), piece_bytes in 1_usize..50,
        ) {
            let mut stream = MAGIC.to_vec();
            stream.extend(VERSION.to_le_bytes());
            stream.extend(bytes);
            prop_assert!(decode(&stream, piece_bytes).is_err());
        }
    }
}
