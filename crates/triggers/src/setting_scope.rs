//! Which settings a trigger knows: some are for schedules, some for requests only.

use crate::{PluginType, StartAt, TriggerSettings};

/// A setting that a trigger of this type does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the setting '{setting}' is for {purpose}; this trigger runs on {}", occasion(*.of))]
pub struct SettingError {
    /// Its name in JSON.
    pub setting: &'static str,
    /// Triggers that have it.
    pub purpose: &'static str,
    /// The trigger's type.
    pub of: PluginType,
}

const SCHEDULES: &str = "schedules (every:, cron:)";
const REQUESTS: &str = "HTTP endpoints (request:)";
const WRITES: &str = "triggers on writes (table:, all_tables)";
const RETRIED: &str = "triggers that can try again (table:, all_tables, every:, cron:)";

/// What makes a trigger of this type run.
fn occasion(plugin_type: PluginType) -> &'static str {
    match plugin_type {
        PluginType::WalRows => "writes",
        PluginType::Schedule => "a schedule",
        PluginType::Request => "HTTP requests",
    }
}

impl TriggerSettings {
    /// Checks that every setting that is given has a meaning for triggers of this type.
    pub fn check_for(&self, plugin_type: PluginType) -> Result<(), SettingError> {
        use PluginType::{Request, Schedule, WalRows};
        let rules: [(&str, bool, &[PluginType], &str); 4] = [
            (
                "max_attempts",
                self.max_attempts.is_some(),
                &[WalRows, Schedule],
                RETRIED,
            ),
            ("catch_up", self.catch_up.is_some(), &[Schedule], SCHEDULES),
            ("workers", self.workers.is_some(), &[Request], REQUESTS),
            ("methods", self.methods.is_some(), &[Request], REQUESTS),
        ];
        let broken = rules
            .into_iter()
            .find(|(_, is_given, types, _)| *is_given && !types.contains(&plugin_type));
        broken.map_or(Ok(()), |(setting, _, _, purpose)| {
            Err(SettingError {
                setting,
                purpose,
                of: plugin_type,
            })
        })
    }
}

impl StartAt {
    /// Checks that a trigger of this type reads the log, and so can start somewhere in it.
    pub fn check_for(self, plugin_type: PluginType) -> Result<(), SettingError> {
        if plugin_type == PluginType::WalRows || self == Self::Now {
            return Ok(());
        }
        Err(SettingError {
            setting: "start_at",
            purpose: WRITES,
            of: plugin_type,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_refused_where_it_means_nothing() {
        use PluginType::{Request, Schedule, WalRows};
        let check = |json: &str, refused_by: &[PluginType]| {
            let settings: TriggerSettings = serde_json::from_str(json).unwrap();
            for plugin_type in [WalRows, Schedule, Request] {
                let refused = settings.check_for(plugin_type).is_err();
                assert_eq!(
                    refused,
                    refused_by.contains(&plugin_type),
                    "{json} {plugin_type:?}"
                );
            }
        };
        check("{}", &[]);
        check(
            r#"{"run_async":true,"error_behavior":"retry","run_timeout":"1s","memory_limit":"1GB",
                "async_concurrency_limit":2,"output_limit":"1MB","log_limit":"1KB"}"#,
            &[],
        );
        check(r#"{"catch_up":"none"}"#, &[WalRows, Request]);
        check(r#"{"workers":2}"#, &[WalRows, Schedule]);
        check(r#"{"methods":"GET"}"#, &[WalRows, Schedule]);
        check(r#"{"max_attempts":2}"#, &[Request]);
        let error = StartAt::Beginning.check_for(Schedule).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the setting 'start_at' is for triggers on writes (table:, all_tables); this trigger runs on a schedule"
        );
        assert_eq!(StartAt::Beginning.check_for(WalRows), Ok(()));
        assert_eq!(StartAt::Now.check_for(Request), Ok(()));
    }
}
