//! The body as the parser reads it: bytes, line ends, escapes.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

/// A stretch of the body, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    #[inline]
    pub(crate) fn len(self) -> usize {
        self.end - self.start
    }
}

/// What a backslash escapes in a measurement. Before anything else it is an ordinary character.
pub(crate) const MEASUREMENT_ESCAPES: &[u8] = b", ";
/// What a backslash escapes in tag keys, tag values and field keys.
pub(crate) const KEY_ESCAPES: &[u8] = b",= ";
/// What a backslash escapes in a quoted string.
pub(crate) const STRING_ESCAPES: &[u8] = b"\"\\";

/// The body. All structure is ASCII, so that every offset that the parser cuts at is a character boundary.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) text: &'a str,
    pub(crate) bytes: &'a [u8],
    pub(crate) string_bytes_max: usize,
}

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str, string_bytes_max: usize) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            string_bytes_max,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The byte at `at`; the end of the body reads as a newline, since it ends a line just so.
    #[inline]
    pub(crate) fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(b'\n')
    }

    /// The text of `span`, which the parser cut at ASCII characters.
    #[inline]
    pub(crate) fn slice(&self, span: Span) -> &'a str {
        &self.text[span.start..span.end]
    }

    /// Whether the line ends at `at`: at a newline, a carriage return before one, or the end of the body.
    #[inline]
    pub(crate) fn is_line_end(&self, at: usize) -> bool {
        match self.byte(at) {
            b'\n' => true,
            b'\r' => self.byte(at + 1) == b'\n',
            _ => false,
        }
    }

    /// The first offset from `at` that holds no space.
    #[inline]
    pub(crate) fn skip_spaces(&self, mut at: usize) -> usize {
        while self.byte(at) == b' ' {
            at += 1;
        }
        at
    }

    /// The first offset from `at` that holds neither a space nor a tab, which may stand before a line.
    pub(crate) fn skip_blanks(&self, mut at: usize) -> usize {
        while matches!(self.byte(at), b' ' | b'\t') {
            at += 1;
        }
        at
    }

    /// The end of the physical line that `at` is in: the offset of its newline or of the carriage return
    /// before that.
    pub(crate) fn physical_line_end(&self, at: usize) -> usize {
        let newline = memchr(b'\n', &self.bytes[at..]).map_or(self.len(), |offset| at + offset);
        self.before_carriage_return(at, newline)
    }

    /// The end of a line whose newline is at `newline` (or the end of the body), without its carriage return.
    /// The line reaches back to `start` at least.
    pub(crate) fn before_carriage_return(&self, start: usize, newline: usize) -> usize {
        if newline > start && self.bytes[newline - 1] == b'\r' {
            newline - 1
        } else {
            newline
        }
    }

    /// The first unescaped space from `start`, or `None` if the physical line ends before one.
    pub(crate) fn unescaped_space(&self, start: usize) -> Option<usize> {
        let mut from = start;
        loop {
            let at = from + memchr2(b' ', b'\n', &self.bytes[from..])?;
            if self.bytes[at] == b'\n' {
                return None;
            }
            if !self.is_escaped(start, at) {
                return Some(at);
            }
            from = at + 1;
        }
    }

    /// Whether an odd number of backslashes stands before `at`, looking no further back than `start`:
    /// backslashes pair up from the left, and the last one of an odd run escapes what follows.
    #[inline]
    fn is_escaped(&self, start: usize, at: usize) -> bool {
        let before = &self.bytes[start..at];
        if before.last() != Some(&b'\\') {
            return false;
        }
        let backslashes = before.iter().rev().take_while(|&&byte| byte == b'\\').count();
        backslashes % 2 == 1
    }
}

/// The first unescaped byte of `bytes` that `is_end` accepts, or the length.
#[inline]
pub(crate) fn find_unescaped(bytes: &[u8], is_end: impl Fn(u8) -> bool) -> usize {
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if is_end(byte) {
            return at;
        }
        at += if byte == b'\\' { 2 } else { 1 };
    }
    bytes.len()
}

/// `raw` without the backslashes that escape one of `escapable`.
#[inline]
pub(crate) fn unescape<'a>(raw: &'a str, escapable: &[u8]) -> Cow<'a, str> {
    if memchr(b'\\', raw.as_bytes()).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len());
    unescape_into(&mut text, raw, escapable);
    Cow::Owned(text)
}

/// Appends `raw` to `text` without the backslashes that escape one of `escapable`.
pub(crate) fn unescape_into(text: &mut String, raw: &str, escapable: &[u8]) {
    let mut rest = raw;
    while let Some(backslash) = memchr(b'\\', rest.as_bytes()) {
        let (kept_to, skipped_to) = match rest.as_bytes().get(backslash + 1) {
            Some(escaped) if escapable.contains(escaped) => (backslash, backslash + 1),
            // Two backslashes are a pair: the second one escapes nothing.
            Some(b'\\') => (backslash + 2, backslash + 2),
            _ => (backslash + 1, backslash + 1),
        };
        text.push_str(&rest[..kept_to]);
        if kept_to < skipped_to {
            text.push_str(&rest[skipped_to..=skipped_to]);
            rest = &rest[skipped_to + 1..];
        } else {
            rest = &rest[skipped_to..];
        }
    }
    text.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        let check =
            |raw: &str, escapable: &[u8], expected: &str| assert_eq!(unescape(raw, escapable), expected);
        check("plain", KEY_ESCAPES, "plain");
        check(r"a\,b\ c\=d", KEY_ESCAPES, "a,b c=d");
        check(r"a\,b\ c\=d", MEASUREMENT_ESCAPES, r"a,b c\=d");
        check(r"C:\\dir\x", KEY_ESCAPES, r"C:\\dir\x");
        check(r"\\\,", KEY_ESCAPES, r"\\,");
        check(r#"say \"hi\" \\ \n"#, STRING_ESCAPES, r#"say "hi" \ \n"#);
        check(r"ü\ö\,ä", KEY_ESCAPES, r"ü\ö,ä");
        check(r"end\", KEY_ESCAPES, r"end\");
        check("", KEY_ESCAPES, "");
    }

    #[test]
    fn spaces_behind_backslashes() {
        let check = |text: &str, expected: Option<usize>| {
            assert_eq!(Source::new(text, 0).unescaped_space(0), expected, "{text}");
        };
        check("cpu v", Some(3));
        check(r"c\ pu v", Some(5));
        check(r"c\\ pu v", Some(3));
        check("cpu\n v", None);
        check("cpu", None);
        check(r"\ ", None);
    }
}
