//! How a trigger runs and what happens when a run fails (engine.md 0.6, 5.3, 5.6).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// The settings of a trigger. Every field may be absent when read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TriggerSettings {
    /// Whether runs may overlap; otherwise one run is in flight, in log order.
    pub run_async: bool,
    /// What a failed run does.
    pub error_behavior: ErrorBehavior,
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
                    error_behavior
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
}
