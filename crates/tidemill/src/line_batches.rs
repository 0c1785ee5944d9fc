//! Cuts line protocol into requests of a limited size, without reading all of it at once.

use std::io::{self, Read};

use bytes::Bytes;

const READ_BYTES: usize = 256 * 1024;

/// A part of the input that consists of whole lines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LineBatch {
    pub(crate) bytes: Bytes,
    /// Lines with data: neither blank nor a comment.
    pub(crate) lines: u64,
}

/// Reads batches from a source.
pub(crate) struct LineBatches<R> {
    source: R,
    bytes_max: usize,
    /// Read and not yet given out.
    buffer: Vec<u8>,
    scanner: Scanner,
    at_end: bool,
}

impl<R: Read> LineBatches<R> {
    /// Batches of at most `bytes_max` bytes; a single longer line is a batch of its own.
    pub(crate) fn new(source: R, bytes_max: usize) -> Self {
        Self {
            source,
            bytes_max,
            buffer: Vec::new(),
            scanner: Scanner::default(),
            at_end: false,
        }
    }

    /// The next batch with data, `None` at the end of the input.
    pub(crate) fn next_batch(&mut self) -> io::Result<Option<LineBatch>> {
        loop {
            let Some(batch) = self.next_part()? else {
                return Ok(None);
            };
            if batch.lines > 0 {
                return Ok(Some(batch));
            }
        }
    }

    fn next_part(&mut self) -> io::Result<Option<LineBatch>> {
        // End and number of the whole lines that fit.
        let mut fitting: Option<(usize, u64)> = None;
        loop {
            while let Some(line) = self.scanner.next_line(&self.buffer) {
                if line.end > self.bytes_max
                    && let Some((end, lines)) = fitting
                {
                    return Ok(Some(self.take(end, lines)));
                }
                let lines = fitting.map_or(0, |(_, lines)| lines) + u64::from(line.has_data);
                if line.end >= self.bytes_max {
                    return Ok(Some(self.take(line.end, lines)));
                }
                fitting = Some((line.end, lines));
            }
            if self.at_end {
                return Ok(self.rest(fitting.map_or(0, |(_, lines)| lines)));
            }
            if self.buffer.len() > self.bytes_max
                && let Some((end, lines)) = fitting
            {
                return Ok(Some(self.take(end, lines)));
            }
            self.read()?;
        }
    }

    /// The last lines, the very last of which may have no line end.
    fn rest(&mut self, lines: u64) -> Option<LineBatch> {
        if self.buffer.is_empty() {
            return None;
        }
        let lines = lines + u64::from(self.scanner.is_in_data_line());
        Some(self.take(self.buffer.len(), lines))
    }

