//! What is observed of triggers: their logs, their runs, their counts.

use std::sync::Arc;

use tidemill_catalog::DatabaseId;

use crate::kept_rows::KeptDatabases;
use crate::plugin_logs::PluginLogs;
use crate::run_history::RunRow;
use crate::trigger_stats::TriggerBoard;

/// What is observed of triggers. Made before the query engine, which shows it, and shared with the engine, which fills it.
pub struct Observations {
    pub(crate) logs: PluginLogs,
    pub(crate) runs: Arc<KeptDatabases<RunRow>>,
    pub(crate) triggers: TriggerBoard,
}

impl Observations {
    /// Nothing was observed yet. Of each database the newest `log_entries_max` lines are held that live in memory only.
    pub fn new(log_entries_max: usize) -> Self {
        Self {
            logs: PluginLogs::new(log_entries_max),
            runs: Arc::default(),
            triggers: TriggerBoard::default(),
        }
    }

    /// Forgets what is about databases that `keep` does not accept.
    pub(crate) fn retain(&self, keep: impl Fn(DatabaseId) -> bool) {
        self.logs.retain(&keep);
        self.runs.retain(&keep);
        self.triggers.retain(keep);
    }
}
