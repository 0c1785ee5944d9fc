//! The plugins' line builder (`spec/engine.md` 4): one line of line protocol, piece by piece.

use std::fmt::Write;

use foldhash::fast::RandomState;
use indexmap::IndexMap;
use thiserror::Error;

use crate::python_float::float_field_text;

/// Names or values in the order in which they were first set.
type OrderedTexts = IndexMap<String, String, RandomState>;

/// Why a line cannot be built. The texts are what plugin authors see.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum LineBuilderError {
    /// The measurement is not allowed; choose another. `InvalidMeasurementError` in Python.
    #[error("{0}")]
    InvalidMeasurement(String),
    /// A tag or field key is not allowed; choose another. `InvalidKeyError` in Python.
    #[error("{0}")]
    InvalidKey(String),
    /// The line is not complete; add a field. `InvalidLineError` in Python.
    #[error("{0}")]
    InvalidLine(String),
    /// The value does not fit the type of the field. `ValueError` in Python.
    #[error("{0}")]
    Value(String),
}

/// One line of line protocol under construction.
///
/// Tags and fields keep the order in which they were first set; setting one again replaces its value in
/// place. What is escaped is escaped as the reference does: commas, equals signs, spaces and backslashes in
/// tag values; backslashes and quotes in strings; commas in the measurement. Line breaks are never escaped.
///
/// A tag value that ends with a backslash, or is empty, makes a line that the parser rejects. Other
/// backslashes in tag values read back doubled: in line protocol a backslash before a backslash is an
/// ordinary character.
#[derive(Clone, Debug)]
pub struct LineBuilder {
    measurement: String,
    tags: OrderedTexts,
    fields: OrderedTexts,
    timestamp: Option<String>,
}

impl LineBuilder {
    /// A line of `measurement`, which may not contain spaces.
    pub fn new(measurement: impl Into<String>) -> Result<Self, LineBuilderError> {
        let measurement = measurement.into();
        if measurement.contains(' ') {
            return Err(LineBuilderError::InvalidMeasurement(
                "Measurement name cannot contain spaces".to_owned(),
            ));
        }
        Ok(Self {
            measurement,
            tags: OrderedTexts::default(),
            fields: OrderedTexts::default(),
            timestamp: None,
        })
    }

    /// Sets a tag.
    pub fn tag(&mut self, key: &str, value: impl Into<String>) -> Result<&mut Self, LineBuilderError> {
        check_key("tag", key)?;
        self.tags.insert(key.to_owned(), value.into());
        Ok(self)
    }

    /// Sets a signed integer field.
    pub fn int64_field(&mut self, key: &str, value: i64) -> Result<&mut Self, LineBuilderError> {
        self.field(key, || Ok(format!("{value}i")))
    }

    /// Sets a signed integer field to a number that is text already, which is not checked.
    pub fn int64_field_text(&mut self, key: &str, value: &str) -> Result<&mut Self, LineBuilderError> {
        self.field(key, || Ok(format!("{value}i")))
    }

    /// Sets an unsigned integer field.
    pub fn uint64_field(&mut self, key: &str, value: u64) -> Result<&mut Self, LineBuilderError> {
        self.field(key, || Ok(format!("{value}u")))
    }

    /// Sets an unsigned integer field to a number that is text already, of which only the sign is checked.
    pub fn uint64_field_text(&mut self, key: &str, value: &str) -> Result<&mut Self, LineBuilderError> {
        self.field(key, || {
            if is_negative(value) {
                return Err(LineBuilderError::Value(format!(
                    "uint64 field '{key}' cannot be negative"
                )));
            }
            Ok(format!("{value}u"))
        })
    }

    /// Sets a float field. Whole numbers are written with all their digits and `.0`, others as Python's `str`
    /// writes them.
    pub fn float64_field(&mut self, key: &str, value: f64) -> Result<&mut Self, LineBuilderError> {
        self.field(key, || Ok(float_field_text(value)))
    }

    /// Sets a float field to a number that is text already, which is not checked.
    pub fn float64_field_text(&mut self, key: &str, value: &str) -> Result<&mut Self, LineBuilderError> {
        self.field(key, || Ok(value.to_owned()))
    }

    /// Sets a string field.
    pub fn string_field(&mut self, key: &str, value: &str) -> Result<&mut Self, LineBuilderError> {
        self.field(key, || {
            let mut text = String::with_capacity(value.len() + 2);
            text.push('"');
            escape_into(&mut text, value, &['\\', '"']);
            text.push('"');
            Ok(text)
        })
    }

