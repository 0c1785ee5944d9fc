//! A second parser, as plain as it gets and as slow: one character after the other, one row object a line.
//! What the real one does is compared with it.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_lineproto::{LineError, ParseOptions, Precision};

use crate::rows::{FieldText, Row};

/// What a body says.
#[derive(PartialEq, Debug, Default)]
pub(crate) struct Reference {
    pub(crate) rows: Vec<Row>,
    pub(crate) errors: Vec<LineError>,
}

/// Parses `body` line by line.
pub(crate) fn parse(body: &str, options: &ParseOptions) -> Reference {
    let mut reference = Reference::default();
    let mut at = 0;
    while at < body.len() {
        let line_number = body[..at].matches('\n').count() + 1;
        let text = &body[at..];
        let first = physical_line(text).trim_start_matches([' ', '\t']);
        let len = if first.is_empty() || first.starts_with('#') {
            physical_line(text).len()
        } else {
            let indentation = text.len() - text.trim_start_matches([' ', '\t']).len();
            let mut line = Line {
                text,
                at: indentation,
                options,
            };
            match line.row(line_number) {
                Ok(row) => {
                    reference.rows.push(row);
                    line.at
                }
                Err(error) => {
                    let len = rejected_line(text).len();
                    reference.errors.push(LineError {
                        line_number,
                        message: error.message(text, len),
                        original_line: limit(&text[..len]).to_owned(),
                    });
                    len
                }
            }
        };
        at += len;
        at += if body[at..].starts_with('\r') { 2 } else { 1 };
    }
    reference
}

fn limit(text: &str) -> &str {
    let mut len = text.len().min(256);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    &text[..len]
}

/// The first line of `text` without its line end.
fn physical_line(text: &str) -> &str {
    let line = text.split('\n').next().unwrap_or_default();
    line.strip_suffix('\r').unwrap_or(line)
}

/// The rejected line at the start of `text`: it goes on over a newline only in a properly closed string.
fn rejected_line(text: &str) -> &str {
    let indentation = text.len() - text.trim_start_matches([' ', '\t']).len();
    let Some(mut at) = unescaped(&physical_line(text)[indentation..], " ").map(|at| indentation + at) else {
        return physical_line(text);
    };
    let mut behind_equals = false;
    while at < text.len() {
        let rest = &text[at..];
        if is_line_end(rest) {
            return &text[..at];
        }
        let character = rest.chars().next().expect("the end of the text is a line end");
        if character == '"' && behind_equals {
            let closed = unescaped(&rest[1..], "\"").map(|quote| at + 1 + quote + 1);
            match closed {
                Some(end) if is_line_end(&text[end..]) || text[end..].starts_with([',', ' ']) => at = end,
                _ => return &text[..at + physical_line(rest).len()],
            }
            behind_equals = false;
            continue;
        }
        behind_equals = character == '=';
        at += character.len_utf8();
        if character == '\\' && !is_line_end(&text[at..]) {
            at += text[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    text.strip_suffix('\r').unwrap_or(text)
}

fn is_line_end(text: &str) -> bool {
    text.is_empty() || text == "\r" || text.starts_with('\n') || text.starts_with("\r\n")
}

/// Where the first of `stops` that no backslash escapes is in `text`.
fn unescaped(text: &str, stops: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, character) in text.char_indices() {
        if is_escaped {
            is_escaped = false;
        } else if character == '\\' {
            is_escaped = true;
        } else if stops.contains(character) {
            return Some(at);
        }
    }
    None
}

fn unescape(raw: &str, escapable: &str) -> String {
    let mut text = String::new();
    let mut characters = raw.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some(&next)) if escapable.contains(next) => text.extend(characters.next()),
            ('\\', Some('\\')) => {
                text.push('\\');
                text.extend(characters.next());
            }
            _ => text.push(character),
        }
    }
    text
}

enum Error {
    Text(String),
    /// The text, and from where in the line it quotes the rest.
    Rest(&'static str, usize),
}

impl Error {
    /// The message for a line that is the first `len` bytes of `text`.
    fn message(self, text: &str, len: usize) -> String {
        let (message, at) = match self {
            Error::Text(message) => return message,
            Error::Rest(message, at) => (message, at),
        };
        match if at < len {
            &text[at..len]
        } else {
            physical_line(&text[at..])
        } {
            "" => format!("{message}end of input"),
            rest => format!("{message}`{}`", limit(rest)),
        }
    }
}

fn error<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::Text(text.into()))
}

