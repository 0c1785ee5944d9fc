//! `sandboxed PROFILE PROGRAM [ARGUMENT…]`: applies a profile to itself, writes the report as one line of JSON to the standard
//! error, and becomes the program. For the tests, and for trying out what a profile does to a program; it does not ship.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use tidemill_sandbox::Profile;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [profile, program, arguments @ ..] = arguments.as_slice() else {
        return refuse("usage: sandboxed PROFILE PROGRAM [ARGUMENT...]");
    };
    let profile = match Profile::from_argument(profile) {
        Ok(profile) => profile,
        Err(error) => return refuse(&format!("the profile is not one: {error}")),
    };
    let applied = profile.apply();
    let report = serde_json::to_string(&applied).unwrap_or_default();
    say(&report);
    let error = Command::new(program).args(arguments).exec();
    refuse(&format!("{program}: {error}"))
}

fn refuse(text: &str) -> ExitCode {
    say(text);
    ExitCode::from(2)
}

#[expect(clippy::print_stderr, reason = "a program for the command line")]
fn say(text: &str) {
    eprintln!("{text}");
}
