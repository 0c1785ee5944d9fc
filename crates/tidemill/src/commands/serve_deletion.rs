//! Options of `serve` about what was deleted.

use std::time::Duration;

use clap::Args;
use tidemill_server::DeletionConfig;

use super::settings::parse_duration;
use crate::environment;

#[derive(Debug, Args)]
pub(super) struct DeletionArgs {
    /// How long the data of a deleted database or table is kept unless its deletion says otherwise
    #[arg(long, env = environment::HARD_DELETE_DEFAULT_DURATION, default_value = "72h", value_parser = parse_duration, value_name = "DURATION", help_heading = "Storage")]
    hard_delete_default_duration: Duration,

    /// How long the catalog remembers a deleted database or table whose data is gone
    #[arg(long, env = environment::DELETE_GRACE_PERIOD, default_value = "24h", value_parser = parse_duration, value_name = "DURATION", help_heading = "Storage")]
    delete_grace_period: Duration,
}

impl DeletionArgs {
    pub(super) fn config(&self) -> DeletionConfig {
        DeletionConfig {
            hard_delete_default: self.hard_delete_default_duration,
            grace_period: self.delete_grace_period,
        }
    }
}