const BACKSLASH: &str = "Measurements, tag keys and values, and field keys may not end with a backslash";

struct Line<'a> {
    text: &'a str,
    at: usize,
    options: &'a ParseOptions,
}

impl Line<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches(' ').len();
    }

    /// The text up to the first of `stops`, or to the end of the physical line.
    fn raw(&self, stops: &str) -> &str {
        let line = physical_line(self.rest());
        &line[..unescaped(line, stops).unwrap_or(line.len())]
    }

    fn string(&self, text: String) -> Result<String, Error> {
        if text.len() > self.options.string_bytes_max {
            error("String is greater than 1MB")
        } else {
            Ok(text)
        }
    }

    fn row(&mut self, line_number: usize) -> Result<Row, Error> {
        let raw = self.raw(", ").to_owned();
        if raw.is_empty() {
            return error("Invalid measurement was provided");
        }
        if raw.ends_with('\\') {
            return error(BACKSLASH);
        }
        let table = self.string(unescape(&raw, ", "))?;
        self.at += raw.len();
        let tags = self.tags()?;
        if !self.rest().starts_with(' ') {
            return error("Expected at least one space character, got end of input");
        }
        self.skip_spaces();
        let fields = self.fields(&tags)?;
        let time_ns = self.time()?;
        Ok(Row {
            line_number,
            table,
            tags,
            fields,
            time_ns,
        })
    }

    fn tags(&mut self) -> Result<BTreeMap<String, String>, Error> {
        let mut tags = BTreeMap::new();
        while self.rest().starts_with(',') {
            self.at += 1;
            let key = self.raw(",= ").to_owned();
            let after_key = self.at + key.len();
            if key.is_empty() {
                return Err(Error::Rest("Expected tag key, got ", self.at));
            }
            if key.ends_with('\\') {
                return error(BACKSLASH);
            }
            if !self.text[after_key..].starts_with('=') {
                return Err(Error::Rest(
                    "Tag set malformed: could not find equals sign in ",
                    self.at,
                ));
            }
            let name = self.string(unescape(&key, ",= "))?;
            check_name(&name, "tag")?;
            self.at = after_key + 1;
            let value = self.raw(", ").to_owned();
            if value.is_empty() {
                return Err(Error::Rest("Expected tag value, got ", self.at));
            }
            if value.ends_with('\\') {
                return error(BACKSLASH);
            }
            self.at += value.len();
            let value = self.string(unescape(&value, ",= "))?;
            if tags.insert(name.clone(), value).is_some() {
                return error(format!(
                    "invalid line protocol - multiple instances of '{name}' tag found"
                ));
            }
        }
        Ok(tags)
    }

    fn fields(&mut self, tags: &BTreeMap<String, String>) -> Result<BTreeMap<String, FieldText>, Error> {
        let start = self.at;
        let mut names = BTreeSet::new();
        let mut fields = BTreeMap::new();
        loop {
            let no_field = if self.at == start {
                Error::Text("No fields were provided".to_owned())
            } else {
                Error::Rest(
                    "Could not parse entire line. Found trailing content: ",
                    self.at - 1,
                )
            };
            let key = self.raw(",= ").to_owned();
            if key.ends_with('\\') {
                return error(BACKSLASH);
            }
            if key.is_empty() || !self.rest()[key.len()..].starts_with('=') {
                return Err(no_field);
            }
            self.at += key.len() + 1;
            let Some((kind, value)) = self.value()? else {
                return Err(no_field);
            };
            let name = self.string(unescape(&key, ",= "))?;
            check_name(&name, kind)?;
            if !names.insert(name.clone()) {
                return error(format!(
                    "invalid line protocol - multiple instances of '{name}' field found"
                ));
            }
            if tags.contains_key(&name) {
                return error(format!(
                    "invalid column type for column '{name}', expected iox::column_type::tag, \
                     got iox::column_type::{kind}"
                ));
            }
            fields.insert(name, value);
            if !self.rest().starts_with(',') {
                return Ok(fields);
            }
            self.at += 1;
        }
    }

    /// The kind of the value and the value.
    fn value(&mut self) -> Result<Option<(&'static str, FieldText)>, Error> {
        let rest = self.rest().to_owned();
        if let Some(text) = rest.strip_prefix('"') {
            let Some(quote) = unescaped(text, "\"") else {
                return Ok(None);
            };
            self.at += quote + 2;
            let value = self.string(unescape(&text[..quote], "\"\\"))?;
            return Ok(Some(("field::string", format!("{value:?}"))));
        }
        for word in [
            "true", "True", "TRUE", "t", "T", "false", "False", "FALSE", "f", "F",
        ] {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(Some((
                    "field::boolean",
                    word.to_lowercase().starts_with('t').to_string(),
                )));
            }
        }
        let sign = if rest.starts_with('-') { "-" } else { "" };
        let whole = leading_digits(&rest[sign.len()..]);
        if whole.is_empty() {
            return Ok(None);
        }
        let mut number = format!("{sign}{whole}");
        self.at += number.len();
        if self.rest().starts_with('i') {
            self.at += 1;
            return match number.parse::<i64>() {
                Ok(value) => Ok(Some(("field::integer", format!("{value}i")))),
                Err(_) => error(format!("Unable to parse integer value `{}`", limit(&number))),
            };
        }
        if self.rest().starts_with('u') && sign.is_empty() {
            self.at += 1;
            return match number.parse::<u64>() {
                Ok(value) => Ok(Some(("field::uinteger", format!("{value}u")))),
                Err(_) => error(format!(
                    "Unable to parse unsigned integer value `{}`",
                    limit(&number)
                )),
            };
        }
        if let Some(fraction) = self
            .rest()
            .strip_prefix('.')
            .map(leading_digits)
            .filter(|d| !d.is_empty())
        {
            let fraction = format!(".{fraction}");
            self.at += fraction.len();
            number += &fraction;
        }
        let rest_of_number = self.rest().to_owned();
        if let Some(exponent) = rest_of_number.strip_prefix(['e', 'E']) {
            let sign: String = exponent.chars().take(1).filter(|c| "+-".contains(*c)).collect();
            let digits = leading_digits(&exponent[sign.len()..]);
            if !digits.is_empty() {
                let len = 1 + sign.len() + digits.len();
                number += &rest_of_number[..len];
                self.at += len;
            }
        }
        match number.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Some(("field::float", format!("{value:?}")))),
            _ => error(format!(
                "Unable to parse floating-point value `{}`",
                limit(&number)
            )),
        }
    }

    fn time(&mut self) -> Result<i64, Error> {
        let trailing = |at| {
            Err(Error::Rest(
                "Could not parse entire line. Found trailing content: ",
                at,
            ))
        };
        let fields_end = self.at;
        self.skip_spaces();
        if is_line_end(self.rest()) {
            let unit = unit_ns(self.options.precision).unwrap_or(1);
            return Ok(self.options.default_time_ns.div_euclid(unit) * unit);
        }
        let sign = if self.rest().starts_with('-') { "-" } else { "" };
        let digits = leading_digits(&self.rest()[sign.len()..]);
        if self.at == fields_end || digits.is_empty() {
            return trailing(fields_end);
        }
        let number = format!("{sign}{digits}");
        self.at += number.len();
        self.skip_spaces();
        if !is_line_end(self.rest()) {
            return trailing(self.at);
        }
        let Ok(timestamp) = number.parse::<i64>() else {
            return error(format!("Unable to parse timestamp value `{}`", limit(&number)));
        };
        let unit = unit_ns(self.options.precision).unwrap_or_else(|| guessed_unit_ns(timestamp));
        match timestamp.checked_mul(unit) {
            Some(time_ns) => Ok(time_ns),
            None => error(format!(
                "timestamp, {timestamp}, out of range for precision: {:?}",
                self.options.precision
            )),
        }
    }
}

fn unit_ns(precision: Precision) -> Option<i64> {
    match precision {
        Precision::Auto => None,
        Precision::Second => Some(1_000_000_000),
        Precision::Millisecond => Some(1_000_000),
        Precision::Microsecond => Some(1_000),
        Precision::Nanosecond => Some(1),
    }
}

fn guessed_unit_ns(timestamp: i64) -> i64 {
    let magnitude = i128::from(timestamp).abs();
    if magnitude < 5_000_000_000 {
        1_000_000_000
    } else if magnitude < 5_000_000_000_000 {
        1_000_000
    } else if magnitude < 5_000_000_000_000_000 {
        1_000
    } else {
        1
    }
}

fn leading_digits(text: &str) -> &str {
    &text[..text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len()]
}

fn check_name(name: &str, kind: &str) -> Result<(), Error> {
    match name {
        "time" => error(format!(
            "invalid column type for column 'time', expected iox::column_type::timestamp, \
             got iox::column_type::{kind}"
        )),
        "__chunk_order" => error("invalid line protocol - the column name '__chunk_order' is reserved"),
        _ => Ok(()),
    }
}
