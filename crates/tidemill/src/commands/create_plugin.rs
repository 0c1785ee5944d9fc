//! `create plugin`: a plugin to start from, as a file on this machine.

use std::{fs, io::Write, path::PathBuf};

use clap::{Args, ValueEnum};

use crate::{failure::CommandError, print};

const PLUGIN_HELP: &str = "\
The file says how to try it and how to let it run.

Examples:
  tidemill create plugin alert --type writes
  tidemill create plugin report --type schedule --dir ./plugins";

/// What a skeleton calls the plugin.
const PLACEHOLDER: &str = "NAME";

#[derive(Debug, Args)]
#[command(after_help = PLUGIN_HELP)]
pub(crate) struct PluginArgs {
    /// Name of the plugin: letters, digits and underscores, not first a digit
    #[arg(value_parser = parse_name)]
    name: String,

    /// What it runs on
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    plugin_type: PluginKind,

    /// Directory to write it to
    #[arg(long, default_value = ".", value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PluginKind {
    /// Data that is written
    Writes,
    /// A schedule
    Schedule,
    /// HTTP requests
    Request,
}

impl PluginKind {
    fn skeleton(self) -> &'static str {
        match self {
            Self::Writes => include_str!("../skeletons/writes.py"),
            Self::Schedule => include_str!("../skeletons/schedule.py"),
            Self::Request => include_str!("../skeletons/request.py"),
        }
    }
}

impl PluginArgs {
    pub(crate) fn run(self) -> Result<(), CommandError> {
        let path = self.dir.join(format!("{}.py", self.name));
        let text = self.plugin_type.skeleton().replace(PLACEHOLDER, &self.name);
        // Never over a file that somebody has written.
        let mut file = fs::File::create_new(&path).map_err(CommandError::file(&path))?;
        file.write_all(text.as_bytes())
            .map_err(CommandError::file(&path))?;
        print::line(&format!(
            "Plugin {} created in {}; its first lines say how to try it",
            self.name,
            path.display()
        ))
    }
}

/// The name is that of a Python module, a trigger and a table.
fn parse_name(text: &str) -> Result<String, String> {
    let is_letter = |character: char| character.is_ascii_alphabetic() || character == '_';
    if text.starts_with(is_letter)
        && text
            .chars()
            .all(|character| is_letter(character) || character.is_ascii_digit())
    {
        return Ok(text.to_owned());
    }
    Err("use letters, digits and underscores, not first a digit; the ending .py is added".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_modules() {
        for good in ["a", "_a1", "Alert_2"] {
            assert_eq!(parse_name(good).unwrap(), good);
        }
        for bad in ["", "1a", "a-b", "a.py", "../a", "a b", "ä"] {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
    }
}