    /// Sets a boolean field.
    pub fn bool_field(&mut self, key: &str, value: bool) -> Result<&mut Self, LineBuilderError> {
        self.field(key, || Ok(if value { "t" } else { "f" }.to_owned()))
    }

    /// Sets the time in nanoseconds since 1970 UTC, or unsets it.
    pub fn time_ns(&mut self, time_ns: Option<i64>) -> &mut Self {
        self.timestamp = time_ns.map(|time_ns| time_ns.to_string());
        self
    }

    /// Sets the time to a text, which is not checked, or unsets it.
    pub fn time_ns_text(&mut self, time_ns: Option<String>) -> &mut Self {
        self.timestamp = time_ns;
        self
    }

    /// The line, without a line end.
    pub fn build(&self) -> Result<String, LineBuilderError> {
        let mut line = String::new();
        escape_into(&mut line, &self.measurement, &[',', ' ']);
        for (key, value) in &self.tags {
            line.push(',');
            line.push_str(key);
            line.push('=');
            escape_into(&mut line, value, &['\\', ',', '=', ' ']);
        }
        if self.fields.is_empty() {
            return Err(LineBuilderError::InvalidLine(format!(
                "At least one field is required: {line}"
            )));
        }
        for (index, (key, value)) in self.fields.iter().enumerate() {
            line.push(if index == 0 { ' ' } else { ',' });
            escape_into(&mut line, key, &['\\', ',', '=', ' ']);
            line.push('=');
            line.push_str(value);
        }
        if let Some(timestamp) = &self.timestamp {
            write!(line, " {timestamp}").expect("a string takes all text");
        }
        Ok(line)
    }

    /// The measurement, unescaped.
    pub fn measurement(&self) -> &str {
        &self.measurement
    }

    /// The tags in their order, unescaped.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.tags
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The fields in their order: unescaped keys, and values as line protocol.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.fields
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The time as it will be written, if it is set.
    pub fn timestamp(&self) -> Option<&str> {
        self.timestamp.as_deref()
    }

    /// Checks the key, then renders and sets the value.
    fn field(
        &mut self,
        key: &str,
        value: impl FnOnce() -> Result<String, LineBuilderError>,
    ) -> Result<&mut Self, LineBuilderError> {
        check_key("field", key)?;
        self.fields.insert(key.to_owned(), value()?);
        Ok(self)
    }
}

fn check_key(kind: &str, key: &str) -> Result<(), LineBuilderError> {
    let invalid = |text: String| Err(LineBuilderError::InvalidKey(text));
    if key.is_empty() {
        return invalid(format!("{kind} key cannot be empty"));
    }
    for (character, plural) in [(' ', "spaces"), (',', "commas"), ('=', "equals signs")] {
        if key.contains(character) {
            return invalid(format!("{kind} key '{key}' cannot contain {plural}"));
        }
    }
    Ok(())
}

fn escape_into(text: &mut String, value: &str, escaped: &[char]) {
    for piece in value.split_inclusive(escaped) {
        let plain = piece.trim_end_matches(escaped);
        text.push_str(plain);
        for character in piece[plain.len()..].chars() {
            text.push('\\');
            text.push(character);
        }
    }
}

