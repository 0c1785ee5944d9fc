//! The environment variables that plugins see.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::PluginUser;

/// Variables that the server reads credentials from: whole names.
const CREDENTIAL_NAMES: [&str; 2] = ["INFLUXDB3_ADMIN_TOKEN_FILE", "TIDEMILL_ADMIN_TOKEN_FILE"];

/// The same: beginnings of names. All variables of the cloud stores, since their libraries read many.
const CREDENTIAL_PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// The same: the server's own variables whose name has this in it.
const CREDENTIAL_WORD: &str = "TOKEN";
const OWN_PREFIXES: [&str; 2] = ["INFLUXDB3_", "TIDEMILL_"];

/// Variables that would change how the worker's interpreter starts.
const INTERPRETER_NAMES: [&str; 3] = ["PYTHONDONTWRITEBYTECODE", "PYTHONHOME", "PYTHONSTARTUP"];

/// What a worker's environment is made from.
#[derive(Debug, Clone)]
pub struct EnvironmentOptions {
    /// Directory of the virtual environment.
    pub virtual_env: PathBuf,
    /// The plugin directory.
    pub plugin_dir: PathBuf,
    /// Names of variables that are passed on although the server reads credentials from them (`--plugin-env`).
    pub passed: Vec<String>,
    /// Who the process runs as; `None` for the server's own user.
    pub user: Option<Arc<PluginUser>>,
}

/// The variables for worker processes, made from those of this process (`spec/engine.md` 0.21): all but those that the
/// server reads credentials from, with the virtual environment active.
pub fn worker_environment(options: &EnvironmentOptions) -> Vec<(OsString, OsString)> {
    scrubbed(env::vars_os(), options)
}

fn scrubbed(
    variables: impl Iterator<Item = (OsString, OsString)>,
    options: &EnvironmentOptions,
) -> Vec<(OsString, OsString)> {
    let mut search_path = None;
    let mut kept: Vec<(OsString, OsString)> = Vec::new();
    let mut set = vec![
        ("VIRTUAL_ENV", options.virtual_env.as_os_str()),
        ("PLUGIN_DIR", options.plugin_dir.as_os_str()),
        ("INFLUXDB3_PLUGIN_DIR", options.plugin_dir.as_os_str()),
        ("PYTHONUNBUFFERED", OsStr::new("1")),
        ("PYTHONFAULTHANDLER", OsStr::new("1")),
    ];
    if let Some(user) = &options.user {
        let name = OsStr::new(user.name());
        set.extend([
            ("HOME", user.home().as_os_str()),
            ("USER", name),
            ("LOGNAME", name),
        ]);
    }
    for (name, value) in variables {
        if name == "PATH" {
            search_path = Some(value);
            continue;
        }
        let is_set_below = set.iter().any(|(set, _)| name == *set);
        if !is_set_below && is_passed(&name, &options.passed) {
            kept.push((name, value));
        }
    }
    kept.extend(
        set.into_iter()
            .map(|(name, value)| (name.into(), value.to_owned())),
    );
    kept.push((
        "PATH".into(),
        path_with(&options.virtual_env, search_path.as_deref()),
    ));
    kept
}

fn is_passed(name: &OsStr, passed: &[String]) -> bool {
    // Every name in the lists is text, so one that is not is none of them.
    let Some(name) = name.to_str() else {
        return true;
    };
    if INTERPRETER_NAMES.contains(&name) {
        return false;
    }
    passed.iter().any(|passed| passed == name) || !holds_credentials(name)
}

fn holds_credentials(name: &str) -> bool {
    let is_own = OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    CREDENTIAL_NAMES.contains(&name)
        || CREDENTIAL_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || (is_own && name.contains(CREDENTIAL_WORD))
}

fn path_with(virtual_env: &Path, rest: Option<&OsStr>) -> OsString {
    let mut path = virtual_env.join("bin").into_os_string();
    if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
        path.push(":");
        path.push(rest);
    }
    path
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn scrub(variables: &[(&str, &str)], passed: &[&str]) -> BTreeMap<String, String> {
        let options = EnvironmentOptions {
            virtual_env: "/plugins/venv".into(),
            plugin_dir: "/plugins".into(),
            passed: passed.iter().map(|&name| name.to_owned()).collect(),
            user: None,
        };
        let variables = variables
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        scrubbed(variables, &options)
            .into_iter()
            .map(|(name, value)| (name.into_string().unwrap(), value.into_string().unwrap()))
            .collect()
    }

    #[test]
    fn credentials_go_and_everything_else_stays() {
        let environment = scrub(
            &[
                ("INFLUXDB3_AUTH_TOKEN", "secret"),
                ("TIDEMILL_AUTH_TOKEN", "secret"),
                ("TIDEMILL_ADMIN_TOKEN_FILE", "secret"),
                ("INFLUXDB3_ENTERPRISE_TOKEN_2", "secret"),
                ("AWS_SECRET_ACCESS_KEY", "secret"),
                ("AZURE_STORAGE_ACCESS_KEY", "secret"),
                ("GOOGLE_SERVICE_ACCOUNT", "secret"),
                ("SLACK_TOKEN", "the plugin's own"),
                ("INFLUXDB3_HTTP_BIND_ADDR", "127.0.0.1:8181"),
                ("HOME", "/root"),
            ],
            &[],
        );
        assert!(!environment.values().any(|value| value == "secret"));
        assert_eq!(environment["SLACK_TOKEN"], "the plugin's own");
        assert_eq!(environment["INFLUXDB3_HTTP_BIND_ADDR"], "127.0.0.1:8181");
        assert_eq!(environment["HOME"], "/root");
    }

    #[test]
    fn a_named_credential_is_passed_on() {
        let variables = [
            ("AWS_REGION", "eu-central-1"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        let environment = scrub(&variables, &["AWS_REGION"]);
        assert_eq!(environment["AWS_REGION"], "eu-central-1");
        assert!(!environment.contains_key("AWS_SECRET_ACCESS_KEY"));
    }

    #[test]
    fn the_virtual_environment_is_active() {
        let environment = scrub(
            &[
                ("PATH", "/usr/bin:/bin"),
                ("VIRTUAL_ENV", "/elsewhere"),
                ("PLUGIN_DIR", "/elsewhere"),
                ("PYTHONHOME", "/usr"),
                ("PYTHONDONTWRITEBYTECODE", "1"),
            ],
            &[],
        );
        assert_eq!(environment["PATH"], "/plugins/venv/bin:/usr/bin:/bin");
        assert_eq!(environment["VIRTUAL_ENV"], "/plugins/venv");
        assert_eq!(environment["PLUGIN_DIR"], "/plugins");
        assert_eq!(environment["INFLUXDB3_PLUGIN_DIR"], "/plugins");
        assert_eq!(environment["PYTHONUNBUFFERED"], "1");
        assert_eq!(environment["PYTHONFAULTHANDLER"], "1");
        assert!(!environment.contains_key("PYTHONHOME"));
        assert!(!environment.contains_key("PYTHONDONTWRITEBYTECODE"));
    }

    #[test]
    fn without_a_search_path_there_is_that_of_the_virtual_environment() {
        assert_eq!(scrub(&[("PATH", "")], &[])["PATH"], "/plugins/venv/bin");
        assert_eq!(scrub(&[], &[])["PATH"], "/plugins/venv/bin");
    }
}
