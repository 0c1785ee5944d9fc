//! One field value.

use memchr::memchr_iter;

use crate::ColumnType;
use crate::excerpt::string_end;
use crate::number::{Digits, digits, general_float, signed, simple_float, unsigned};
use crate::reject::Reject;
use crate::source::{STRING_ESCAPES, Source, Span, unescape};

/// A field value as it stands in the body.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Value {
    Float(f64),
    Integer(i64),
    UInteger(u64),
    Boolean(bool),
    /// The text between the quotes, whether it has escapes, and how many newlines it holds.
    String {
        inner: Span,
        escaped: bool,
        newlines: u32,
    },
}

impl Value {
    #[inline]
    pub(crate) fn column_type(self) -> ColumnType {
        match self {
            Self::Float(_) => ColumnType::Float,
            Self::Integer(_) => ColumnType::Integer,
            Self::UInteger(_) => ColumnType::UInteger,
            Self::Boolean(_) => ColumnType::Boolean,
            Self::String { .. } => ColumnType::String,
        }
    }
}

/// The value at `at` and the offset behind it; `None` if no value begins there. What follows the longest
/// value is the caller's concern: `1.5x` is the value 1.5 followed by an `x`.
#[inline]
pub(crate) fn field_value(source: &Source<'_>, at: usize) -> Result<Option<(Value, usize)>, Reject> {
    match source.byte(at) {
        b'0'..=b'9' => number(source, at, false),
        b'-' => number(source, at, true),
        b'"' => string(source, at),
        _ => Ok(boolean(source, at)),
    }
}

#[inline]
fn number(source: &Source<'_>, at: usize, negative: bool) -> Result<Option<(Value, usize)>, Reject> {
    let digits_start = at + usize::from(negative);
    let whole = digits(source, digits_start);
    if whole.count == 0 {
        return Ok(None);
    }
    let whole_end = digits_start + whole.count;
    match source.byte(whole_end) {
        b'.' => {
            let fraction = digits(source, whole_end + 1);
            let end = if fraction.count == 0 {
                whole_end
            } else {
                whole_end + 1 + fraction.count
            };
            float(source, Span { start: at, end }, negative, whole, fraction)
        }
        b'i' => {
            let text = &source.bytes[digits_start..whole_end];
            match signed(negative, whole, text) {
                Some(value) => Ok(Some((Value::Integer(value), whole_end + 1))),
                None => Err(Reject::InvalidInteger {
                    digits: Span {
                        start: at,
                        end: whole_end,
                    },
                }),
            }
        }
        b'u' if !negative => {
            let text = &source.bytes[digits_start..whole_end];
            match unsigned(whole, text) {
                Some(value) => Ok(Some((Value::UInteger(value), whole_end + 1))),
                None => Err(Reject::InvalidUInteger {
                    digits: Span {
                        start: at,
                        end: whole_end,
                    },
                }),
            }
        }
        _ => {
            let no_fraction = Digits { value: 0, count: 0 };
            float(
                source,
                Span {
                    start: at,
                    end: whole_end,
                },
                negative,
                whole,
                no_fraction,
            )
        }
    }
}

/// The float whose digits are `text`, and an exponent if one follows.
#[inline]
fn float(
    source: &Source<'_>,
    text: Span,
    negative: bool,
    whole: Digits,
    fraction: Digits,
) -> Result<Option<(Value, usize)>, Reject> {
    let end = match source.byte(text.end) {
        b'e' | b'E' => exponent_end(source, text.end),
        _ => text.end,
    };
    if end == text.end
        && let Some(value) = simple_float(negative, whole, fraction)
    {
        return Ok(Some((Value::Float(value), end)));
    }
    match general_float(&source.bytes[text.start..end]) {
        Some(value) => Ok(Some((Value::Float(value), end))),
        None => Err(Reject::InvalidFloat {
            digits: Span {
                start: text.start,
                end,
            },
        }),
    }
}

/// The offset behind the exponent whose `e` is at `at`, or `at` if no digit follows the `e` and its sign.
fn exponent_end(source: &Source<'_>, at: usize) -> usize {
    let digits_start = match source.byte(at + 1) {
        b'+' | b'-' => at + 2,
        _ => at + 1,
    };
    match digits(source, digits_start).count {
        0 => at,
        count => digits_start + count,
    }
}

fn boolean(source: &Source<'_>, at: usize) -> Option<(Value, usize)> {
    const WORDS: [(&[u8], bool); 10] = [
        (b"true", true),
        (b"True", true),
        (b"TRUE", true),
        (b"false", false),
        (b"False", false),
        (b"FALSE", false),
        (b"t", true),
        (b"T", true),
        (b"f", false),
        (b"F", false),
    ];
    let rest = source.bytes.get(at..)?;
    let (word, value) = WORDS.iter().find(|(word, _)| rest.starts_with(word))?;
    Some((Value::Boolean(*value), at + word.len()))
}

