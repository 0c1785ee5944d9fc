//! What was found.

use serde::Serialize;

/// A part of what a node stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Databases, tables, columns, triggers.
    Catalog,
    /// Which Parquet files there are.
    Manifest,
    /// The log of writes.
    Log,
    /// Parquet files.
    Files,
    /// How far triggers have read, and their state.
    Progress,
    /// Dead letters, or what is kept of plugins' logs and runs.
    Folder,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// What it belongs to.
    pub part: Part,
    /// Path of the object.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
    /// What that means.
    pub consequence: String,
    /// Database of the rows that are affected, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Table of the rows that are affected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// First time that rows may be affected of, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_first: Option<String>,
    /// Last time that rows may be affected of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_last: Option<String>,
}

impl Damage {
    pub(crate) fn new(part: Part, object: String, reason: String, consequence: impl Into<String>) -> Self {
        Self {
            part,
            object,
            reason,
            consequence: consequence.into(),
            database: None,
            table: None,
            time_first: None,
            time_last: None,
        }
    }
}

/// What was found of the files of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// Name of its database.
    pub database: String,
    /// Its name.
    pub table: String,
    /// How many files it has.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// How many of them are damaged.
    pub damaged_files: u64,
    /// Rows that the damaged ones should have.
    pub damaged_rows: u64,
    /// First time of these, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damaged_first: Option<String>,
    /// Last time of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damaged_last: Option<String>,
}

/// What was found of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LogReport {
    /// Segments: files or objects.
    pub segments: u64,
    /// Good records.
    pub records: u64,
    /// The first record that is there.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Everything up to this record is in Parquet files.
    pub snapshot: u64,
    /// Bytes of a write that nobody was told had succeeded, at the end.
    pub torn_bytes: u64,
}

/// What was found in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FolderReport {
    /// Its name.
    pub name: String,
    /// What is in it, in words.
    pub content: String,
    /// How many objects.
    pub objects: u64,
    /// How many of them are damaged.
    pub damaged: u64,
}

/// Objects that belong to nothing: what a crash left over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Orphans {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The node.
    pub node_id: String,
    /// Whether nothing is damaged.
    pub sound: bool,
    /// Objects that were read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// False: a running server changed something faster than it could be read; `notes` say what.
    pub complete: bool,
    /// Databases that are not deleted.
    pub databases: u64,
    /// Number of the last record of the catalog.
    pub catalog_records: u64,
    /// Number of the last record of the manifest.
    pub manifest_records: u64,
    /// The log.
    pub log: LogReport,
    /// Tables with files, by database and name.
    pub tables: Vec<TableReport>,
    /// Folders that were checked.
    pub folders: Vec<FolderReport>,
    /// Objects that belong to nothing.
    pub orphans: Orphans,
    /// What is damaged.
    pub damages: Vec<Damage>,
    /// What is worth knowing and harmless.
    pub notes: Vec<String>,
}

impl VerifyReport {
    pub(crate) fn new(node_id: &str) -> Self {
        Self {
            node_id: node_id.to_owned(),
            sound: true,
            objects: 0,
            bytes: 0,
            complete: true,
            databases: 0,
            catalog_records: 0,
            manifest_records: 0,
            log: LogReport::default(),
            tables: Vec::new(),
            folders: Vec::new(),
            orphans: Orphans::default(),
            damages: Vec::new(),
            notes: Vec::new(),
        }
    }
}
