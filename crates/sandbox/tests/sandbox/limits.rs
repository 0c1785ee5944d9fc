//! Memory.

use tidemill_sandbox::{Measure, Profile, State, reserved_bytes};

use crate::child::run;

const LIMIT_BYTES: u64 = 256 << 20;

fn limited() -> Profile {
    Profile {
        memory_limit_bytes: Some(LIMIT_BYTES),
        ..Profile::default()
    }
}

#[test]
fn more_memory_than_allowed_is_an_error_in_python() {
    let bytes = LIMIT_BYTES + reserved_bytes();
    let ended = run(
        &limited(),
        &format!(
            r#"
import resource
print(*resource.getrlimit(resource.RLIMIT_DATA))
attempt("too much", bytearray, {bytes})
attempt("enough", bytearray, {LIMIT_BYTES})
attempt("raise", resource.setrlimit, resource.RLIMIT_STACK, resource.getrlimit(resource.RLIMIT_STACK))
"#
        ),
    );
    ended.check(&format!(
        "{bytes} {bytes}
        too much MemoryError
        enough ok
        raise ok"
    ));
    assert_eq!(ended.applied.state(Measure::MemoryLimit), State::InForce);
}

#[test]
fn what_libraries_reserve_is_not_taken_for_used() {
    let ended = run(
        &limited(),
        "import mmap
attempt('a gigabyte', mmap.mmap, -1, 1 << 30, flags=mmap.MAP_PRIVATE)",
    );
    ended.check("a gigabyte ok");
}

#[test]
fn another_user_than_the_wanted_one_is_told() {
    let own = rustix::process::getuid().as_raw();
    for (uid, state) in [(own, State::InForce), (own + 1, State::Failed)] {
        let profile = Profile {
            uid: Some(uid),
            ..Profile::default()
        };
        assert_eq!(run(&profile, "").applied.state(Measure::User), state);
    }
}
