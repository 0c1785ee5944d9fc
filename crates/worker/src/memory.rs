//! How much memory there is to share.

use std::fs;

/// Bytes of memory that this machine, or the container that the server runs in, has; `None` where the system does not
/// say.
pub fn machine_memory_bytes() -> Option<u64> {
    let of_machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| total_of(&text));
    let of_container = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    match (of_machine, of_container) {
        (Some(machine), Some(container)) => Some(u64::min(machine, container)),
        (machine, container) => machine.or(container),
    }
}

/// Resident memory of a process in bytes, or `None` for one that has ended.
pub fn resident_bytes_of(pid: u32) -> Option<u64> {
    bytes_after("VmRSS:", &fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// The total of `/proc/meminfo`, in bytes.
fn total_of(meminfo: &str) -> Option<u64> {
    bytes_after("MemTotal:", meminfo)
}

/// The value of a line of a file below `/proc`.
fn bytes_after(name: &str, text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read() {
        let text = "MemTotal:       24684988 kB\nMemFree:        20000000 kB\n";
        assert_eq!(total_of(text), Some(24_684_988 * 1024));
        assert_eq!(total_of("MemFree: 1 kB"), None);
        assert!(resident_bytes_of(std::process::id()).is_some_and(|bytes| bytes > 1 << 16));
        assert!(machine_memory_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
