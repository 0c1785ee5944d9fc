//! Every environment variable that the program reads.
//!
//! The names are those of the interface, `INFLUXDB3_*`. Each is also read as `TIDEMILL_*`, which takes precedence, and
//! some under an older name, which comes last. Flags take precedence over all of them.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::Path,
};

use clap::{Arg, Command};

pub(crate) const HOST_URL: &str = "INFLUXDB3_HOST_URL";
pub(crate) const QUERY_HOST_URL: &str = "INFLUXDB3_QUERY_HOST_URL";
pub(crate) const WRITE_HOST_URL: &str = "INFLUXDB3_WRITE_HOST_URL";
pub(crate) const DATABASE_NAME: &str = "INFLUXDB3_DATABASE_NAME";
pub(crate) const AUTH_TOKEN: &str = "INFLUXDB3_AUTH_TOKEN";
pub(crate) const TLS_CA: &str = "INFLUXDB3_TLS_CA";
pub(crate) const TLS_NO_VERIFY: &str = "INFLUXDB3_TLS_NO_VERIFY";

pub(crate) const NODE_ID: &str = "INFLUXDB3_NODE_ID";
pub(crate) const NODE_ID_FROM_ENV: &str = "INFLUXDB3_NODE_ID_FROM_ENV";
pub(crate) const OBJECT_STORE: &str = "INFLUXDB3_OBJECT_STORE";
pub(crate) const DATA_DIR: &str = "INFLUXDB3_DATA_DIR";
pub(crate) const BUCKET: &str = "INFLUXDB3_BUCKET";
pub(crate) const AWS_ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
pub(crate) const AWS_SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
pub(crate) const AWS_DEFAULT_REGION: &str = "AWS_DEFAULT_REGION";
pub(crate) const AWS_ENDPOINT: &str = "AWS_ENDPOINT";
pub(crate) const AWS_SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
pub(crate) const AWS_ALLOW_HTTP: &str = "AWS_ALLOW_HTTP";
pub(crate) const AWS_SKIP_SIGNATURE: &str = "AWS_SKIP_SIGNATURE";
pub(crate) const AWS_CREDENTIALS_FILE: &str = "AWS_CREDENTIALS_FILE";
pub(crate) const GOOGLE_SERVICE_ACCOUNT: &str = "GOOGLE_SERVICE_ACCOUNT";
pub(crate) const AZURE_STORAGE_ACCOUNT: &str = "AZURE_STORAGE_ACCOUNT";
pub(crate) const AZURE_STORAGE_ACCESS_KEY: &str = "AZURE_STORAGE_ACCESS_KEY";
pub(crate) const AZURE_ENDPOINT: &str = "AZURE_ENDPOINT";
pub(crate) const AZURE_ALLOW_HTTP: &str = "AZURE_ALLOW_HTTP";
pub(crate) const OBJECT_STORE_CONNECTION_LIMIT: &str = "INFLUXDB3_OBJECT_STORE_CONNECTION_LIMIT";
pub(crate) const OBJECT_STORE_HTTP2_ONLY: &str = "INFLUXDB3_OBJECT_STORE_HTTP2_ONLY";
pub(crate) const OBJECT_STORE_HTTP2_MAX_FRAME_SIZE: &str = "INFLUXDB3_OBJECT_STORE_HTTP2_MAX_FRAME_SIZE";
pub(crate) const OBJECT_STORE_REQUEST_TIMEOUT: &str = "INFLUXDB3_OBJECT_STORE_REQUEST_TIMEOUT";
pub(crate) const OBJECT_STORE_MAX_RETRIES: &str = "INFLUXDB3_OBJECT_STORE_MAX_RETRIES";
pub(crate) const OBJECT_STORE_RETRY_TIMEOUT: &str = "INFLUXDB3_OBJECT_STORE_RETRY_TIMEOUT";
pub(crate) const OBJECT_STORE_CACHE_ENDPOINT: &str = "INFLUXDB3_OBJECT_STORE_CACHE_ENDPOINT";
pub(crate) const OBJECT_STORE_TLS_ALLOW_INSECURE: &str = "INFLUXDB3_OBJECT_STORE_TLS_ALLOW_INSECURE";
pub(crate) const OBJECT_STORE_TLS_CA: &str = "INFLUXDB3_OBJECT_STORE_TLS_CA";
pub(crate) const HTTP_BIND_ADDR: &str = "INFLUXDB3_HTTP_BIND_ADDR";
pub(crate) const WITHOUT_AUTH: &str = "INFLUXDB3_WITHOUT_AUTH";
pub(crate) const MAX_HTTP_REQUEST_SIZE: &str = "INFLUXDB3_MAX_HTTP_REQUEST_SIZE";
pub(crate) const SHUTDOWN_TIMEOUT: &str = "INFLUXDB3_SHUTDOWN_TIMEOUT";
pub(crate) const TCP_LISTENER_FILE_PATH: &str = "INFLUXDB3_TCP_LISTENER_FILE_PATH";
pub(crate) const WAL_FLUSH_INTERVAL: &str = "INFLUXDB3_WAL_FLUSH_INTERVAL";
pub(crate) const FORCE_SNAPSHOT_MEM_THRESHOLD: &str = "INFLUXDB3_FORCE_SNAPSHOT_MEM_THRESHOLD";
pub(crate) const WAL_SNAPSHOT_SIZE: &str = "INFLUXDB3_WAL_SNAPSHOT_SIZE";
pub(crate) const SNAPSHOT_CONCURRENCY_LIMIT: &str = "INFLUXDB3_SNAPSHOT_CONCURRENCY_LIMIT";
pub(crate) const SNAPSHOTTED_WAL_FILES_TO_KEEP: &str = "INFLUXDB3_SNAPSHOTTED_WAL_FILES_TO_KEEP";
pub(crate) const TRIGGER_BACKLOG_LIMIT: &str = "INFLUXDB3_TRIGGER_BACKLOG_LIMIT";
pub(crate) const HARD_DELETE_DEFAULT_DURATION: &str = "INFLUXDB3_HARD_DELETE_DEFAULT_DURATION";
pub(crate) const DELETE_GRACE_PERIOD: &str = "INFLUXDB3_DELETE_GRACE_PERIOD";
pub(crate) const EXEC_MEM_POOL_BYTES: &str = "INFLUXDB3_EXEC_MEM_POOL_BYTES";
pub(crate) const QUERY_TIMEOUT: &str = "INFLUXDB3_QUERY_TIMEOUT";
pub(crate) const PLUGIN_DIR: &str = "INFLUXDB3_PLUGIN_DIR";
pub(crate) const VIRTUAL_ENV: &str = "VIRTUAL_ENV";
pub(crate) const PACKAGE_MANAGER: &str = "INFLUXDB3_PACKAGE_MANAGER";
pub(crate) const PLUGIN_REPO: &str = "INFLUXDB3_PLUGIN_REPO";
pub(crate) const PLUGIN_LOG_RETENTION: &str = "INFLUXDB3_PLUGIN_LOG_RETENTION";
pub(crate) const PLUGIN_ENV: &str = "INFLUXDB3_PLUGIN_ENV";
pub(crate) const RESTRICT_PLUGIN_TRIGGERS_TO: &str = "INFLUXDB3_RESTRICT_PLUGIN_TRIGGERS_TO";
pub(crate) const ASYNC_TRIGGER_CONCURRENCY_LIMIT: &str = "INFLUXDB3_ASYNC_TRIGGER_CONCURRENCY_LIMIT";
pub(crate) const RUN_TIMEOUT: &str = "INFLUXDB3_RUN_TIMEOUT";
pub(crate) const MAX_ATTEMPTS: &str = "INFLUXDB3_MAX_ATTEMPTS";
pub(crate) const MAX_TRIGGER_DEPTH: &str = "INFLUXDB3_MAX_TRIGGER_DEPTH";
pub(crate) const MEMORY_LIMIT: &str = "INFLUXDB3_MEMORY_LIMIT";
pub(crate) const OUTPUT_LIMIT: &str = "INFLUXDB3_OUTPUT_LIMIT";
pub(crate) const PLUGIN_LOG_LIMIT: &str = "INFLUXDB3_PLUGIN_LOG_LIMIT";
pub(crate) const CATCH_UP: &str = "INFLUXDB3_CATCH_UP";
pub(crate) const PLUGIN_SANDBOX: &str = "INFLUXDB3_PLUGIN_SANDBOX";
pub(crate) const PLUGIN_USER: &str = "INFLUXDB3_PLUGIN_USER";
pub(crate) const DISABLE_TELEMETRY_UPLOAD: &str = "INFLUXDB3_TELEMETRY_DISABLE_UPLOAD";
pub(crate) const LOG_FILTER: &str = "INFLUXDB3_LOG_FILTER";

