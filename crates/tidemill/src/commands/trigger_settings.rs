//! The options of `create trigger` and `update trigger` that say how a trigger runs.

use std::{fmt::Display, num::NonZeroU16, num::NonZeroU32, str::FromStr};

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};
use tidemill_triggers::{ByteSize, CatchUp, Methods, SettingError, SettingsPatch, parse_run_timeout};

use crate::failure::CommandError;

/// What stands for the server's own setting.
const DEFAULT: &str = "default";

/// Each is a JSON value as the server takes it, `null` for its default.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits and delivery (\"default\": as the server has it)")]
pub(crate) struct SettingArgs {
    /// Longest duration of a run, for example 30s
    #[arg(long, value_parser = run_timeout, value_name = "DURATION")]
    run_timeout: Option<Value>,

    /// Memory above which the plugin's process is killed, for example 256MB
    #[arg(long, value_parser = setting::<ByteSize>, value_name = "SIZE")]
    memory_limit: Option<Value>,

    /// Runs in flight at once, where runs may overlap
    #[arg(long, value_parser = number::<NonZeroU16>, value_name = "N")]
    async_trigger_concurrency_limit: Option<Value>,

    /// Attempts at a run that fails, with --error-behavior retry; then it becomes a dead letter
    #[arg(long, value_parser = number::<NonZeroU32>, value_name = "N")]
    max_attempts: Option<Value>,

    /// Missed instants of a schedule to run: none, latest, all
    #[arg(long, value_parser = setting::<CatchUp>, value_name = "WHICH")]
    catch_up: Option<Value>,

    /// Processes that answer the requests of a request: trigger
    #[arg(long, value_parser = number::<NonZeroU16>, value_name = "N")]
    workers: Option<Value>,

    /// HTTP methods that a request: trigger answers; GET and POST if not given
    #[arg(long, value_parser = setting::<Methods>, value_name = "METHOD,…")]
    methods: Option<Value>,

    /// What a run may give back, its answer and its writes, for example 64MB
    #[arg(long, value_parser = setting::<ByteSize>, value_name = "SIZE")]
    output_limit: Option<Value>,

    /// What is kept of the plugin's log, on average a second, for example 16KB
    #[arg(long, value_parser = setting::<ByteSize>, value_name = "SIZE")]
    log_limit: Option<Value>,
}

impl SettingArgs {
    /// What is to be set, by the names of the settings in JSON.
    pub(crate) fn fields(&self) -> Map<String, Value> {
        let given = [
            ("run_timeout", &self.run_timeout),
            ("memory_limit", &self.memory_limit),
            ("async_concurrency_limit", &self.async_trigger_concurrency_limit),
            ("max_attempts", &self.max_attempts),
            ("catch_up", &self.catch_up),
            ("workers", &self.workers),
            ("methods", &self.methods),
            ("output_limit", &self.output_limit),
            ("log_limit", &self.log_limit),
        ];
        let fields = given
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        fields.collect()
    }
}

/// Checks the fields together.
pub(crate) fn patch(fields: Map<String, Value>) -> Result<SettingsPatch, CommandError> {
    SettingsPatch::new(fields).map_err(|error| CommandError::Usage(error.to_string()))
}

/// An option that a trigger of this type does not have.
pub(crate) fn misplaced(error: SettingError) -> CommandError {
    let option = match error.setting {
        "async_concurrency_limit" => "async-trigger-concurrency-limit".to_owned(),
        setting => setting.replace('_', "-"),
    };
    CommandError::Usage(format!("the option '--{option}' is for {}", error.purpose))
}

fn run_timeout(text: &str) -> Result<Value, String> {
    if text == DEFAULT {
        return Ok(Value::Null);
    }
    parse_run_timeout(text)
        .map(|_| Value::from(text))
        .map_err(|error| error.to_string())
}

fn setting<T>(text: &str) -> Result<Value, String>
where
    T: FromStr<Err: Display> + Serialize,
{
    if text == DEFAULT {
        return Ok(Value::Null);
    }
    let value: T = text.parse().map_err(|error: T::Err| error.to_string())?;
    serde_json::to_value(value).map_err(|error| error.to_string())
}

fn number<T>(text: &str) -> Result<Value, String>
where
    T: FromStr<Err: Display> + Serialize,
{
    // The standard library's texts are about types.
    setting::<T>(text).map_err(|_| format!("expected a number of 1 or more, or {DEFAULT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_server() {
        assert_eq!(setting::<ByteSize>("256MB"), Ok("256MiB".into()));
        assert_eq!(setting::<Methods>("put,GET"), Ok("GET,PUT".into()));
        assert_eq!(setting::<CatchUp>("default"), Ok(Value::Null));
        assert_eq!(number::<NonZeroU16>("3"), Ok(3.into()));
        assert_eq!(run_timeout("90s"), Ok("90s".into()));
        assert_eq!(run_timeout("default"), Ok(Value::Null));
        for refused in [
            setting::<ByteSize>("much"),
            setting::<Methods>("GET,LOOK"),
            setting::<CatchUp>("some"),
            number::<NonZeroU16>("0"),
            number::<NonZeroU16>("65536"),
            run_timeout("0s"),
            run_timeout("soon"),
        ] {
            assert!(refused.is_err(), "{refused:?}");
        }
    }
}
