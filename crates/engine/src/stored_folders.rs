//! What the engine keeps in the object store, for those who copy or check it.

use arrow::ipc::reader::StreamReader;
use tidemill_journal::check_object;

use crate::dead_letters::{FOLDER, LetterWork, head_length, parse_head};
use crate::kept_rows::KeptRow;
use crate::plugin_logs::LogEntry;
use crate::run_history::RunRow;

/// A folder below the node whose objects stand for themselves.
#[derive(Debug, Clone, Copy)]
pub struct StoredFolder {
    /// Its name.
    pub name: &'static str,
    /// What is in it, in words.
    pub content: &'static str,
    /// What it means when an object is damaged.
    pub consequence: &'static str,
    /// Checks an object, given the last part of its path and its content; returns what is wrong with it.
    pub check: fn(&str, &[u8]) -> Result<(), String>,
}

/// All folders of the engine.
pub fn stored_folders() -> [StoredFolder; 3] {
    [
        StoredFolder {
            name: FOLDER,
            content: "dead letters",
            consequence: "its batch cannot be replayed; nothing else is affected",
            check: |_, content| check_letter(content),
        },
        StoredFolder {
            name: LogEntry::FOLDER,
            content: "objects with lines that plugins logged",
            consequence: "these lines are lost; no data is affected",
            check: check_object,
        },
        StoredFolder {
            name: RunRow::FOLDER,
            content: "objects with the history of runs",
            consequence: "a part of the history is lost; no data is affected",
            check: check_object,
        },
    ]
}

/// Checks the head of a dead letter, and that its batch can be read.
fn check_letter(content: &[u8]) -> Result<(), String> {
    let head = parse_head(content).ok_or("what it says of itself is not understood")?;
    let head_end = 4 + head_length(content).unwrap_or(0) as usize;
    let mut batch = content.get(head_end..).unwrap_or_default();
    let LetterWork::Writes(tables) = head.work else {
        return Ok(());
    };
    for (table, stream_bytes) in tables {
        for bytes in stream_bytes {
            let stream = usize::try_from(bytes).ok();
            let (stream, rest) = stream
                .and_then(|bytes| batch.split_at_checked(bytes))
                .ok_or_else(|| format!("the rows of table {table} are cut"))?;
            let unreadable = |error| format!("the rows of table {table} cannot be read: {error}");
            for rows in StreamReader::try_new(stream, None).map_err(unreadable)? {
                rows.map_err(unreadable)?;
            }
            batch = rest;
        }
    }
    Ok(())
}