/// Names under which a variable is read when it is not set under its own.
const OLDER_NAMES: [(&str, &str); 17] = [
    (NODE_ID, "INFLUXDB3_NODE_IDENTIFIER_PREFIX"),
    (NODE_ID_FROM_ENV, "INFLUXDB3_NODE_IDENTIFIER_FROM_ENV"),
    (DATA_DIR, "INFLUXDB3_DB_DIR"),
    (WITHOUT_AUTH, "INFLUXDB3_START_WITHOUT_AUTH"),
    (EXEC_MEM_POOL_BYTES, "INFLUXDB3_EXEC_MEM_POOL_SIZE"),
    (SNAPSHOTTED_WAL_FILES_TO_KEEP, "INFLUXDB3_NUM_WAL_FILES_TO_KEEP"),
    (FORCE_SNAPSHOT_MEM_THRESHOLD, "INFLUXDB3_FORCE_SNAPSHOT_MEM_SIZE"),
    (LOG_FILTER, "LOG_FILTER"),
    (OBJECT_STORE_CONNECTION_LIMIT, "OBJECT_STORE_CONNECTION_LIMIT"),
    (OBJECT_STORE_HTTP2_ONLY, "OBJECT_STORE_HTTP2_ONLY"),
    (
        OBJECT_STORE_HTTP2_MAX_FRAME_SIZE,
        "OBJECT_STORE_HTTP2_MAX_FRAME_SIZE",
    ),
    (OBJECT_STORE_REQUEST_TIMEOUT, "OBJECT_STORE_REQUEST_TIMEOUT"),
    (OBJECT_STORE_MAX_RETRIES, "OBJECT_STORE_MAX_RETRIES"),
    (OBJECT_STORE_RETRY_TIMEOUT, "OBJECT_STORE_RETRY_TIMEOUT"),
    (OBJECT_STORE_CACHE_ENDPOINT, "OBJECT_STORE_CACHE_ENDPOINT"),
    (OBJECT_STORE_TLS_ALLOW_INSECURE, "OBJECT_STORE_TLS_ALLOW_INSECURE"),
    (OBJECT_STORE_TLS_CA, "OBJECT_STORE_TLS_CA"),
];

