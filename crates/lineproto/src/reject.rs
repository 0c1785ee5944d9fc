//! Why a line is rejected. A [`Reject`] only notes where; the text is made once the end of the line is known.

use crate::excerpt::cut;
use crate::source::{KEY_ESCAPES, Source, Span, unescape};
use crate::{ColumnType, Precision};

/// The reason a line is not accepted. Offsets are into the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reject {
    InvalidMeasurement,
    NoFields,
    NoSpace,
    TrailingBackslash,
    StringTooLong,
    MemoryExhausted,
    TagSetMalformed {
        at: usize,
    },
    NoTagKey {
        at: usize,
    },
    NoTagValue {
        at: usize,
    },
    TrailingContent {
        at: usize,
    },
    InvalidInteger {
        digits: Span,
    },
    InvalidUInteger {
        digits: Span,
    },
    InvalidFloat {
        digits: Span,
    },
    InvalidTimestamp {
        digits: Span,
    },
    TimestampOutOfRange {
        timestamp: i64,
        precision: Precision,
    },
    DuplicateTag {
        key: Span,
    },
    DuplicateField {
        key: Span,
    },
    ReservedName {
        key: Span,
    },
    TypeConflict {
        key: Span,
        expected: ColumnType,
        got: ColumnType,
    },
}

impl Reject {
    /// The text for the client. The line that was rejected ends at `line_end`.
    #[cold]
    pub(crate) fn message(self, source: &Source<'_>, line_end: usize) -> String {
        let rest = |at: usize| {
            // A line that is cut short for a forgotten quote may end before what is wrong with it.
            let end = if at < line_end {
                line_end
            } else {
                source.physical_line_end(at)
            };
            match &source.text[at..end] {
                "" => "end of input".to_owned(),
                rest => format!("`{}`", cut(rest)),
            }
        };
        let number = |digits: Span| cut(source.slice(digits));
        let name = |key: Span| {
            let name = unescape(source.slice(key), KEY_ESCAPES);
            cut(&name).to_owned()
        };
        match self {
            Self::InvalidMeasurement => "Invalid measurement was provided".to_owned(),
            Self::NoFields => "No fields were provided".to_owned(),
            Self::NoSpace => "Expected at least one space character, got end of input".to_owned(),
            Self::TrailingBackslash => {
                "Measurements, tag keys and values, and field keys may not end with a backslash".to_owned()
            }
            Self::StringTooLong => "String is greater than 1MB".to_owned(),
            Self::MemoryExhausted => {
                "the lines of this write need too much memory as columns: send them in smaller parts"
                    .to_owned()
            }
            Self::TagSetMalformed { at } => {
                format!("Tag set malformed: could not find equals sign in {}", rest(at))
            }
            Self::NoTagKey { at } => format!("Expected tag key, got {}", rest(at)),
            Self::NoTagValue { at } => format!("Expected tag value, got {}", rest(at)),
            Self::TrailingContent { at } => {
                format!(
                    "Could not parse entire line. Found trailing content: {}",
                    rest(at)
                )
            }
            Self::InvalidInteger { digits } => format!("Unable to parse integer value `{}`", number(digits)),
            Self::InvalidUInteger { digits } => {
                format!("Unable to parse unsigned integer value `{}`", number(digits))
            }
            Self::InvalidFloat { digits } => {
                format!("Unable to parse floating-point value `{}`", number(digits))
            }
            Self::InvalidTimestamp { digits } => {
                format!("Unable to parse timestamp value `{}`", number(digits))
            }
            Self::TimestampOutOfRange { timestamp, precision } => {
                format!("timestamp, {timestamp}, out of range for precision: {precision:?}")
            }
            Self::DuplicateTag { key } => {
                format!(
                    "invalid line protocol - multiple instances of '{}' tag found",
                    name(key)
                )
            }
            Self::DuplicateField { key } => {
                format!(
                    "invalid line protocol - multiple instances of '{}' field found",
                    name(key)
                )
            }
            Self::ReservedName { key } => {
                format!(
                    "invalid line protocol - the column name '{}' is reserved",
                    name(key)
                )
            }
            Self::TypeConflict { key, expected, got } => format!(
                "invalid column type for column '{}', expected {}, got {}",
                name(key),
                expected.iox_name(),
                got.iox_name()
            ),
        }
    }
}
