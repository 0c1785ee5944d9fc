//! The check behind the fuzz target of streams: any bytes, in pieces of any size, are read to where they make no sense.

use tidemill_backup::stream::{Decoder, Event, StreamError};

/// Decodes the bytes in pieces of several sizes, which must not make a difference. Returns whether they are a whole stream.
pub(crate) fn check_stream(bytes: &[u8]) -> bool {
    let whole = read(bytes, bytes.len().max(1));
    for piece_bytes in [1, 7, 1_000] {
        assert_eq!(read(bytes, piece_bytes), whole, "pieces of {piece_bytes} bytes");
    }
    assert!(whole.content.len() <= bytes.len());
    whole.outcome.is_ok()
}

/// What came of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    /// Events but parts, which depend on the pieces.
    events: Vec<Event>,
    /// What the objects hold.
    content: Vec<u8>,
    outcome: Result<(), StreamError>,
}

fn read(bytes: &[u8], piece_bytes: usize) -> Read {
    let mut decoder = Decoder::new();
    let (mut events, mut content) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece_bytes) {
        decoder.push(piece);
        loop {
            match decoder.next_event() {
                Ok(None) => break,
                Ok(Some(Event::Part(part))) => content.extend_from_slice(&part),
                Ok(Some(event)) => events.push(event),
                Err(error) => {
                    let outcome = Err(error);
                    return Read {
                        events,
                        content,
                        outcome,
                    };
                }
            }
        }
    }
    let outcome = decoder.finish();
    Read {
        events,
        content,
        outcome,
    }
}