const PREFIX: &str = "INFLUXDB3_";
const OWN_PREFIX: &str = "TIDEMILL_";

/// Sets the variables that a `.env` file in the working directory names and the environment does not. Called before
/// there are threads.
pub(crate) fn load_dotenv() -> Result<(), String> {
    let path = Path::new(".env");
    if !path.is_file() {
        return Ok(());
    }
    dotenvy::from_path(path).map_err(|error| format!("cannot read .env in the working directory: {error}"))
}

/// Makes every argument of a command and of its subcommands read its variable under the name it is set.
pub(crate) fn with_all_names(command: Command) -> Command {
    let mut command = command.mut_args(with_name_set);
    let subcommands: Vec<String> = command
        .get_subcommands()
        .map(|subcommand| subcommand.get_name().to_owned())
        .collect();
    for name in subcommands {
        command = command.mut_subcommand(name, with_all_names);
    }
    command
}

fn with_name_set(argument: Arg) -> Arg {
    let Some(name) = argument.get_env().and_then(OsStr::to_str) else {
        return argument;
    };
    match name_set(name, |name| env::var_os(name)) {
        // The parser keeps names for ever; there is one a variable that is set under another name.
        Some(set) if set != name => argument.env(&*set.leak()),
        _ => argument,
    }
}

/// The first of a variable's names that has a value.
fn name_set(name: &str, value: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    let own = name
        .strip_prefix(PREFIX)
        .map(|rest| format!("{OWN_PREFIX}{rest}"));
    let older = OLDER_NAMES
        .iter()
        .find(|(current, _)| *current == name)
        .map(|(_, older)| (*older).to_owned());
    [own, Some(name.to_owned()), older]
        .into_iter()
        .flatten()
        .find(|name| value(name).is_some_and(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(set: &[&str], name: &str, expected: Option<&str>) {
        let value = |name: &str| set.contains(&name).then(|| OsString::from("x"));
        assert_eq!(name_set(name, value).as_deref(), expected, "{set:?}");
    }

    #[test]
    fn the_own_name_wins_and_the_older_one_comes_last() {
        check(&[], DATA_DIR, None);
        check(&["INFLUXDB3_DB_DIR"], DATA_DIR, Some("INFLUXDB3_DB_DIR"));
        check(
            &["INFLUXDB3_DB_DIR", "INFLUXDB3_DATA_DIR"],
            DATA_DIR,
            Some("INFLUXDB3_DATA_DIR"),
        );
        check(
            &["TIDEMILL_DATA_DIR", "INFLUXDB3_DATA_DIR"],
            DATA_DIR,
            Some("TIDEMILL_DATA_DIR"),
        );
        check(&["LOG_FILTER"], LOG_FILTER, Some("LOG_FILTER"));
        check(&["VIRTUAL_ENV"], VIRTUAL_ENV, Some("VIRTUAL_ENV"));
    }

    #[test]
    fn a_variable_without_a_value_is_not_set() {
        let value = |name: &str| Some(OsString::from(if name == DATA_DIR { "x" } else { "" }));
        assert_eq!(name_set(DATA_DIR, value).as_deref(), Some(DATA_DIR));
    }
}