/// Whether a number's text is below zero, which minus zero is not.
fn is_negative(number: &str) -> bool {
    number
        .strip_prefix('-')
        .is_some_and(|magnitude| magnitude.contains(|digit| !matches!(digit, '0' | '.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Building<'a> = Result<&'a mut LineBuilder, LineBuilderError>;

    #[track_caller]
    fn check(measurement: &str, fill: impl FnOnce(&mut LineBuilder) -> Building<'_>, expected: &str) {
        let mut builder = LineBuilder::new(measurement).unwrap();
        let line = fill(&mut builder).and_then(|builder| builder.build());
        let rendered = match line {
            Ok(line) => line,
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(rendered, expected);
    }

    #[test]
    fn all_types() {
        check(
            "metrics",
            |line| {
                line.tag("host", "server01")?.tag("region", "us-west")?;
                line.int64_field("cpu", 42)?
                    .uint64_field("memory_bytes", 8_589_934_592)?;
                line.float64_field("load", 86.5)?
                    .string_field("status", "online")?;
                Ok(line
                    .bool_field("healthy", true)?
                    .time_ns(Some(1_609_459_200_000_000_000)))
            },
            "metrics,host=server01,region=us-west \
             cpu=42i,memory_bytes=8589934592u,load=86.5,status=\"online\",healthy=t 1609459200000000000",
        );
    }

    #[test]
    fn escapes() {
        let tag = |value: &'static str, expected: &str| {
            check("m", |line| line.tag("t", value)?.bool_field("f", false), expected);
        };
        tag(r"C:\Program Files\App", r"m,t=C:\\Program\ Files\\App f=f");
        tag("y=mx+b", r"m,t=y\=mx+b f=f");
        tag("web,app,db", r"m,t=web\,app\,db f=f");
        tag("", "m,t= f=f");
        tag("a\nb", "m,t=a\nb f=f");
        tag(", =\\", r"m,t=\,\ \=\\ f=f");
        let string = |value: &'static str, expected: &str| {
            check("m", |line| line.string_field("f", value), expected);
        };
        string(r#"User said "Hello World""#, r#"m f="User said \"Hello World\"""#);
        string(r"Windows\Unix paths", r#"m f="Windows\\Unix paths""#);
        string("two\nlines", "m f=\"two\nlines\"");
        check(
            "complex,measurement",
            |line| line.int64_field("f", 1),
            r"complex\,measurement f=1i",
        );
        check(
            "m",
            |line| line.tag(r"a\b", "v")?.int64_field(r"a\b", 1),
            r"m,a\b=v a\\b=1i",
        );
    }

    #[test]
    fn order_and_replacement() {
        check(
            "m",
            |line| {
                line.tag("b", "1")?.tag("a", "2")?.tag("b", "3")?;
                line.int64_field("y", 1)?
                    .int64_field("x", 2)?
                    .bool_field("y", true)
            },
            "m,b=3,a=2 y=t,x=2i",
        );
        check(
            "m",
            |line| Ok(line.int64_field("f", 1)?.time_ns(Some(-7))),
            "m f=1i -7",
        );
        check(
            "m",
            |line| Ok(line.int64_field("f", 1)?.time_ns(Some(7)).time_ns(None)),
            "m f=1i",
        );
    }

    #[test]
    fn texts_are_taken_as_they_are() {
        check("m", |line| line.int64_field_text("f", "3.7"), "m f=3.7i");
        check("m", |line| line.int64_field_text("f", "True"), "m f=Truei");
        check("m", |line| line.uint64_field_text("f", "5"), "m f=5u");
        check("m", |line| line.uint64_field_text("f", "-0.0"), "m f=-0.0u");
        check("m", |line| line.float64_field_text("f", "12.0"), "m f=12.0");
        check(
            "m",
            |line| line.float64_field("f", 1e-7)?.float64_field("g", 3.0),
            "m f=1e-07,g=3.0",
        );
        check(
            "m",
            |line| Ok(line.bool_field("f", true)?.time_ns_text(Some("x".into()))),
            "m f=t x",
        );
    }

    #[test]
    fn errors() {
        let invalid_key = |key: &'static str, expected: &str| {
            check(
                "m",
                |line| line.tag(key, "v"),
                &format!("InvalidKey(\"tag {expected}\")"),
            );
            check(
                "m",
                |line| line.int64_field(key, 1),
                &format!("InvalidKey(\"field {expected}\")"),
            );
        };
        invalid_key("", "key cannot be empty");
        invalid_key("a b", "key 'a b' cannot contain spaces");
        invalid_key("a,b", "key 'a,b' cannot contain commas");
        invalid_key("a=b", "key 'a=b' cannot contain equals signs");
        invalid_key("=, ", "key '=, ' cannot contain spaces");
        check(
            "m",
            |line| line.uint64_field_text("f", "-1"),
            r#"Value("uint64 field 'f' cannot be negative")"#,
        );
        check(
            "m",
            |line| line.uint64_field_text("", "-1"),
            r#"InvalidKey("field key cannot be empty")"#,
        );
        check(
            "some_table",
            |line| Ok(line.time_ns(None)),
            r#"InvalidLine("At least one field is required: some_table")"#,
        );
        check(
            "m",
            |line| line.tag("t", "a b"),
            r#"InvalidLine("At least one field is required: m,t=a\\ b")"#,
        );
        let error = LineBuilder::new("a b").unwrap_err();
        assert_eq!(
            error,
            LineBuilderError::InvalidMeasurement("Measurement name cannot contain spaces".to_owned())
        );
        assert_eq!(error.to_string(), "Measurement name cannot contain spaces");
    }

    #[test]
    fn parts_can_be_read() {
        let mut line = LineBuilder::new("m").unwrap();
        line.tag("t", "a b")
            .unwrap()
            .string_field("f", "x")
            .unwrap()
            .time_ns(Some(5));
        assert_eq!(line.measurement(), "m");
        assert_eq!(line.tags().collect::<Vec<_>>(), [("t", "a b")]);
        assert_eq!(line.fields().collect::<Vec<_>>(), [("f", "\"x\"")]);
        assert_eq!(line.timestamp(), Some("5"));
    }
}
