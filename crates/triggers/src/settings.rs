//! How a trigger runs and what happens when a run fails (engine.md 0.6, 5.3, 5.6).

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ByteSize, Methods};

/// What happens to a trigger whose run failed. Read without regard to case, written in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ErrorBehavior {
    /// The failure is logged, the batch is dropped, the trigger goes on.
    #[default]
    Log,
    /// The same batch is run again after a growing delay.
    Retry,
    /// The trigger is disabled and keeps the reason.
    Disable,
}

impl ErrorBehavior {
    /// The name in the interface: `log`, `retry` or `disable`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Retry => "retry",
            Self::Disable => "disable",
        }
    }
}

impl fmt::Display for ErrorBehavior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of `log`, `retry`, `disable`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown error behavior '{0}', expected one of log, retry, disable")]
pub struct UnknownErrorBehavior(pub String);

impl FromStr for ErrorBehavior {
    type Err = UnknownErrorBehavior;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let name = name.trim();
        [Self::Log, Self::Retry, Self::Disable]
            .into_iter()
            .find(|behavior| behavior.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownErrorBehavior(name.to_owned()))
    }
}

impl Serialize for ErrorBehavior {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ErrorBehavior {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

/// What becomes of the instants of a schedule that passed while nothing could run (engine.md 0.15).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// They are skipped.
    #[default]
    None,
    /// The latest one is run.
    Latest,
    /// All are run, in order.
    All,
}

impl CatchUp {
    /// The name in the interface: `none`, `latest` or `all`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Latest => "latest",
            Self::All => "all",
        }
    }
}

/// A name that is none of `none`, `latest`, `all`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown catch-up '{0}', expected one of none, latest, all")]
pub struct UnknownCatchUp(pub String);

impl FromStr for CatchUp {
    type Err = UnknownCatchUp;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::None, Self::Latest, Self::All]
            .into_iter()
            .find(|catch_up| catch_up.name() == name)
            .ok_or_else(|| UnknownCatchUp(name.to_owned()))
    }
}

/// Processes that one request trigger may have.
pub const WORKERS_MAX: u16 = 64;

/// The settings of a trigger. Every field may be absent when read; where one of the optional ones is, the server's own
/// setting holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TriggerSettings {
    /// Whether runs may overlap; otherwise one run is in flight, in log order.
    pub run_async: bool,
    /// What a failed run does.
    pub error_behavior: ErrorBehavior,
    /// Longest duration of a run, in JSON as `30s`.
    #[serde(with = "duration_text", skip_serializing_if = "Option::is_none")]
    pub run_timeout: Option<Duration>,
    /// Resident memory above which the plugin's process is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<ByteSize>,
    /// Runs that may be in flight where runs may overlap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub async_concurrency_limit: Option<NonZeroU16>,
    /// Attempts at a run, where the error behaviour is to retry; then it becomes a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<NonZeroU32>,
    /// What becomes of missed instants of a schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<CatchUp>,
    /// Processes that answer a request trigger, at most [`WORKERS_MAX`].
    #[serde(
        deserialize_with = "deserialize_workers",
        skip_serializing_if = "Option::is_none"
    )]
    pub workers: Option<NonZeroU16>,
    /// HTTP methods that a request trigger answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<Methods>,
    /// Bytes that a run may give back: its answer and the lines that it writes; at most [`OUTPUT_LIMIT_MAX`].
    #[serde(deserialize_with = "output_limit", skip_serializing_if = "Option::is_none")]
    pub output_limit: Option<ByteSize>,
    /// Bytes of the plugin's log that are kept across restarts, on average a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_limit: Option<ByteSize>,
}

/// The largest output limit: the server holds what a run gives back in its own memory.
pub const OUTPUT_LIMIT_MAX: ByteSize = ByteSize(256 << 20);

