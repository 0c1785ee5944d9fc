//! What plugins do for a living must work at every level.

use tidemill_sandbox::{Level, Measure, Profile};

use crate::child::{Place, SANDBOXED, run};

const WORK: &str = r#"
import asyncio, concurrent.futures, multiprocessing, ssl, subprocess, sqlite3, threading, time, uuid, zoneinfo
from multiprocessing import shared_memory

def square(number):
    return number * number

def program():
    assert subprocess.run(["sh", "-c", "exit 3"]).returncode == 3

def pool(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]

def threads():
    with concurrent.futures.ThreadPoolExecutor(32) as threads:
        assert sum(threads.map(square, range(100))) == 328350

async def program_in_a_loop():
    process = await asyncio.create_subprocess_exec("echo", "hello", stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert output == b"hello\n"

def shared():
    memory = shared_memory.SharedMemory(create=True, size=4096)
    memory.close()
    memory.unlink()

def database():
    with sqlite3.connect("other/database") as connection:
        connection.execute("create table t (x)")

attempt("program", program)
attempt("shell", os.system, "true")
attempt("fork", lambda: os.waitpid(os.fork() or os._exit(0), 0))
attempt("threads", threads)
attempt("fork pool", pool, "fork")
attempt("spawn pool", pool, "spawn")
attempt("fork server pool", pool, "forkserver")
attempt("event loop", asyncio.run, asyncio.to_thread(square, 3))
attempt("program in a loop", asyncio.run, program_in_a_loop())
attempt("shared memory", shared)
attempt("database", database)
attempt("memory file", os.memfd_create, "name")
attempt("identity", uuid.uuid1)
attempt("certificates", ssl.create_default_context)
attempt("timer", lambda: threading.Timer(0, square, [1]).start())
attempt("affinity", os.sched_getaffinity, 0)
attempt("clock", time.clock_gettime, time.CLOCK_MONOTONIC)
"#;

#[test]
fn plugins_work_at_every_level() {
    for level in [Level::Off, Level::Standard, Level::Strict] {
        let place = Place::new();
        let profile = Profile {
            level,
            memory_limit_bytes: Some(1 << 30),
            ..place.profile()
        };
        let ended = run(&profile, &place.script(WORK));
        let failed: Vec<&str> = ended
            .stdout
            .lines()
            .filter(|line| !line.ends_with(" ok"))
            .collect();
        assert_eq!(failed, [""; 0], "{level}: {}", ended.stderr);
        assert_eq!(ended.stdout.lines().count(), 17, "{level}: {}", ended.stderr);
    }
}

#[test]
fn a_sandbox_in_a_sandbox_hides_what_the_outer_one_hides() {
    let place = Place::new();
    let outer = place.profile();
    let script = format!(
        "import subprocess
for name in 'data/secret', 'beside':
    print(name, subprocess.run([{SANDBOXED:?}, {:?}, 'cat', name], capture_output=True).returncode)",
        outer.to_argument(),
    );
    let ended = run(&outer, &place.script(&script));
    if ended.lacks(Measure::HiddenPaths) {
        return;
    }
    ended.check(
        "data/secret 1
        beside 0",
    );
}
