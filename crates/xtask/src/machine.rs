//! What the figures were measured on.

use std::fs;
use std::thread::available_parallelism;

use serde::Serialize;

/// A machine, as far as it explains figures.
#[derive(Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_bytes: u64,
    system: String,
    kernel: String,
    /// Runnable processes over the last minute, before the measuring began: figures of a busy machine say little.
    load_average: f64,
}

impl Machine {
    pub(crate) fn describe() -> Self {
        let memory_kib = value_of("/proc/meminfo", "MemTotal:")
            .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0);
        Machine {
            cpu: value_of("/proc/cpuinfo", "model name").map_or_else(unknown, |text| {
                text.trim_start_matches([' ', '\t', ':']).to_owned()
            }),
            cores: available_parallelism().map_or(0, usize::from),
            memory_bytes: memory_kib * 1024,
            system: value_of("/etc/os-release", "PRETTY_NAME=")
                .map_or_else(unknown, |text| text.trim_matches('"').to_owned()),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |text| text.trim().to_owned()),
            load_average: fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|text| text.split_whitespace().next()?.parse().ok())
                .unwrap_or(0.0),
        }
    }

    pub(crate) fn in_a_line(&self) -> String {
        let gibibytes = self.memory_bytes as f64 / f64::from(1 << 30);
        format!(
            "{} cores, {}, {gibibytes:.0} GiB, {}, Linux {}",
            self.cores, self.cpu, self.system, self.kernel
        )
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// What follows `name` in the first line of `path` that begins with it.
fn value_of(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines()
        .find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
}
