//! Trigger specifications: grammar, canonical rendering and the texts of their errors (engine.md 1.1 to 1.5).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::CronSchedule;

/// The longest interval that `every:` accepts: a year of 365.25 days.
const INTERVAL_MAX: Duration = Duration::from_hours(8766);
/// The shortest interval that `every:` accepts (engine.md 0.16).
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// When a trigger runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TriggerSpec {
    /// Rows written to one table of the trigger's database; the table need not exist.
    Table {
        /// The table's name.
        table: String,
    },
    /// Rows written to any table of the trigger's database.
    AllTables,
    /// A fixed interval of 1 ms to a year, aligned to the Unix epoch.
    Every(Duration),
    /// A cron schedule.
    Cron(CronSchedule),
    /// An HTTP endpoint below `/api/v3/engine/`.
    Request {
        /// Matched exactly against the raw path.
        path: String,
    },
}

/// Which entry point a trigger calls. The `Debug` names are part of the interface (engine.md 8.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PluginType {
    /// `process_writes`
    WalRows,
    /// `process_scheduled_call`
    Schedule,
    /// `process_request`
    Request,
}

/// A specification that cannot be read; its `Display` is the text that clients get (engine.md 1.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpecError {
    given: String,
    context: Option<&'static str>,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to parse trigger from {}", self.given)?;
        match self.context {
            Some(context) => write!(f, ": {context}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SpecError {}

impl TriggerSpec {
    /// Reads a specification. Surrounding space is ignored, prefixes are case-sensitive and may be repeated.
    pub fn parse(given: &str) -> Result<Self, SpecError> {
        let spec = given.trim();
        let refuse = |context: Option<&'static str>| SpecError {
            given: spec.to_owned(),
            context,
        };

        if spec == "all_tables" {
            return Ok(Self::AllTables);
        }
        if let Some(table) = after_prefix(spec, "table:") {
            return if table.is_empty() {
                Err(refuse(Some("table name is empty")))
            } else {
                Ok(Self::Table {
                    table: table.to_owned(),
                })
            };
        }
        if let Some(expression) = after_prefix(spec, "cron:") {
            return CronSchedule::parse(expression)
                .map(Self::Cron)
                .map_err(|_| refuse(None));
        }
        if let Some(interval) = after_prefix(spec, "every:") {
            let interval = humantime::parse_duration(interval)
                .map_err(|_| refuse(Some("couldn't parse to duration")))?;
            if interval > INTERVAL_MAX {
                return Err(refuse(Some("don't support every schedules of over 1 year")));
            }
            if interval < INTERVAL_MIN {
                return Err(refuse(Some(
                    "don't support every schedules of under 1 millisecond",
                )));
            }
            return Ok(Self::Every(interval));
        }
        if let Some(path) = after_prefix(spec, "request:") {
            return if path.is_empty() {
                Err(refuse(None))
            } else {
                Ok(Self::Request {
                    path: path.to_owned(),
                })
            };
        }
        Err(refuse(Some(
            "expect one of the following forms: 'table:<TABLE_NAME>', 'all_tables', \
             'cron:<CRON_EXPRESSION>', 'every:<DURATION>', or 'request:<PATH>'",
        )))
    }

    /// The entry point that this specification calls.
    pub fn plugin_type(&self) -> PluginType {
        match self {
            Self::Table { .. } | Self::AllTables => PluginType::WalRows,
            Self::Every(_) | Self::Cron(_) => PluginType::Schedule,
            Self::Request { .. } => PluginType::Request,
        }
    }

    /// The specification as `system.processing_engine_triggers` shows it: JSON (engine.md 10.1).
    pub fn catalog_json(&self) -> String {
        match self {
            Self::AllTables => r#""all_tables_wal_write""#.to_owned(),
            Self::Table { table } => {
                format!(
                    r#"{{"single_table_wal_write":{{"table_name":{}}}}}"#,
                    json_string(table)
                )
            }
            Self::Cron(cron) => {
                format!(r#"{{"schedule":{{"schedule":{}}}}}"#, json_string(cron.source()))
            }
            Self::Request { path } => {
                format!(r#"{{"request_path":{{"path":{}}}}}"#, json_string(path))
            }
            Self::Every(interval) => format!(
                r#"{{"every":{{"duration":{{"secs":{},"nanos":{}}}}}}}"#,
                interval.as_secs(),
                interval.subsec_nanos()
            ),
        }
    }
}

/// What follows `prefix`, which may be repeated, without surrounding space; `None` if `spec` does not start with it.
fn after_prefix<'a>(spec: &'a str, prefix: &str) -> Option<&'a str> {
    spec.starts_with(prefix)
        .then(|| spec.trim_start_matches(prefix).trim())
}

/// `text` as a JSON string literal.
fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The canonical form: what the command line sends, and what parses back to the same value.
impl fmt::Display for TriggerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table { table } => write!(f, "table:{table}"),
            Self::AllTables => f.write_str("all_tables"),
            Self::Every(interval) => write!(f, "every:{}", humantime::format_duration(*interval)),
            Self::Cron(cron) => write!(f, "cron:{}", cron.source()),
            Self::Request { path } => write!(f, "request:{path}"),
        }
    }
}

impl std::str::FromStr for TriggerSpec {
    type Err = SpecError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        Self::parse(given)
    }
}

