//! What others took of the machine's CPU while we measured.

use std::fs;
use std::time::Instant;

use crate::process_info::{TICKS_PER_SECOND, cpu_seconds_of_tree};

/// From now on until asked.
pub(crate) struct Bystanders {
    started: Instant,
    machine_before_s: f64,
    own_before_s: f64,
}

impl Bystanders {
    pub(crate) fn watch() -> Self {
        Bystanders {
            started: Instant::now(),
            machine_before_s: busy_seconds(),
            own_before_s: own_seconds(),
        }
    }

    /// The cores that were busy on average with what neither we nor the processes that we started did; other guests
    /// of the same host count too.
    pub(crate) fn cores(&self) -> f64 {
        let machine_s = busy_seconds() - self.machine_before_s;
        let own_s = own_seconds() - self.own_before_s;
        ((machine_s - own_s) / self.started.elapsed().as_secs_f64()).max(0.0)
    }
}

/// This process and everything below it, ended children included.
fn own_seconds() -> f64 {
    cpu_seconds_of_tree(std::process::id())
}

/// CPU seconds of the whole machine in which a core was not idle.
fn busy_seconds() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    // proc(5): cpu user nice system idle iowait irq softirq steal …; guest time is part of user.
    let ticks: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let busy: u64 = [0, 1, 2, 5, 6, 7]
        .into_iter()
        .filter_map(|field| ticks.get(field))
        .sum();
    busy as f64 / TICKS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_been_busy() {
        assert!(busy_seconds() > 0.0);
        assert!(busy_seconds() >= own_seconds());
    }
}
