//! The filters of system calls.
//!
//! A list of what is refused, not of what is allowed: what a plugin's libraries need is not known. A refusal must look like one
//! that programs know (`EPERM`, or `ENOSYS` where they have another way), never like a crash.

use std::collections::BTreeMap;
use std::io;

use libc::{c_int, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Is, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

use crate::applied::Outcome;
use crate::profile::Level;

/// Refused whatever the arguments: what changes the machine, its kernel or its clock, what gives another view of the file
/// system, what looks into other processes, and doors to the kernel that plugins do not go through.
const REFUSED: &[c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    SYS_OPEN_TREE_ATTR,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// The same, on this architecture: access to the ports of devices.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] = &[libc::SYS_ioperm, libc::SYS_iopl];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[c_long] = &[];

/// Newer than the library's table; new calls have one number on all architectures.
const SYS_OPEN_TREE_ATTR: c_long = 467;

/// Answered as on a kernel that does not have them, so that callers take the way they took before. `clone3` hides its flags
/// from the filter, and `io_uring` does anything without another system call.
const ABSENT: &[c_long] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
];

/// Flags of `clone` and `unshare` that make a namespace: in one of its own, a process is its own administrator, and reaches
/// much of the kernel that it otherwise would not.
const NAMESPACES: [c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Requests that type into a terminal, as if its user did.
const TYPING: [u64; 2] = [TIOCSTI, TIOCLINUX];

/// The type of these two in `libc` differs from one C library to another; the numbers do not.
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541C;

/// What has become of the measures that the filters stand for.
pub(crate) struct Filters {
    pub(crate) system_calls: Outcome,
    pub(crate) network: Outcome,
}

/// Installs the filters of a level. `landlock_abi` is the version that hides the paths, if they are hidden.
pub(crate) fn filter(level: Level, landlock_abi: Option<u32>) -> Filters {
    let system_calls = match level {
        Level::Off => Outcome::not_requested(),
        Level::Standard | Level::Strict => outcome(general(landlock_abi)),
    };
    let network = match level {
        Level::Off | Level::Standard => Outcome::not_requested(),
        Level::Strict => outcome(unix_sockets_only()),
    };
    Filters {
        system_calls,
        network,
    }
}

fn outcome(result: Result<(), FilterError>) -> Outcome {
    match result {
        Ok(()) => Outcome::in_force(""),
        Err(FilterError::Unsupported(reason)) => Outcome::unsupported(reason),
        Err(FilterError::Failed(reason)) => Outcome::failed(reason),
    }
}

fn general(landlock_abi: Option<u32>) -> Result<(), FilterError> {
    let refused = compile(refusals(landlock_abi)?, libc::EPERM)?;
    let absent = ABSENT.iter().map(|&call| (call, Vec::new())).collect();
    let absent = compile(absent, libc::ENOSYS)?;
    install(&[other_numbering(), refused].concat())?;
    install(&absent)
}

fn unix_sockets_only() -> Result<(), FilterError> {
    let other_family = all(&[(0, Width::Dword, Is::Ne, libc::AF_UNIX as u64)])?;
    let rules = BTreeMap::from([(libc::SYS_socket, vec![other_family])]);
    install(&compile(rules, libc::EACCES)?)
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn refusals(landlock_abi: Option<u32>) -> Result<Rules, BackendError> {
    let mut rules: Rules = REFUSED
        .iter()
        .chain(REFUSED_HERE)
        .map(|&call| (call, Vec::new()))
        .collect();
    if landlock_abi.is_some_and(|abi| abi < ABI_WITH_TRUNCATE) {
        // By path only: who has opened the file may truncate it.
        rules.insert(libc::SYS_truncate, Vec::new());
    }
    let mut refuse = |call: c_long, conditions: &[Condition]| -> Result<(), BackendError> {
        rules.entry(call).or_default().push(all(conditions)?);
        Ok(())
    };
    for flag in NAMESPACES {
        let bit = u64::from(flag as u32);
        refuse(libc::SYS_clone, &[(0, Width::Dword, Is::MaskedEq(bit), bit)])?;
        refuse(libc::SYS_unshare, &[(0, Width::Dword, Is::MaskedEq(bit), bit)])?;
    }
    let new_time = CLONE_NEWTIME;
    refuse(
        libc::SYS_unshare,
        &[(0, Width::Dword, Is::MaskedEq(new_time), new_time)],
    )?;
    for request in TYPING {
        refuse(libc::SYS_ioctl, &[(1, Width::Dword, Is::Eq, request)])?;
    }
    // Limits of other processes: to set them takes no more than to be the same user.
    refuse(
        libc::SYS_prlimit64,
        &[(0, Width::Dword, Is::Ne, 0), (2, Width::Qword, Is::Ne, 0)],
    )?;
    for device in [libc::S_IFCHR, libc::S_IFBLK] {
        let kind = Is::MaskedEq(u64::from(libc::S_IFMT));
        refuse(
            libc::SYS_mknodat,
            &[(2, Width::Dword, kind.clone(), u64::from(device))],
        )?;
        #[cfg(target_arch = "x86_64")]
        refuse(libc::SYS_mknod, &[(1, Width::Dword, kind, u64::from(device))])?;
    }
    Ok(rules)
}

/// Truncation by path is what Landlock has known since this version.
const ABI_WITH_TRUNCATE: u32 = 3;

/// `unshare` alone has it: in `clone` the bit belongs to the signal.
const CLONE_NEWTIME: u64 = 0x80;

/// The number of an argument, how much of it counts, and what it is compared with.
type Condition = (u8, Width, Is, u64);

fn all(conditions: &[Condition]) -> Result<SeccompRule, BackendError> {
    let conditions: Result<Vec<_>, _> = conditions
        .iter()
        .map(|(argument, width, is, value)| {
            SeccompCondition::new(*argument, width.clone(), is.clone(), *value)
        })
        .collect();
    SeccompRule::new(conditions?)
}

fn compile(rules: Rules, errno: c_int) -> Result<BpfProgram, FilterError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| FilterError::Unsupported(format!("no filter for {}", std::env::consts::ARCH)))?;
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        architecture,
    )?;
    Ok(filter.try_into()?)
}

