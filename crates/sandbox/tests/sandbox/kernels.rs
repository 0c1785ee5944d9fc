//! Kernels that lack something: a filter in front answers as they would.

use std::process::{Command, Stdio};

use libc::c_long;
use tidemill_sandbox::{Level, Measure, Profile, State};

use crate::child::{Ended, Place, SANDBOXED, finish, python};

/// Makes one system call fail and becomes the program in the arguments.
const LACKING: &str = r#"
import ctypes, os, struct, sys
number, errno = int(sys.argv[1]), int(sys.argv[2])
program = b"".join(struct.pack("HBBI", *step) for step in [
    (0x20, 0, 0, 0),
    (0x15, 0, 1, number),
    (0x06, 0, 0, 0x00050000 | errno),
    (0x06, 0, 0, 0x7FFF0000),
])
code = ctypes.create_string_buffer(program, len(program))
header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 4, ctypes.addressof(code)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, header, 0, 0) == 0
os.execv(sys.argv[3], sys.argv[3:])
"#;

fn run_without(call: c_long, errno: i32, profile: &Profile) -> Ended {
    let child = Command::new(python())
        .args(["-c", LACKING, &call.to_string(), &errno.to_string(), SANDBOXED])
        .args([profile.to_argument().as_str(), "/bin/echo", "works"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ended = finish(child);
    ended.check("works");
    ended
}

fn strict(place: &Place) -> Profile {
    Profile {
        level: Level::Strict,
        ..place.profile()
    }
}

#[test]
fn a_kernel_without_landlock_is_told() {
    let place = Place::new();
    for (errno, reason) in [
        (libc::ENOSYS, "this kernel has no Landlock"),
        (
            libc::EOPNOTSUPP,
            "Landlock is not enabled; boot with `landlock` in lsm=",
        ),
    ] {
        let ended = run_without(libc::SYS_landlock_create_ruleset, errno, &strict(&place));
        let lacking: Vec<Measure> = ended.applied.shortfalls().map(|report| report.measure).collect();
        assert_eq!(
            lacking,
            [Measure::HiddenPaths, Measure::OtherProcesses, Measure::Signals]
        );
        for report in ended.applied.shortfalls() {
            assert_eq!((report.state, report.note.as_str()), (State::Unsupported, reason));
        }
        assert_eq!(ended.applied.state(Measure::Network), State::InForce);
    }
}

#[test]
fn a_kernel_that_refuses_landlock_is_told() {
    let place = Place::new();
    let ended = run_without(libc::SYS_landlock_restrict_self, libc::E2BIG, &place.profile());
    if ended.applied.state(Measure::HiddenPaths) == State::Unsupported {
        return;
    }
    assert_eq!(ended.applied.state(Measure::HiddenPaths), State::Failed);
    assert_eq!(ended.applied.state(Measure::Signals), State::Failed);
}

#[test]
fn a_kernel_without_filters_is_told() {
    let place = Place::new();
    let ended = run_without(libc::SYS_seccomp, libc::ENOSYS, &strict(&place));
    for measure in [Measure::SystemCalls, Measure::Network] {
        assert_eq!(ended.applied.state(measure), State::Unsupported);
    }
    assert!(
        ended
            .applied
            .to_string()
            .contains("system_calls (this kernel has no filters of system calls)"),
        "{}",
        ended.applied
    );
}
