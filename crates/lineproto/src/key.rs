//! Tag and field keys: where they end, what they say, and how they are recognised when they come again.

use std::borrow::Cow;

use crate::reject::Reject;
use crate::source::{KEY_ESCAPES, Source, Span, find_unescaped, unescape};

const HEAD_BYTES: usize = size_of::<u128>();

/// A key that is expected to come again: its spelling with the equals sign, ready to be compared with the
/// body in one step if it is short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key<'a> {
    /// The first bytes of `spelling`, zero beyond it, and the bits that count.
    head: u128,
    mask: u128,
    spelling: &'a [u8],
}

impl<'a> Key<'a> {
    /// The key at `key`, which an equals sign follows.
    pub(crate) fn new(source: Source<'a>, key: Span) -> Self {
        let spelling = &source.bytes[key.start..=key.end];
        let head_len = spelling.len().min(HEAD_BYTES);
        let mut head = [0; HEAD_BYTES];
        let mut mask = [0; HEAD_BYTES];
        head[..head_len].copy_from_slice(&spelling[..head_len]);
        mask[..head_len].fill(0xff);
        Self {
            head: u128::from_le_bytes(head),
            mask: u128::from_le_bytes(mask),
            spelling,
        }
    }

    /// The length of the key and its equals sign.
    #[inline]
    pub(crate) fn len_with_equals(&self) -> usize {
        self.spelling.len()
    }

    /// Whether the body reads as this key and an equals sign at `at`.
    #[inline]
    pub(crate) fn is_at(&self, bytes: &[u8], at: usize) -> bool {
        let Some(rest) = bytes.get(at..) else {
            return false;
        };
        match rest.first_chunk::<HEAD_BYTES>() {
            Some(head) => {
                u128::from_le_bytes(*head) & self.mask == self.head
                    && (self.spelling.len() <= HEAD_BYTES
                        || rest[HEAD_BYTES..].starts_with(&self.spelling[HEAD_BYTES..]))
            }
            None => rest.starts_with(self.spelling),
        }
    }
}

/// The key at the start of `rest`, which is within the tags of a line, up to its equals sign.
pub(crate) fn tag_key(source: Source<'_>, rest: Span) -> Result<Span, Reject> {
    let bytes = &source.bytes[rest.start..rest.end];
    let len = find_unescaped(bytes, |byte| matches!(byte, b'=' | b','));
    let key = Span {
        start: rest.start,
        end: rest.start + len,
    };
    if len == 0 {
        return Err(Reject::NoTagKey { at: key.start });
    }
    reject_trailing_backslash(source, key)?;
    match bytes.get(len) {
        Some(b'=') => Ok(key),
        _ => Err(Reject::TagSetMalformed { at: key.start }),
    }
}

/// The field key at `start`, up to its equals sign; `None` if there is none.
pub(crate) fn field_key(source: Source<'_>, start: usize) -> Result<Option<Span>, Reject> {
    let mut end = start;
    let end = loop {
        match source.byte(end) {
            b'=' | b',' | b' ' => break end,
            b'\n' => break source.before_carriage_return(start, end),
            // A newline cannot be escaped.
            b'\\' if source.byte(end + 1) != b'\n' => end += 2,
            _ => end += 1,
        }
    };
    let key = Span { start, end };
    if key.len() == 0 {
        return Ok(None);
    }
    reject_trailing_backslash(source, key)?;
    Ok((source.byte(end) == b'=').then_some(key))
}

/// The name or tag value that `raw` spells.
pub(crate) fn name_text(source: Source<'_>, raw: Span) -> Result<Cow<'_, str>, Reject> {
    reject_trailing_backslash(source, raw)?;
    let text = unescape(source.slice(raw), KEY_ESCAPES);
    if text.len() > source.string_bytes_max {
        return Err(Reject::StringTooLong);
    }
    Ok(text)
}

fn reject_trailing_backslash(source: Source<'_>, raw: Span) -> Result<(), Reject> {
    match source.bytes[raw.start..raw.end].last() {
        Some(b'\\') => Err(Reject::TrailingBackslash),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_keys_anywhere() {
        let check = |spelling: &str, text: &str, expected: bool| {
            let source = Source::new(spelling, 0);
            let key = Key::new(
                source,
                Span {
                    start: 0,
                    end: spelling.len() - 1,
                },
            );
            for padding in ["", "0123456789abcdefghijklmnopqrstuvwxyz"] {
                let body = format!("##{text}{padding}");
                assert_eq!(key.is_at(body.as_bytes(), 2), expected, "{spelling} in {body}");
            }
        };
        check("a=", "a=1", true);
        check("a=", "b=1", false);
        check("a=", "ab=1", false);
        check("0123456789abcde=", "0123456789abcde=1", true);
        check("0123456789abcdef=", "0123456789abcdef=1", true);
        check("0123456789abcdef=", "0123456789abcdeg=1", false);
        check(
            "0123456789abcdefghijklmnop=",
            "0123456789abcdefghijklmnop=1",
            true,
        );
        check(
            "0123456789abcdefghijklmnop=",
            "0123456789abcdefghijklmnoq=1",
            false,
        );
        check("0123456789abcdefghijklmnop=", "0123456789abcdefg=1", false);
        check("a=", "", false);
    }
}