fn output_limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ByteSize>, D::Error> {
    let limit = Option::<ByteSize>::deserialize(deserializer)?;
    match limit {
        Some(limit) if limit > OUTPUT_LIMIT_MAX => Err(serde::de::Error::custom(format!(
            "an output limit of {limit} is more than the {OUTPUT_LIMIT_MAX} that there may be"
        ))),
        limit => Ok(limit),
    }
}

/// A text that is not the longest duration of a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunTimeoutError {
    /// Not a duration at all.
    #[error("'{0}' is not a duration, expected for example 30s or 1m 30s")]
    NotADuration(String),
    /// A run cannot take no time.
    #[error("a time limit must not be zero")]
    Zero,
}

/// Reads the longest duration of a run: any but zero.
pub fn parse_run_timeout(text: &str) -> Result<Duration, RunTimeoutError> {
    let duration =
        humantime::parse_duration(text).map_err(|_| RunTimeoutError::NotADuration(text.to_owned()))?;
    if duration.is_zero() {
        return Err(RunTimeoutError::Zero);
    }
    Ok(duration)
}

fn deserialize_workers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU16>, D::Error> {
    let workers = Option::<NonZeroU16>::deserialize(deserializer)?;
    if let Some(workers) = workers.filter(|workers| workers.get() > WORKERS_MAX) {
        return Err(serde::de::Error::custom(format!(
            "{workers} workers are too many, a trigger may have {WORKERS_MAX}"
        )));
    }
    Ok(workers)
}

/// A duration as text, such as `1m 30s`.
mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = duration.map(|duration| humantime::format_duration(duration).to_string());
        text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text: Option<String> = Deserialize::deserialize(deserializer)?;
        text.map(|text| super::parse_run_timeout(&text))
            .transpose()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_default_and_case_does_not_matter() {
        for (json, run_async, error_behavior) in [
            ("{}", false, ErrorBehavior::Log),
            (r#"{"run_async":true}"#, true, ErrorBehavior::Log),
            (r#"{"error_behavior":"ReTry"}"#, false, ErrorBehavior::Retry),
            (
                r#"{"run_async":false,"error_behavior":"Disable"}"#,
                false,
                ErrorBehavior::Disable,
            ),
        ] {
            let settings: TriggerSettings = serde_json::from_str(json).unwrap();
            assert_eq!(
                settings,
                TriggerSettings {
                    run_async,
                    error_behavior,
                    ..TriggerSettings::default()
                },
                "{json}"
            );
        }
        let written = serde_json::to_string(&TriggerSettings::default()).unwrap();
        assert_eq!(written, r#"{"run_async":false,"error_behavior":"log"}"#);
        let refused = serde_json::from_str::<TriggerSettings>(r#"{"error_behavior":"panic"}"#).unwrap_err();
        assert!(
            refused.to_string().starts_with("unknown error behavior 'panic'"),
            "{refused}"
        );
    }
    #[test]
    fn limits_are_written_as_they_are_typed() {
        let json = r#"{"run_async":true,"error_behavior":"retry","run_timeout":"1m 30s","memory_limit":"256MiB","async_concurrency_limit":4,"max_attempts":3,"catch_up":"latest","workers":2,"methods":"PUT,DELETE","output_limit":"1MiB","log_limit":"1000"}"#;
        let settings: TriggerSettings = serde_json::from_str(json).unwrap();
        assert_eq!(settings.run_timeout, Some(Duration::from_secs(90)));
        assert_eq!(settings.memory_limit, Some(ByteSize(256 << 20)));
        assert_eq!(serde_json::to_string(&settings).unwrap(), json);
        for refused in [
            r#"{"run_timeout":"0s"}"#,
            r#"{"run_timeout":"soon"}"#,
            r#"{"output_limit":"257MB"}"#,
            r#"{"workers":0}"#,
            r#"{"workers":65}"#,
            r#"{"max_attempts":0}"#,
            r#"{"catch_up":"some"}"#,
        ] {
            assert!(
                serde_json::from_str::<TriggerSettings>(refused).is_err(),
                "{refused}"
            );
        }
    }
}
