//! What clients ask of the engine, in the JSON of engine.md 6.4, 7.3, 8.3 and 8.4.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill_triggers::{SettingsPatch, StartAt, TriggerDefinition, TriggerSettings};
use tidemill_worker::{InstallRequest, Wanted};

use crate::file_content::FileContent;

/// A new trigger.
#[derive(Debug, Clone, Deserialize)]
pub struct CreateTrigger {
    /// Its database.
    pub db: String,
    /// Its name, unique in the database.
    pub trigger_name: String,
    /// Its plugin, relative to the plugin directory.
    pub plugin_filename: String,
    /// When it runs.
    pub trigger_specification: String,
    /// How it runs.
    #[serde(default)]
    pub trigger_settings: TriggerSettings,
    /// The `args` of the plugin; absent and empty are different things.
    #[serde(default)]
    pub trigger_arguments: Option<BTreeMap<String, String>>,
    /// Whether it waits to be enabled.
    pub disabled: bool,
    /// What it is shown first, where it runs on written data; what is written from now on where absent.
    #[serde(default)]
    pub start_at: Option<StartAt>,
}

/// What is to be changed about a trigger; what is absent stays.
#[derive(Debug, Clone, Deserialize)]
pub struct UpdateTrigger {
    /// Its database.
    pub db: String,
    /// Its name.
    pub trigger_name: String,
    /// Another plugin, relative to the plugin directory.
    #[serde(default)]
    pub plugin_filename: Option<String>,
    /// How it runs.
    #[serde(default)]
    pub trigger_settings: SettingsPatch,
    /// All its arguments; an empty object takes them away.
    #[serde(default)]
    pub trigger_arguments: Option<BTreeMap<String, String>>,
    /// Whether it waits to be enabled.
    #[serde(default)]
    pub disabled: Option<bool>,
}

impl UpdateTrigger {
    pub(crate) fn apply(self, definition: &mut TriggerDefinition) {
        if let Some(plugin_filename) = self.plugin_filename {
            definition.plugin_filename = plugin_filename;
        }
        definition.settings = self.trigger_settings.apply(definition.settings);
        if let Some(arguments) = self.trigger_arguments {
            definition.arguments = Some(arguments).filter(|arguments| !arguments.is_empty());
        }
        if let Some(disabled) = self.disabled {
            definition.disabled = disabled;
            definition.disabled_reason = None;
        }
    }
}

/// A recording of what a trigger on writes is given.
#[derive(Debug, Clone, Deserialize)]
pub struct StartRecording {
    /// Its database.
    pub db: String,
    /// Its name.
    pub trigger_name: String,
    /// Where in the log to begin.
    #[serde(default)]
    pub start_at: StartAt,
}

/// The next part of a recording.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordNext {
    /// The trigger's database.
    pub db: String,
    /// The trigger's name.
    pub trigger_name: String,
    /// The position of the part before.
    pub after: u64,
    /// How long to wait where there is nothing yet.
    #[serde(default)]
    pub wait_ms: u64,
}

/// A file to be put into the plugin directory.
#[derive(Debug, Clone, Deserialize)]
pub struct UploadFile {
    /// Its path there.
    pub plugin_name: String,
    /// Its content.
    #[serde(flatten)]
    pub content: FileContent,
}

/// A directory to be put into the plugin directory.
#[derive(Debug, Clone, Deserialize)]
pub struct UploadDirectory {
    /// Its path there.
    pub plugin_name: String,
    /// All files that it is to hold.
    pub files: Vec<DirectoryFile>,
}

/// New content for the file of a trigger's plugin.
#[derive(Debug, Clone, Deserialize)]
pub struct UpdateFile {
    /// The trigger's name.
    pub plugin_name: String,
    /// The content.
    #[serde(flatten)]
    pub content: FileContent,
    /// The trigger's database; without it the first trigger of that name is taken.
    #[serde(default)]
    pub db: Option<String>,
}

/// New content for the directory of a trigger's plugin.
#[derive(Debug, Clone, Deserialize)]
pub struct ReplaceDirectory {
    /// The trigger's name.
    pub plugin_name: String,
    /// All files that the directory is to hold.
    pub files: Vec<DirectoryFile>,
    /// The trigger's database; without it the first trigger of that name is taken.
    #[serde(default)]
    pub db: Option<String>,
}

