//! Bodies of requests and answers.

use std::collections::BTreeMap;

use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidemill_triggers::{SettingsPatch, StartAt, TriggerSettings};

use crate::Precision;

/// How to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOptions {
    /// Unit of the timestamps.
    pub precision: Precision,
    /// Keep the good lines when some are bad.
    pub accept_partial: bool,
    /// Answer before the data is durable.
    pub no_sync: bool,
    /// Compress the request.
    pub gzip: bool,
}

/// A new table.
#[derive(Debug, Clone, Serialize)]
pub struct CreateTable {
    /// Its database; created if it does not exist.
    pub db: String,
    /// Its name.
    pub table: String,
    /// Names of its tags.
    pub tags: Vec<String>,
    /// Its fields.
    pub fields: Vec<Field>,
    /// How long its rows are kept, if not as long as the database says: a duration, or `infinite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_period: Option<String>,
}

/// A field of a new table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// `utf8`, `int64`, `uint64`, `float64` or `bool`.
    #[serde(rename = "type")]
    pub field_type: String,
}

/// A new trigger.
#[derive(Debug, Clone, Serialize)]
pub struct CreateTrigger {
    /// Its database.
    pub db: String,
    /// Its name.
    pub trigger_name: String,
    /// Its plugin, relative to the plugin directory of the server.
    pub plugin_filename: String,
    /// When it runs, in canonical form.
    pub trigger_specification: String,
    /// How it runs.
    pub trigger_settings: TriggerSettings,
    /// Its arguments.
    pub trigger_arguments: Option<BTreeMap<String, String>>,
    /// Whether it waits to be enabled.
    pub disabled: bool,
    /// Where in the log it starts; only for triggers on writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_at: Option<StartAt>,
}

/// What is to be changed about a trigger; what is `None` stays.
#[derive(Debug, Clone, Default, Serialize)]
pub struct UpdateTrigger {
    /// Its database.
    pub db: String,
    /// Its name.
    pub trigger_name: String,
    /// Another plugin, relative to the plugin directory of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin_filename: Option<String>,
    /// How it runs.
    pub trigger_settings: SettingsPatch,
    /// All its arguments; an empty map takes them away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_arguments: Option<BTreeMap<String, String>>,
    /// Whether it waits to be enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// What became of dead letters that were run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct ReplayedLetters {
    /// How many succeeded; they are gone.
    pub replayed: u64,
    /// How many failed again; they stay.
    pub failed: u64,
}

/// What became of dead letters that are no longer wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct DroppedLetters {
    /// How many were there.
    pub dropped: u64,
}

/// Packages to be installed for plugins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Install {
    /// What they are.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// Directories on the server, or URLs, where packages are looked for beside the index.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub find_links: Vec<String>,
    /// Whether no index is asked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub offline: bool,
}

/// What is to be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Wanted {
    /// Packages, with or without a version.
    #[serde(rename = "packages")]
    Packages(Vec<String>),
    /// What a requirements file names: a path on the server, or a URL.
    #[serde(rename = "requirements_location")]
    Requirements(String),
}

/// A line of the answer to an installation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InstallProgress {
    /// What is going on.
    Line(String),
    /// Why it has failed; the last one.
    Error(String),
    /// That it has not; the last one.
    Installed(bool),
}

/// A file of a plugin's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PluginFile {
    /// Its path there.
    pub relative_path: String,
    /// Its content.
    #[serde(flatten)]
    pub content: FileContent,
}

/// The content of a file: in JSON `content` with text, or `content_base64`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum FileContent {
    /// Text as it is.
    #[serde(rename = "content")]
    Text(String),
    /// Anything else.
    #[serde(rename = "content_base64", serialize_with = "as_base64")]
    Binary(Vec<u8>),
}

impl From<Vec<u8>> for FileContent {
    fn from(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Binary(error.into_bytes()), Self::Text)
    }
}

fn as_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Base64Display::new(bytes, &STANDARD))
}

/// A dry run of a data-write plugin.
#[derive(Debug, Clone, Serialize)]
pub struct TestWal {
    /// The plugin, relative to the plugin directory of the server.
    pub filename: String,
    /// Database to act as.
    pub database: String,
    /// The written lines.
    pub input_lp: String,
    /// Test cache to use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_name: Option<String>,
    /// Arguments of the plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_arguments: Option<BTreeMap<String, String>>,
}

/// A dry run of a schedule plugin.
#[derive(Debug, Clone, Serialize)]
pub struct TestSchedule {
    /// The plugin, relative to the plugin directory of the server.
    pub filename: String,
    /// Database to act as.
    pub database: String,
    /// Cron expression whose next instant the plugin is called with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Test cache to use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_name: Option<String>,
    /// Arguments of the plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_arguments: Option<BTreeMap<String, String>>,
}

/// A dry run of a request plugin.
#[derive(Debug, Clone, Serialize)]
pub struct TestRequest {
    /// The plugin, relative to the plugin directory of the server.
    pub filename: String,
    /// Database to act as.
    pub database: String,
    /// Method of the request; by default `POST` with a body, else `GET`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Query parameters of the request.
    pub query_parameters: BTreeMap<String, String>,
    /// Headers of the request.
    pub headers: BTreeMap<String, String>,
    /// Body of the request.
    pub body: String,
    /// Test cache to use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_name: Option<String>,
    /// Arguments of the plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_arguments: Option<BTreeMap<String, String>>,
}

/// What a dry run did. Serialised it has the keys in the order of `spec/engine.md` 8.4.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestReport {
    /// Instant of the call; only for schedule plugins, and then `null` where there is none.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub trigger_time: Option<Option<String>>,
    /// The log.
    pub log_lines: Vec<String>,
    /// Lines that would have been written, by database.
    pub database_writes: BTreeMap<String, Vec<String>>,
    /// What went wrong.
    pub errors: Vec<String>,
    /// The answer of a request plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<TestResponse>,
}

/// The answer of a request plugin in a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestResponse {
    /// HTTP status.
    pub status: u16,
    /// Headers in order; a name may repeat.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// Tells `null` from a key that is not there.
#[expect(clippy::option_option, reason = "three cases that are three in the JSON too")]
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ping {
    /// Name of the product.
    pub product_name: String,
    /// Version of the interface it is compatible with.
    pub version: String,
    /// Its own version.
    pub revision: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_rendered_as_it_came() {
        for text in [
            r#"{"log_lines":["INFO: a"],"database_writes":{"db":["m f=1"]},"errors":[]}"#,
            r#"{"trigger_time":null,"log_lines":[],"database_writes":{},"errors":["invalid cron syntax"]}"#,
            r#"{"trigger_time":"2026-01-01T00:00:05Z","log_lines":[],"database_writes":{},"errors":[]}"#,
            r#"{"log_lines":[],"database_writes":{},"errors":[],"response":{"status":200,"headers":[["a","b"]],"body":"x"}}"#,
        ] {
            let report: TestReport = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&report).unwrap(), text);
        }
    }
}