fn string(source: &Source<'_>, at: usize) -> Result<Option<(Value, usize)>, Reject> {
    let Some(quote) = string_end(source, at + 1) else {
        return Ok(None);
    };
    let inner = Span {
        start: at + 1,
        end: quote,
    };
    let bytes = &source.bytes[inner.start..inner.end];
    let escaped = memchr::memchr(b'\\', bytes).is_some();
    if inner.len() > source.string_bytes_max
        && (!escaped || unescape(source.slice(inner), STRING_ESCAPES).len() > source.string_bytes_max)
    {
        return Err(Reject::StringTooLong);
    }
    let newlines = u32::try_from(memchr_iter(b'\n', bytes).count()).unwrap_or(u32::MAX);
    Ok(Some((
        Value::String {
            inner,
            escaped,
            newlines,
        },
        quote + 1,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value at the start of `text` and what follows it.
    fn render(text: &str) -> String {
        let source = Source::new(text, 10);
        match field_value(&source, 0) {
            Ok(Some((value, end))) => format!("{value:?} then {:?}", &text[end..]),
            Ok(None) => "nothing".to_owned(),
            Err(reject) => reject.message(&source, text.len()),
        }
    }

    #[test]
    fn numbers() {
        let check = |text: &str, expected: &str| assert_eq!(render(text), expected, "{text}");
        check("1", r#"Float(1.0) then """#);
        check("-0", r#"Float(-0.0) then """#);
        check("1.5,b=1", r#"Float(1.5) then ",b=1""#);
        check("1e3", r#"Float(1000.0) then """#);
        check("-1.25E-2 7", r#"Float(-0.0125) then " 7""#);
        check("1e+2", r#"Float(100.0) then """#);
        check("1e", r#"Float(1.0) then "e""#);
        check("1e+", r#"Float(1.0) then "e+""#);
        check("1.", r#"Float(1.0) then ".""#);
        check("1.e5", r#"Float(1.0) then ".e5""#);
        check("1.5.2", r#"Float(1.5) then ".2""#);
        check(".5", "nothing");
        check("+1", "nothing");
        check("-", "nothing");
        check("nan", "nothing");
        check("inf", "nothing");
        check("1e999", "Unable to parse floating-point value `1e999`");
        check("0.1", r#"Float(0.1) then """#);
        check("9007199254740993", r#"Float(9007199254740992.0) then """#);
        check(
            "123456789012345678901234567890",
            r#"Float(1.2345678901234568e29) then """#,
        );
        check("0.30000000000000004", r#"Float(0.30000000000000004) then """#);
        check("1i", r#"Integer(1) then """#);
        check(
            "-9223372036854775808i",
            r#"Integer(-9223372036854775808) then """#,
        );
        check(
            "9223372036854775808i",
            "Unable to parse integer value `9223372036854775808`",
        );
        check("1.5i", r#"Float(1.5) then "i""#);
        check(
            "18446744073709551615u",
            r#"UInteger(18446744073709551615) then """#,
        );
        check(
            "18446744073709551616u",
            "Unable to parse unsigned integer value `18446744073709551616`",
        );
        check("-1u", r#"Float(-1.0) then "u""#);
    }

    #[test]
    fn booleans() {
        let check = |text: &str, expected: &str| assert_eq!(render(text), expected, "{text}");
        for word in ["t", "T", "true", "True", "TRUE"] {
            check(word, r#"Boolean(true) then """#);
        }
        for word in ["f", "F", "false", "False", "FALSE"] {
            check(word, r#"Boolean(false) then """#);
        }
        check("tRUE", r#"Boolean(true) then "RUE""#);
        check("yes", "nothing");
    }

    #[test]
    fn strings() {
        let check = |text: &str, start: usize, end: usize, escaped: bool, newlines: u32, rest: &str| {
            let source = Source::new(text, 10);
            let expected = Value::String {
                inner: Span { start, end },
                escaped,
                newlines,
            };
            assert_eq!(
                field_value(&source, 0),
                Ok(Some((expected, text.len() - rest.len()))),
                "{text}"
            );
        };
        check(r#""""#, 1, 1, false, 0, "");
        check(r#""a b,c",d"#, 1, 6, false, 0, ",d");
        check(r#""a\"b""#, 1, 5, true, 0, "");
        check(r#""a\\"b""#, 1, 4, true, 0, r#"b""#);
        check("\"a\n\nb\"", 1, 5, false, 2, "");
        check(r#""\\\\\\\\\\\\""#, 1, 13, true, 0, "");
        assert_eq!(render(r#""open"#), "nothing");
        assert_eq!(render(r#""open\""#), "nothing");
        assert_eq!(render(r#""12345678901""#), "String is greater than 1MB");
    }
}
