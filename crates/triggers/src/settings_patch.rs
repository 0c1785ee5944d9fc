//! Changes of a trigger's settings.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::{PluginType, SettingError, TriggerSettings};

/// What is to be changed about how a trigger runs, as a merge patch of its settings (RFC 7396): what is absent stays, `null`
/// brings back the default. Valid settings stay valid with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SettingsPatch(Map<String, Value>);

impl SettingsPatch {
    /// A patch from a JSON object; an error where one of its fields has no value that settings can have.
    pub fn new(fields: Map<String, Value>) -> Result<Self, serde_json::Error> {
        // Fields do not depend on one another: what is valid over the defaults is valid over anything.
        merged(TriggerSettings::default(), &fields)?;
        Ok(Self(fields))
    }

    /// The settings with what the patch changes.
    #[must_use]
    pub fn apply(&self, settings: TriggerSettings) -> TriggerSettings {
        merged(settings, &self.0).expect("the patch was checked when it was made")
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that a trigger of this type knows what is to be set; what goes back to its default need not be known.
    pub fn check_for(&self, plugin_type: PluginType) -> Result<(), SettingError> {
        self.apply(TriggerSettings::default()).check_for(plugin_type)
    }
}

impl<'de> Deserialize<'de> for SettingsPatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Map::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

fn merged(
    settings: TriggerSettings,
    patch: &Map<String, Value>,
) -> Result<TriggerSettings, serde_json::Error> {
    let mut fields = serde_json::to_value(settings)?;
    if let Value::Object(fields) = &mut fields {
        for (name, value) in patch {
            if value.is_null() {
                fields.remove(name);
            } else {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
    serde_json::from_value(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_what_it_names() {
        let settings = |json: &str| serde_json::from_str::<TriggerSettings>(json).unwrap();
        let patch = |json: &str| serde_json::from_str::<SettingsPatch>(json);
        let before =
            settings(r#"{"run_async":true,"error_behavior":"retry","run_timeout":"5s","workers":2}"#);
        let change = patch(r#"{"error_behavior":"LOG","run_timeout":null,"memory_limit":"1GB"}"#).unwrap();
        let expected = settings(r#"{"run_async":true,"workers":2,"memory_limit":1073741824}"#);
        assert_eq!(change.apply(before), expected);
        for refused in [
            r#"{"workers":0}"#,
            r#"{"error_behavior":"panic"}"#,
            r#"{"run_timeout":7}"#,
        ] {
            assert!(patch(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn only_what_is_set_must_be_known_to_the_trigger() {
        let patch = |json: &str| serde_json::from_str::<SettingsPatch>(json).unwrap();
        let refused = patch(r#"{"workers":2}"#).check_for(PluginType::Schedule);
        assert_eq!(refused.unwrap_err().setting, "workers");
        assert_eq!(
            patch(r#"{"workers":null,"run_timeout":"5s"}"#).check_for(PluginType::Schedule),
            Ok(())
        );
    }
}
