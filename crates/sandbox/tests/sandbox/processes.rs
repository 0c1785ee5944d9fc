//! Other processes, and system calls.

use libc::c_long;
use tidemill_sandbox::{Level, Measure, Profile, State};

use crate::child::run;

#[test]
fn processes_outside_cannot_be_looked_into() {
    let ended = run(
        &Profile::default(),
        r#"
server = f"/proc/{os.getppid()}"
attempt("environment", read, f"{server}/environ")
attempt("memory", read, f"{server}/mem")
attempt("descriptors", os.readlink, f"{server}/fd/0")
attempt("files", read, f"{server}/root/etc/passwd")
attempt("itself", read, "/proc/self/environ")
attempt("own descriptors", os.listdir, "/proc/self/fd")
"#,
    );
    if ended.lacks(Measure::OtherProcesses) {
        return;
    }
    ended.check(
        "environment EACCES
        memory EACCES
        descriptors EACCES
        files EACCES
        itself ok
        own descriptors ok",
    );
}

#[test]
fn processes_outside_cannot_be_signalled() {
    let ended = run(
        &Profile::default(),
        r#"
import signal, subprocess, threading
attempt("server", os.kill, os.getppid(), 0)
child = subprocess.Popen(["sleep", "1000"])
attempt("child", child.terminate)
print("ended by", -child.wait())
attempt("itself", os.kill, os.getpid(), 0)
attempt("own thread", signal.pthread_kill, threading.get_ident(), 0)
"#,
    );
    if ended.lacks(Measure::Signals) {
        return;
    }
    ended.check(
        "server EPERM
        child ok
        ended by 15
        itself ok
        own thread ok",
    );
}

/// Calls with arguments that would do no harm if they went through, and what they have to fail with.
const CALLS: [(&str, c_long, &str, &str); 17] = [
    ("ptrace", libc::SYS_ptrace, "0, 0, 0, 0", "EPERM"),
    ("mount", libc::SYS_mount, "0, 0, 0, 0, 0", "EPERM"),
    ("umount2", libc::SYS_umount2, "0, 0", "EPERM"),
    ("chroot", libc::SYS_chroot, "0", "EPERM"),
    ("bpf", libc::SYS_bpf, "-1, 0, 0", "EPERM"),
    ("keyctl", libc::SYS_keyctl, "-1", "EPERM"),
    ("reboot", libc::SYS_reboot, "0, 0, 0, 0", "EPERM"),
    ("kexec_load", libc::SYS_kexec_load, "0, 0, 0, 0x8000", "EPERM"),
    ("init_module", libc::SYS_init_module, "0, 0, 0", "EPERM"),
    ("swapon", libc::SYS_swapon, "0, 0", "EPERM"),
    ("userfaultfd", libc::SYS_userfaultfd, "-1", "EPERM"),
    (
        "perf_event_open",
        libc::SYS_perf_event_open,
        "0, 0, 0, 0, 0",
        "EPERM",
    ),
    ("user namespace", libc::SYS_unshare, "0x10000000", "EPERM"),
    ("own descriptors", libc::SYS_unshare, "0x400", "ok"),
    ("clone3", libc::SYS_clone3, "0, 0", "ENOSYS"),
    ("io_uring_setup", libc::SYS_io_uring_setup, "0, 0", "ENOSYS"),
    ("getppid", libc::SYS_getppid, "", "ok"),
];

#[test]
fn dangerous_calls_fail() {
    let script: String = CALLS
        .iter()
        .map(|(name, number, arguments, _)| format!("attempt('{name}', call, {number}, {arguments})\n"))
        .collect();
    let expected: String = CALLS
        .iter()
        .map(|(name, _, _, outcome)| format!("{name} {outcome}\n"))
        .collect();
    let ended = run(&Profile::default(), &script);
    if ended.lacks(Measure::SystemCalls) {
        return;
    }
    ended.check(&expected);
}

#[test]
fn some_arguments_are_dangerous() {
    let script = format!(
        r#"
import fcntl, resource, stat, tempfile
terminal, _ = os.openpty()
attempt("type", fcntl.ioctl, terminal, {typing}, b"x")
attempt("size", fcntl.ioctl, terminal, {size}, bytes(8))
attempt("limits of the server", resource.prlimit, os.getppid(), resource.RLIMIT_CORE, (0, 0))
attempt("own limits", resource.setrlimit, resource.RLIMIT_CORE, (0, 0))
directory = tempfile.mkdtemp()
attempt("disk", os.mknod, directory + "/disk", stat.S_IFBLK | 0o600, os.makedev(8, 0))
attempt("fifo", os.mknod, directory + "/fifo", stat.S_IFIFO | 0o600)
"#,
        typing = libc::TIOCSTI,
        size = libc::TIOCGWINSZ,
    );
    let ended = run(&Profile::default(), &script);
    if ended.lacks(Measure::SystemCalls) {
        return;
    }
    ended.check(
        "type EPERM
        size ok
        limits of the server EPERM
        own limits ok
        disk EPERM
        fifo ok",
    );
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_second_numbering_is_no_way_round() {
    const SECOND_NUMBERING: c_long = 0x4000_0000;
    let script = format!(
        "attempt('socket', call, {}, 2, 1, 0)",
        SECOND_NUMBERING | libc::SYS_socket
    );
    let profile = Profile {
        level: Level::Strict,
        ..Profile::default()
    };
    run(&profile, &script).check("socket ENOSYS");
}

#[test]
fn nothing_can_be_taken_back() {
    let profile = Profile {
        memory_limit_bytes: Some(1 << 30),
        ..Profile::default()
    };
    let ended = run(
        &profile,
        r#"
import resource
attempt("nice", os.nice, -1)
attempt("memory", resource.setrlimit, resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2)
capabilities = next(int(line.split()[1], 16) for line in open("/proc/self/status") if line.startswith("CapEff"))
SYS_ADMIN, SYS_PTRACE, PERFMON = 21, 19, 38
print("administrator", any(capabilities >> number & 1 for number in (SYS_ADMIN, SYS_PTRACE, PERFMON)))
"#,
    );
    ended.check(
        "nice EPERM
        memory ValueError
        administrator False",
    );
    assert_eq!(ended.applied.state(Measure::Capabilities), State::InForce);
}

#[test]
fn what_is_in_force_can_be_read_back() {
    let script = r#"
for line in open("/proc/self/status"):
    if line.startswith(("NoNewPrivs", "Seccomp:")):
        print(*line.split())
print("oom", open("/proc/self/oom_score_adj").read().strip())
print("nice", os.getpriority(os.PRIO_PROCESS, 0))
"#;
    let ended = run(&Profile::default(), script);
    ended.check(
        "NoNewPrivs: 1
        Seccomp: 2
        oom 1000
        nice 5",
    );
    let off = Profile {
        level: Level::Off,
        nice: 7,
        oom_score_adj: 900,
        ..Profile::default()
    };
    let ended = run(&off, script);
    ended.check(
        "NoNewPrivs: 1
        Seccomp: 0
        oom 900
        nice 7",
    );
    assert_eq!(
        ended.applied.to_string(),
        "in force: no_new_privs, oom_score (900), nice (7)"
    );
    assert_eq!(ended.applied.state(Measure::SystemCalls), State::NotRequested);
}
