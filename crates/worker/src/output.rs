//! Standard output and error of a child process, line by line, in bounded memory.

use std::{collections::VecDeque, time::Instant};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::pace::Pace;

/// Bytes of a line that are kept; the rest is dropped, and the line says so.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

const READ_BYTES: usize = 64 * 1024;
/// Lines in a tenth of a second above which the reader rests.
const LINES_MAX: u32 = 20_000;

/// Which stream a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Reads until the end and gives every line, the last one also without a line end. An error counts as the end: it
/// means that the process is gone.
pub(crate) async fn read_lines(mut source: impl AsyncRead + Unpin, mut emit: impl FnMut(&str)) {
    let mut lines = LineCutter::default();
    let mut chunk = vec![0; READ_BYTES];
    let mut pace = Pace::new(LINES_MAX, Instant::now());
    while let Ok(bytes @ 1..) = source.read(&mut chunk).await {
        let mut emitted = 0;
        lines.feed(&chunk[..bytes], &mut |line: &str| {
            emitted += 1;
            emit(line);
        });
        if let Some(rest) = pace.count(emitted, Instant::now) {
            tokio::time::sleep(rest).await;
        }
    }
    lines.finish(&mut emit);
}

/// Cuts bytes into lines. A line that comes in one piece is not copied.
#[derive(Debug, Default)]
struct LineCutter {
    /// Beginning of a line whose end has not come, at most [`LINE_BYTES_MAX`] bytes.
    pending: Vec<u8>,
    /// Bytes of that line that were dropped.
    dropped: usize,
}

impl LineCutter {
    fn feed(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(&str)) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let line = &bytes[..end];
            bytes = &bytes[end + 1..];
            if self.pending.is_empty() && line.len() <= LINE_BYTES_MAX {
                emit_text(line, emit);
            } else {
                self.hold(line);
                self.finish(emit);
            }
        }
        self.hold(bytes);
    }

    fn hold(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(LINE_BYTES_MAX - self.pending.len());
        self.pending.extend_from_slice(&bytes[..kept]);
        self.dropped += bytes.len() - kept;
    }

    fn finish(&mut self, emit: &mut impl FnMut(&str)) {
        if self.pending.is_empty() {
            return;
        }
        if self.dropped == 0 {
            emit_text(&self.pending, emit);
        } else {
            let text = cut_text(&self.pending);
            emit(&format!("{text}… [{} more bytes cut off]", self.dropped));
        }
        self.pending.clear();
        self.dropped = 0;
    }
}

fn emit_text(line: &[u8], emit: &mut impl FnMut(&str)) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    emit(&String::from_utf8_lossy(line));
}

/// The text of a line cut at a fixed length, without the part of a character that the cut left.
fn cut_text(line: &[u8]) -> String {
    match std::str::from_utf8(line) {
        Err(error) if error.error_len().is_none() => {
            String::from_utf8_lossy(&line[..error.valid_up_to()]).into_owned()
        }
        _ => String::from_utf8_lossy(line).into_owned(),
    }
}

/// The last lines of an output, within a number of bytes.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    const BYTES_MAX: usize = 32 * 1024;

    pub(crate) fn push(&mut self, line: &str) {
        let mut end = line.len().min(Self::BYTES_MAX);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        self.bytes += end;
        self.lines.push_back(line[..end].to_owned());
        while self.bytes > Self::BYTES_MAX {
            let first = self.lines.pop_front().expect("a tail with bytes has a line");
            self.bytes -= first.len();
        }
    }

    pub(crate) fn text(&self) -> String {
        self.lines
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(parts: &[&[u8]]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut cutter = LineCutter::default();
        let mut emit = |line: &str| lines.push(line.to_owned());
        for part in parts {
            cutter.feed(part, &mut emit);
        }
        cutter.finish(&mut emit);
        lines
    }

    #[test]
    fn lines_are_the_same_wherever_the_stream_is_cut() {
        let text = "ebb\n\nflow\r\nhöhe\nlast".as_bytes();
        let whole = lines_of(&[text]);
        assert_eq!(whole, ["ebb", "", "flow", "höhe", "last"]);
        for cut in 0..text.len() {
            let (first, second) = text.split_at(cut);
            assert_eq!(lines_of(&[first, second]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_long_line_is_cut_at_a_character_and_marked() {
        let mut line = vec![b'a'; LINE_BYTES_MAX - 1];
        line.extend_from_slice("é and more\nnext\n".as_bytes());
        let lines = lines_of(&[&line[..100], &line[100..]]);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("aaaa"));
        assert!(
            lines[0].ends_with("a… [10 more bytes cut off]"),
            "{}",
            &lines[0][LINE_BYTES_MAX - 2..]
        );
        assert_eq!(lines[1], "next");
    }

    #[test]
    fn a_tail_keeps_the_last_lines() {
        let mut tail = Tail::default();
        for number in 0..10_000 {
            tail.push(&format!("line {number}"));
        }
        assert!(tail.text().len() <= Tail::BYTES_MAX + 10_000);
        assert!(tail.text().ends_with("line 9999"));
        tail.push(&"x".repeat(1 << 20));
        assert_eq!(tail.text().len(), Tail::BYTES_MAX);
    }
}
