//! Where a rejected line ends, and the beginning of a line for an error.

use memchr::{memchr, memchr3};

use crate::source::Source;

/// The longest excerpt of a line, in bytes.
pub const EXCERPT_BYTES_MAX: usize = 256;

/// The beginning of the line that starts at physical line `line_number` (counted from 1) of `body`: at most
/// [`EXCERPT_BYTES_MAX`] bytes, cut at a character, without the line end. Empty if there is no such line.
///
/// For several lines of one body use [`Excerpts`], which does not start from the beginning each time.
pub fn excerpt(body: &str, line_number: usize) -> String {
    Excerpts::new(body).excerpt(line_number)
}

/// Excerpts of many lines of one body. Ascending line numbers take one pass over the body altogether.
#[derive(Clone, Debug)]
pub struct Excerpts<'a> {
    body: &'a str,
    /// The last line found, counted from 1, and where it begins.
    line_number: usize,
    line_start: usize,
}

impl<'a> Excerpts<'a> {
    /// Excerpts of `body`.
    pub fn new(body: &'a str) -> Self {
        Self {
            body,
            line_number: 1,
            line_start: 0,
        }
    }

    /// As [`excerpt`].
    pub fn excerpt(&mut self, line_number: usize) -> String {
        if line_number < self.line_number {
            *self = Self::new(self.body);
        }
        while self.line_number < line_number {
            let Some(offset) = memchr(b'\n', &self.body.as_bytes()[self.line_start..]) else {
                return String::new();
            };
            self.line_start += offset + 1;
            self.line_number += 1;
        }
        if line_number == 0 {
            return String::new();
        }
        let source = Source::new(self.body, 0);
        cut(&self.body[self.line_start..line_end(&source, self.line_start)]).to_owned()
    }
}

/// At most [`EXCERPT_BYTES_MAX`] bytes of `text`, cut at a character.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(EXCERPT_BYTES_MAX)]
}

/// The end of the line that starts at `start`, whether it is well formed or not: the offset of its newline,
/// of the carriage return before it, or of the end of the body.
///
/// A newline belongs to the line if it stands in a quoted field value that is properly closed, which is to
/// say, followed by a comma, a space or a line end. Otherwise a forgotten quote would take the good lines
/// that follow with it; and if no newline belonged to a rejected line, the text of its strings could be taken
/// for lines.
pub(crate) fn line_end(source: &Source<'_>, start: usize) -> usize {
    let first_newline = source.physical_line_end(start);
    let Some(mut at) = source.unescaped_space(source.skip_blanks(start)) else {
        return first_newline;
    };
    // Before this an equals sign is escaped.
    let mut unescaped_from = at;
    while let Some(offset) = memchr3(b'\n', b'\\', b'"', &source.bytes[at..]) {
        at += offset;
        match source.bytes[at] {
            b'\n' => return source.before_carriage_return(start, at),
            // Whatever is escaped, it neither opens a string nor ends the line, unless it is the newline
            // itself.
            b'\\' => {
                at += if source.byte(at + 1) == b'\n' { 1 } else { 2 };
                unescaped_from = at;
            }
            _ if at == unescaped_from || source.bytes[at - 1] != b'=' => at += 1,
            _ => match string_end(source, at + 1) {
                Some(quote) if is_closed(source, quote) => at = quote + 1,
                _ => return source.physical_line_end(at),
            },
        }
        at = at.min(source.len());
    }
    source.before_carriage_return(start, source.len())
}

/// The offset of the quote that ends the string whose text starts at `start`.
pub(crate) fn string_end(source: &Source<'_>, start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        at += memchr::memchr2(b'"', b'\\', source.bytes.get(at..)?)?;
        if source.bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

fn is_closed(source: &Source<'_>, quote: usize) -> bool {
    matches!(source.byte(quote + 1), b',' | b' ') || source.is_line_end(quote + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, line_number: usize, expected: &str) {
        assert_eq!(excerpt(body, line_number), expected);
    }

    #[test]
    fn lines() {
        check("a\nb v=1\r\nc", 1, "a");
        check("a\nb v=1\r\nc", 2, "b v=1");
        check("a\nb v=1\r\nc", 3, "c");
        check("a\nb v=1\r\nc", 4, "");
        check("a", 0, "");
        check("", 1, "");
        check("  a v=1\nb", 1, "  a v=1");
        check("a v=1\r", 1, "a v=1");
    }

    #[test]
    fn strings_with_newlines() {
        check("a v=\"x\ny\" 1\nb", 1, "a v=\"x\ny\" 1");
        check("a v=\"x\ny\"z\nb", 1, "a v=\"x");
        check("a v=\"x\nb v=1", 1, "a v=\"x");
        check("a v=\"x\nb v=\"y\"\nc v=1", 1, "a v=\"x");
        check("a v=\"x\\\"\ny\",w=+\nb", 1, "a v=\"x\\\"\ny\",w=+");
        check("a,t=\"x\ny\" v=1", 1, "a,t=\"x");
        check("a v\\=\"x\ny\" v=1", 1, "a v\\=\"x");
        check("a v=x\\\nb", 1, "a v=x\\");
        check("a v=\"x\n\"\r\nb", 1, "a v=\"x\n\"");
    }

    #[test]
    fn long_lines_are_cut_at_a_character() {
        let body = "ü".repeat(200);
        assert_eq!(excerpt(&body, 1), "ü".repeat(128));
        let odd = format!("x{body}");
        assert_eq!(excerpt(&odd, 1).len(), 255);
    }

    #[test]
    fn in_any_order() {
        let mut excerpts = Excerpts::new("a\nb\nc");
        assert_eq!(excerpts.excerpt(3), "c");
        assert_eq!(excerpts.excerpt(1), "a");
        assert_eq!(excerpts.excerpt(2), "b");
        assert_eq!(excerpts.excerpt(9), "");
        assert_eq!(excerpts.excerpt(3), "c");
    }
}