/// A file of a plugin's directory.
#[derive(Debug, Clone, Deserialize)]
pub struct DirectoryFile {
    /// Its path in the directory.
    pub relative_path: String,
    /// Its content.
    #[serde(flatten)]
    pub content: FileContent,
}

/// Packages to be installed.
#[derive(Debug, Clone, Deserialize)]
pub struct InstallPackages {
    /// Names, with or without a version.
    pub packages: Vec<String>,
    /// Directories on the server, or URLs, where packages are looked for beside the index.
    #[serde(default)]
    pub find_links: Vec<String>,
    /// Whether no index is asked.
    #[serde(default)]
    pub offline: bool,
}

impl From<InstallPackages> for InstallRequest {
    fn from(request: InstallPackages) -> Self {
        Self {
            wanted: Wanted::Packages(request.packages),
            find_links: request.find_links,
            offline: request.offline,
        }
    }
}

/// A requirements file to be installed.
#[derive(Debug, Clone, Deserialize)]
pub struct InstallRequirements {
    /// A path on the server, or a URL.
    pub requirements_location: String,
    /// Directories on the server, or URLs, where packages are looked for beside the index.
    #[serde(default)]
    pub find_links: Vec<String>,
    /// Whether no index is asked.
    #[serde(default)]
    pub offline: bool,
}

impl From<InstallRequirements> for InstallRequest {
    fn from(request: InstallRequirements) -> Self {
        Self {
            wanted: Wanted::Requirements(request.requirements_location),
            find_links: request.find_links,
            offline: request.offline,
        }
    }
}

/// A dry run of `process_writes`.
#[derive(Debug, Clone, Deserialize)]
pub struct TestWal {
    /// The plugin, relative to the plugin directory.
    pub filename: String,
    /// The database to act as; need not exist.
    pub database: String,
    /// The written lines.
    pub input_lp: String,
    /// Which test cache to use.
    #[serde(default)]
    pub cache_name: Option<String>,
    /// The `args` of the plugin.
    #[serde(default)]
    pub input_arguments: Option<BTreeMap<String, String>>,
}

/// A dry run of `process_scheduled_call`.
#[derive(Debug, Clone, Deserialize)]
pub struct TestSchedule {
    /// The plugin, relative to the plugin directory.
    pub filename: String,
    /// The database to act as; must exist.
    pub database: String,
    /// A cron expression; its next instant is the call's. Default: every second.
    #[serde(default)]
    pub schedule: Option<String>,
    /// Which test cache to use.
    #[serde(default)]
    pub cache_name: Option<String>,
    /// The `args` of the plugin.
    #[serde(default)]
    pub input_arguments: Option<BTreeMap<String, String>>,
}

/// A dry run of `process_request`.
#[derive(Debug, Clone, Deserialize)]
pub struct TestRequest {
    /// The plugin, relative to the plugin directory.
    pub filename: String,
    /// The database to act as; must exist.
    pub database: String,
    /// The method of the request; by default `POST` with a body, else `GET`.
    #[serde(default)]
    pub method: Option<String>,
    /// The `query_parameters` of the plugin.
    #[serde(default)]
    pub query_parameters: BTreeMap<String, String>,
    /// The `request_headers` of the plugin; names are made lower-case.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The `request_body` of the plugin.
    #[serde(default)]
    pub body: String,
    /// Which test cache to use.
    #[serde(default)]
    pub cache_name: Option<String>,
    /// The `args` of the plugin.
    #[serde(default)]
    pub input_arguments: Option<BTreeMap<String, String>>,
}

/// What a dry run did. Its JSON is the answer of the test endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TestReport {
    /// Only in the answer to a schedule test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_time: Option<TriggerTime>,
    /// The lines of the log, `INFO: …`, `WARN: …`, `ERROR: …`; also when the plugin failed.
    pub log_lines: Vec<String>,
    /// The lines that would have been written, by database: immediate ones first.
    pub database_writes: BTreeMap<String, Vec<String>>,
    /// What went wrong.
    pub errors: Vec<String>,
    /// The plugin's answer; only in the answer to a request test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<TestResponse>,
}

/// The instant of a scheduled dry run, RFC 3339; `None`, in JSON `null`, where there was no call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TriggerTime(pub Option<String>);

/// The answer of a request plugin in a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestResponse {
    /// HTTP status.
    pub status: u16,
    /// Headers in order; a name may repeat.
    pub headers: Vec<(String, String)>,
    /// The body; what is not UTF-8 shows as replacement characters.
    pub body: String,
}