    fn take(&mut self, end: usize, lines: u64) -> LineBatch {
        let rest = self.buffer.split_off(end);
        let bytes = std::mem::replace(&mut self.buffer, rest);
        // The rest is scanned again: at most one line of it had been.
        self.scanner = Scanner::default();
        LineBatch {
            bytes: bytes.into(),
            lines,
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let length = self.buffer.len();
        self.buffer.resize(length + READ_BYTES, 0);
        let read = loop {
            match self.source.read(&mut self.buffer[length..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
        self.at_end = read? == 0;
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    /// Position behind its line end.
    end: usize,
    has_data: bool,
}

/// Finds the ends of lines: line ends that are not within a quoted field value.
#[derive(Debug, Default)]
struct Scanner {
    position: usize,
    place: Place,
    /// Whether the byte before this one was a backslash that escapes.
    escaped: bool,
    /// The byte before this one.
    previous: u8,
}

/// Where in a line a byte stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    BeforeLine,
    Comment,
    /// Measurement and tags, up to the first space that is not escaped. Quotes mean nothing here.
    Series,
    Fields,
    QuotedValue,
}

impl Scanner {
    fn is_in_data_line(&self) -> bool {
        matches!(self.place, Place::Series | Place::Fields | Place::QuotedValue)
    }

    fn next_line(&mut self, buffer: &[u8]) -> Option<Line> {
        while let Some(&byte) = buffer.get(self.position) {
            self.position += 1;
            if byte == b'\n' && self.place != Place::QuotedValue {
                let has_data = self.is_in_data_line();
                self.place = Place::BeforeLine;
                self.escaped = false;
                self.previous = byte;
                return Some(Line {
                    end: self.position,
                    has_data,
                });
            }
            self.step(byte);
        }
        None
    }

    fn step(&mut self, byte: u8) {
        let escaped = std::mem::take(&mut self.escaped);
        self.place = match (self.place, byte) {
            (Place::BeforeLine, b' ' | b'\r' | b'\t') => Place::BeforeLine,
            (Place::BeforeLine, b'#') => Place::Comment,
            (Place::BeforeLine, _) => Place::Series,
            (Place::Series, b' ') if !escaped => Place::Fields,
            (Place::Fields, b'"') if self.previous == b'=' && !escaped => Place::QuotedValue,
            (Place::QuotedValue, b'"') if !escaped => Place::Fields,
            (place, _) => place,
        };
        self.escaped = byte == b'\\' && !escaped;
        self.previous = byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(text: &str, bytes_max: usize) -> Vec<(String, u64)> {
        let mut batches = LineBatches::new(text.as_bytes(), bytes_max);
        let mut all = Vec::new();
        while let Some(batch) = batches.next_batch().unwrap() {
            all.push((String::from_utf8(batch.bytes.to_vec()).unwrap(), batch.lines));
        }
        all
    }

    fn check(text: &str, bytes_max: usize, expected: &[(&str, u64)]) {
        let expected: Vec<(String, u64)> = expected
            .iter()
            .map(|&(text, lines)| (text.to_owned(), lines))
            .collect();
        assert_eq!(batches(text, bytes_max), expected, "{text:?} by {bytes_max}");
    }

    #[test]
    fn a_small_input_is_one_batch() {
        check("", 100, &[]);
        check("m f=1", 100, &[("m f=1", 1)]);
        check("m f=1\n", 100, &[("m f=1\n", 1)]);
        check("# c\n\nm f=1\nm f=2", 100, &[("# c\n\nm f=1\nm f=2", 2)]);
        check("# only\n\n  \n", 100, &[]);
    }

    #[test]
    fn batches_end_at_line_ends_within_the_limit() {
        let text = "m f=1\nm f=2\nm f=3\n";
        check(text, 12, &[("m f=1\nm f=2\n", 2), ("m f=3\n", 1)]);
        check(text, 13, &[("m f=1\nm f=2\n", 2), ("m f=3\n", 1)]);
        check(text, 17, &[("m f=1\nm f=2\n", 2), ("m f=3\n", 1)]);
        check(text, 18, &[(text, 3)]);
        check(text, 1, &[("m f=1\n", 1), ("m f=2\n", 1), ("m f=3\n", 1)]);
    }

    #[test]
    fn a_line_end_in_a_quoted_value_is_none() {
        let text = "m s=\"a\nb\",t=\"\\\"\n\" 1\nm f=2\n";
        check(text, 1, &[("m s=\"a\nb\",t=\"\\\"\n\" 1\n", 1), ("m f=2\n", 1)]);
        // Quotes that are not around a field value.
        check("m,t=\"x f=1\nn f=2\n", 1, &[("m,t=\"x f=1\n", 1), ("n f=2\n", 1)]);
        check(
            "m,t=a\\ \"b f=1\nn f=2\n",
            1,
            &[("m,t=a\\ \"b f=1\n", 1), ("n f=2\n", 1)],
        );
        check("# it's \"so\nn f=2\n", 1, &[("n f=2\n", 1)]);
    }

    #[test]
    fn everything_arrives_whatever_the_size_of_reads() {
        struct OneByOne<'a>(&'a [u8]);
        impl Read for OneByOne<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = self.0.len().min(1);
                buffer[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        let text: String = (0..200)
            .map(|number| format!("m,host=h{number} s=\"x\ny\",f={number}\n"))
            .collect();
        let mut batches = LineBatches::new(OneByOne(text.as_bytes()), 500);
        let mut all = String::new();
        let mut lines = 0;
        while let Some(batch) = batches.next_batch().unwrap() {
            assert!(batch.bytes.len() <= 500);
            all.push_str(std::str::from_utf8(&batch.bytes).unwrap());
            lines += batch.lines;
        }
        assert_eq!(all, text);
        assert_eq!(lines, 200);
    }
}