/// Some kernels for `x86_64` have every call a second time, by numbers that have this bit (x32). No program of ours uses them,
/// and the rules do not know them: they are answered as on a kernel without.
fn other_numbering() -> BpfProgram {
    const SECOND_NUMBERING: u32 = 0x4000_0000;
    const NUMBER_OFFSET: u32 = 0;
    if cfg!(not(target_arch = "x86_64")) {
        return BpfProgram::new();
    }
    let step = |code: u32, k: u32, otherwise: u8| sock_filter {
        code: code as u16,
        jt: 0,
        jf: otherwise,
        k,
    };
    vec![
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER_OFFSET, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, SECOND_NUMBERING, 1),
        step(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
            0,
        ),
    ]
}

/// Hands a program to the kernel, which needs `no_new_privs`.
fn install(program: &[sock_filter]) -> Result<(), FilterError> {
    let header = libc::sock_fprog {
        len: program.len() as u16,
        // The same structure under another name; the kernel only reads it.
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // Nothing inside the process is secret to the plugin, and kernels before 5.16 would slow down all code in it for the
    // case that something is.
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the header and the program live until the call returns, and the kernel copies them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const header,
        )
    };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EINVAL) => {
            FilterError::Unsupported("this kernel has no filters of system calls".to_owned())
        }
        _ => FilterError::Failed(format!("seccomp: {error}")),
    })
}

enum FilterError {
    Unsupported(String),
    Failed(String),
}

impl From<BackendError> for FilterError {
    fn from(error: BackendError) -> Self {
        Self::Failed(format!("seccomp: {error}"))
    }
}
