//! The definition of a trigger as the catalog keeps it (engine.md 1.6).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{TriggerSettings, TriggerSpec};

/// A trigger as it was created, and whether it is disabled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TriggerDefinition {
    /// Never reused within one catalog; the key of the trigger's cursor and cache.
    pub trigger_id: u32,
    /// Unique within its database.
    pub trigger_name: String,
    /// Path of the plugin relative to the plugin directory, or `gh:<path>`, as it was given.
    pub plugin_filename: String,
    /// The database whose tables the trigger reads and writes by default.
    pub database_name: String,
    /// When the trigger runs.
    pub spec: TriggerSpec,
    /// How the trigger runs.
    #[serde(default)]
    pub settings: TriggerSettings,
    /// The `args` of the plugin; `None` and an empty map are told apart (engine.md 2.2).
    #[serde(default)]
    pub arguments: Option<BTreeMap<String, String>>,
    /// A disabled trigger does not run and is not started.
    #[serde(default)]
    pub disabled: bool,
    /// Why the server disabled the trigger by itself; `None` when a user did.
    #[serde(default)]
    pub disabled_reason: Option<String>,
    /// Position of the log when the trigger was created: data up to it is not delivered.
    #[serde(default)]
    pub created_at_lsn: u64,
}
