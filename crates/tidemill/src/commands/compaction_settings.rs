//! Options of `serve` about what becomes of files.

use std::time::Duration;

use clap::Args;
use tidemill_server::CompactionConfig;

use super::settings::parse_duration;
use crate::environment;

const HEADING: &str = "Storage";
/// More cores than any machine has.
const PERCENT_MAX: f64 = 100_000.0;

/// How small files become large ones, and old ones go.
#[derive(Debug, Args)]
pub(super) struct CompactionArgs {
    /// Part of one core that compaction takes while the machine is busy; idle cores it uses anyway; 0 leaves files as they are
    #[arg(long, env = environment::COMPACTION_CPU_SHARE, default_value = "25%", value_parser = parse_cpu_share, value_name = "SHARE", help_heading = HEADING)]
    compaction_cpu_share: f64,

    /// How often files are looked for whose rows have all expired; queries never see such rows
    #[arg(long, env = environment::RETENTION_CHECK_INTERVAL, default_value = "30m", value_parser = parse_duration, value_name = "DURATION", help_heading = HEADING)]
    retention_check_interval: Duration,
}

impl CompactionArgs {
    pub(super) fn config(self) -> CompactionConfig {
        CompactionConfig {
            cpu_share: self.compaction_cpu_share,
            retention_check_interval: self.retention_check_interval,
            ..CompactionConfig::default()
        }
    }
}

/// `25%` or `0.25`.
fn parse_cpu_share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    let number: Option<f64> = number.trim().parse().ok();
    number
        .map(|number| number / unit)
        .filter(|share| (0.0..=PERCENT_MAX / 100.0).contains(share))
        .ok_or_else(|| format!("'{text}' is not a part of a core, expected for example 25% or 0.25"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percent_or_fractions() {
        assert_eq!(parse_cpu_share("25%"), Ok(0.25));
        assert_eq!(parse_cpu_share("0.5"), Ok(0.5));
        assert_eq!(parse_cpu_share("0"), Ok(0.0));
        assert_eq!(parse_cpu_share("150 %"), Ok(1.5));
        for text in ["", "-1", "NaN", "inf", "much"] {
            let error = parse_cpu_share(text).unwrap_err();
            assert!(error.contains("expected for example 25%"), "{error}");
        }
    }
}