impl Serialize for TriggerSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TriggerSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = String::deserialize(deserializer)?;
        Self::parse(&given).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMS: &str = "expect one of the following forms: 'table:<TABLE_NAME>', 'all_tables', \
                         'cron:<CRON_EXPRESSION>', 'every:<DURATION>', or 'request:<PATH>'";

    #[test]
    fn canonical_form_and_system_table_form() {
        let cases = [
            (
                "table:cpu",
                "table:cpu",
                r#"{"single_table_wal_write":{"table_name":"cpu"}}"#,
            ),
            (
                "  table: cpu ",
                "table:cpu",
                r#"{"single_table_wal_write":{"table_name":"cpu"}}"#,
            ),
            (
                "table:table:x",
                "table:x",
                r#"{"single_table_wal_write":{"table_name":"x"}}"#,
            ),
            (
                "table:a\"b",
                "table:a\"b",
                r#"{"single_table_wal_write":{"table_name":"a\"b"}}"#,
            ),
            ("all_tables", "all_tables", r#""all_tables_wal_write""#),
            (
                "every:60s",
                "every:1m",
                r#"{"every":{"duration":{"secs":60,"nanos":0}}}"#,
            ),
            (
                "every:90s",
                "every:1m 30s",
                r#"{"every":{"duration":{"secs":90,"nanos":0}}}"#,
            ),
            (
                "every:1w",
                "every:7days",
                r#"{"every":{"duration":{"secs":604800,"nanos":0}}}"#,
            ),
            ("every: every:1h 2m", "every:1h 2m", ""),
            (
                "every:1ms",
                "every:1ms",
                r#"{"every":{"duration":{"secs":0,"nanos":1000000}}}"#,
            ),
            (
                "every:1500us",
                "every:1ms 500us",
                r#"{"every":{"duration":{"secs":0,"nanos":1500000}}}"#,
            ),
            (
                "every:1y",
                "every:1year",
                r#"{"every":{"duration":{"secs":31557600,"nanos":0}}}"#,
            ),
            (
                "cron:0 * * * * *",
                "cron:0 * * * * *",
                r#"{"schedule":{"schedule":"0 * * * * *"}}"#,
            ),
            (
                "cron: @daily",
                "cron:@daily",
                r#"{"schedule":{"schedule":"@daily"}}"#,
            ),
            (
                "cron:TZ=Europe/Berlin  0 8 * * MON-FRI",
                "cron:TZ=Europe/Berlin 0 8 * * MON-FRI",
                "",
            ),
            ("request:foo", "request:foo", r#"{"request_path":{"path":"foo"}}"#),
            (
                "request:request:a/b",
                "request:a/b",
                r#"{"request_path":{"path":"a/b"}}"#,
            ),
            ("request:/x", "request:/x", r#"{"request_path":{"path":"/x"}}"#),
        ];
        for (given, canonical, json) in cases {
            let Ok(spec) = TriggerSpec::parse(given) else {
                // `every: every:…`: only prefixes that follow one another directly are stripped.
                assert_eq!(given, "every: every:1h 2m");
                continue;
            };
            assert_eq!(spec.to_string(), canonical, "{given}");
            assert_eq!(TriggerSpec::parse(canonical).as_ref(), Ok(&spec), "{given}");
            if !json.is_empty() {
                assert_eq!(spec.catalog_json(), json, "{given}");
            }
            let stored = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<TriggerSpec>(&stored).unwrap(), spec);
        }
    }

    #[test]
    fn errors_name_the_specification_and_the_reason() {
        let cases = [
            (
                "table:",
                "failed to parse trigger from table:: table name is empty",
            ),
            (
                " table:  ",
                "failed to parse trigger from table:: table name is empty",
            ),
            (
                "every:fast",
                "failed to parse trigger from every:fast: couldn't parse to duration",
            ),
            (
                "every:",
                "failed to parse trigger from every:: couldn't parse to duration",
            ),
            (
                "every:-1s",
                "failed to parse trigger from every:-1s: couldn't parse to duration",
            ),
            (
                "every:31557601s",
                "failed to parse trigger from every:31557601s: don't support every schedules of over 1 year",
            ),
            (
                "every:0s",
                "failed to parse trigger from every:0s: don't support every schedules of under 1 millisecond",
            ),
            (
                "every:999us",
                "failed to parse trigger from every:999us: don't support every schedules of under 1 millisecond",
            ),
            ("cron:", "failed to parse trigger from cron:"),
            ("cron:nonsense", "failed to parse trigger from cron:nonsense"),
            ("request:", "failed to parse trigger from request:"),
            ("request: ", "failed to parse trigger from request:"),
        ];
        for (given, message) in cases {
            assert_eq!(TriggerSpec::parse(given).unwrap_err().to_string(), message);
        }
        for given in ["", "tables:x", "TABLE:x", "All_tables", "all_tables x", "cpu"] {
            let message = format!("failed to parse trigger from {given}: {FORMS}");
            assert_eq!(TriggerSpec::parse(given).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn plugin_types_have_their_public_names() {
        for (given, name) in [
            ("table:x", "WalRows"),
            ("all_tables", "WalRows"),
            ("every:1s", "Schedule"),
            ("cron:@hourly", "Schedule"),
            ("request:x", "Request"),
        ] {
            assert_eq!(
                format!("{:?}", TriggerSpec::parse(given).unwrap().plugin_type()),
                name
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused_and_what_parses_round_trips(given in "(table:|every:|cron:|request:)?.{0,24}") {
            if let Ok(spec) = TriggerSpec::parse(&given) {
                prop_assert_eq!(TriggerSpec::parse(&spec.to_string()), Ok(spec));
            }
        }

        #[test]
        fn any_interval_in_range_round_trips(nanos in 1_000_000_u64..31_557_600_000_000_000) {
            let spec = TriggerSpec::Every(Duration::from_nanos(nanos));
            prop_assert_eq!(TriggerSpec::parse(&spec.to_string()), Ok(spec));
        }
    }
}
