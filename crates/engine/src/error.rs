//! What can go wrong for somebody who creates, changes or tests a trigger, with the texts of `spec/engine.md`.

use tidemill_catalog::CatalogError;
use tidemill_triggers::{PluginType, SettingError, SpecError};

use crate::plugin_files::PluginFileError;

/// Classes of [`EngineError`]: what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EngineErrorKind {
    /// The request is wrong and will be wrong again.
    Invalid,
    /// The server is configured to refuse it.
    Forbidden,
    /// What it names does not exist.
    NotFound,
    /// Something is in the way.
    Conflict,
    /// It may work later or after the operator has acted; the text says which.
    Unavailable,
    /// The server failed.
    Internal,
}

/// A refused or failed operation. `Display` is the text that clients get.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// `--restrict-plugin-triggers-to` leaves this type out.
    #[error("invalid request: server is configured to reject {0:?} plugin triggers")]
    RestrictedType(PluginType),
    /// The plugin of a new trigger or of a dry run cannot be used.
    #[error("Plugin error: {0}")]
    Plugin(PluginFileError),
    /// The specification cannot be read.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A setting has no meaning for a trigger of its type.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The database does not exist.
    #[error("Database not found {0}")]
    DatabaseNotFound(String),
    /// The trigger does not exist.
    #[error("the requested resource was not found: {0}")]
    TriggerNotFound(String),
    /// The catalog refused the change, or failed.
    #[error(transparent)]
    Catalog(CatalogError),
    /// A plugin file could not be written.
    #[error("Processing engine error: plugin error: {0}")]
    PluginFile(PluginFileError),
    /// No trigger of that name whose plugin could be written to.
    #[error("Processing engine error: plugin error: Plugin not found: {0}")]
    PluginOfTriggerNotFound(String),
    /// A value of the request is not acceptable.
    #[error("{0}")]
    Invalid(String),
    /// The operator has switched installing packages off.
    #[error("Package installation has been disabled. Contact your administrator for more information.")]
    PackagesDisabled,
    /// There is no environment to install into.
    #[error("Processing engine error: error installing python packages: {0}")]
    PackagesUnavailable(String),
    /// The installer ran and failed; its own output is part of the text.
    #[error("Processing engine error: error installing python packages: {reason}:\n{output}")]
    InstallFailed {
        /// Which installer, and how it ended.
        reason: String,
        /// The last lines that it printed.
        output: String,
    },
    /// What is to be installed cannot be asked for in these words.
    #[error("Processing engine error: error installing python packages: {0}")]
    InvalidInstall(String),
    /// There is no Python to run plugins with.
    #[error("python_unavailable: {0}")]
    PythonUnavailable(String),
    /// There is no dead letter of that run.
    #[error(
        "there is no dead letter of run {0}; system.processing_engine_dead_letters has those that are there"
    )]
    DeadLetterNotFound(String),
    /// Dead letters are run by their trigger, which does not run.
    #[error("trigger {0} is not running: enable it first")]
    TriggerNotRunning(String),
    /// The log could not be read.
    #[error("the log could not be read: {0}")]
    Log(String),
    /// Dead letters could not be read or changed.
    #[error("dead letters: {0}")]
    DeadLetters(String),
    /// The server is stopping.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl EngineError {
    /// The text without the output of a tool, for who has seen that.
    pub fn summary(&self) -> String {
        match self {
            Self::InstallFailed { reason, .. } => Self::InvalidInstall(reason.clone()).to_string(),
            other => other.to_string(),
        }
    }

    /// The class of this error.
    pub fn kind(&self) -> EngineErrorKind {
        match self {
            Self::RestrictedType(_)
            | Self::Spec(_)
            | Self::Setting(_)
            | Self::Invalid(_)
            | Self::InstallFailed { .. }
            | Self::InvalidInstall(_) => EngineErrorKind::Invalid,
            Self::Plugin(error) | Self::PluginFile(error) => error.kind(),
            Self::DatabaseNotFound(_)
            | Self::TriggerNotFound(_)
            | Self::PluginOfTriggerNotFound(_)
            | Self::DeadLetterNotFound(_) => EngineErrorKind::NotFound,
            Self::TriggerNotRunning(_) => EngineErrorKind::Conflict,
            Self::DeadLetters(_) | Self::Log(_) => EngineErrorKind::Internal,
            Self::Catalog(error) => kind_of_catalog_error(error),
            Self::PackagesDisabled => EngineErrorKind::Forbidden,
            Self::PackagesUnavailable(_) | Self::PythonUnavailable(_) | Self::ShuttingDown => {
                EngineErrorKind::Unavailable
            }
        }
    }
}

fn kind_of_catalog_error(error: &CatalogError) -> EngineErrorKind {
    match error {
        error if error.is_out_of_room() => EngineErrorKind::Unavailable,
        CatalogError::NotFound(_) | CatalogError::DatabaseNotFound(_) => EngineErrorKind::NotFound,
        CatalogError::AlreadyExists
        | CatalogError::RequestPathTaken { .. }
        | CatalogError::TriggerEnabled(_) => EngineErrorKind::Conflict,
        CatalogError::Conflict { .. } | CatalogError::Corrupt { .. } | CatalogError::Store(_) => {
            EngineErrorKind::Internal
        }
        CatalogError::Superseded => EngineErrorKind::Unavailable,
        _ => EngineErrorKind::Invalid,
    }
}

/// The catalog's errors in the words of the engine's interface.
pub(crate) fn trigger_change_failed(error: CatalogError, trigger_name: &str) -> EngineError {
    match error {
        CatalogError::DatabaseNotFound(database) => EngineError::DatabaseNotFound(database),
        CatalogError::NotFound(_) => EngineError::TriggerNotFound(trigger_name.to_owned()),
        other => EngineError::Catalog(other),
    }
}
