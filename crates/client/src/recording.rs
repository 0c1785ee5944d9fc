//! Lines of recordings, as the server has written them.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::ClientError;

/// A line of a recording. It is kept as it came: numbers that are read and written again may not be the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedLine {
    /// One JSON object, without a line end.
    pub text: String,
    /// Where the recording goes on behind it.
    pub position: u64,
    /// How many tables it has rows of; none in the first line, and where nothing was written.
    pub table_count: usize,
}

impl RecordedLine {
    pub(crate) fn new(text: String) -> Result<Self, ClientError> {
        #[derive(Deserialize)]
        struct Line {
            position: u64,
            #[serde(default)]
            tables: Vec<IgnoredAny>,
        }
        let line: Line = serde_json::from_str(&text)?;
        Ok(Self {
            position: line.position,
            table_count: line.tables.len(),
            text,
        })
    }
}
