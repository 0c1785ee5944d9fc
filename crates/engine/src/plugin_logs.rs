//! The logs of plugins, bounded for each database, shown as `system.processing_engine_logs` (engine.md 3.1, 10.3).
//!
//! When a database's log has too many entries, the trigger that has the most of them loses its oldest one; when its texts
//! are too long, the trigger with the longest ones does. So a plugin that talks without end pushes out its own lines, not
//! those of its neighbours.
//!
//! Request triggers log two lines a run, tens of thousands of times a second, and hardly any is ever read: an entry
//! keeps what its text is made of, and the text is made when somebody looks.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};
use tidemill_catalog::DatabaseId;
use tidemill_worker_proto::{LogLevel, bounded_log_text};

/// Bytes of texts kept a database; the oldest entries go first.
const RING_TEXT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Nanoseconds since the epoch, now.
pub(crate) fn now_ns() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}

/// The text of a log entry, or what it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogText {
    Static(&'static str),
    /// `finished execution in 1ms 204us 17ns`
    Finished(Duration),
    /// `starting execution with scheduled time 2026-01-01 00:00:05 UTC`, from nanoseconds since the epoch
    Scheduled(i64),
    /// Shared, so that a reader of the log copies no text while writers wait for it.
    Text(Arc<str>),
}

impl LogText {
    /// A text of any length; what is too long is cut and says so.
    pub(crate) fn bounded(text: String) -> Self {
        Self::Text(bounded_log_text(text).into())
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Static(_) | Self::Finished(_) | Self::Scheduled(_) => 0,
        }
    }

    /// The text.
    pub(crate) fn render(&self) -> String {
        match self {
            Self::Static(text) => (*text).to_owned(),
            Self::Finished(elapsed) => {
                format!("finished execution in {}", humantime::format_duration(*elapsed))
            }
            Self::Scheduled(time_ns) => {
                format!(
                    "starting execution with scheduled time {}",
                    DateTime::from_timestamp_nanos(*time_ns)
                )
            }
            Self::Text(text) => text.to_string(),
        }
    }
}

/// The name of a level in the interface.
pub(crate) fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Info => "INFO",
        LogLevel::Warn => "WARN",
        LogLevel::Error => "ERROR",
    }
}

/// A line of a plugin's log.
#[derive(Debug, Clone)]
pub(crate) struct LogEntry {
    /// Nanoseconds since the epoch.
    pub(crate) time_ns: i64,
    pub(crate) trigger_name: Arc<str>,
    pub(crate) level: LogLevel,
    pub(crate) text: LogText,
}

/// Entries of a trigger below which the memory of its list is left as it is.
const LIST_CAPACITY_KEPT: usize = 64;

/// The entries of one trigger, oldest first, with their place in the order of the whole log.
#[derive(Debug, Default)]
struct TriggerEntries {
    entries: VecDeque<(u64, LogEntry)>,
    text_bytes: usize,
}

impl TriggerEntries {
    fn pop_oldest(&mut self) -> Option<LogEntry> {
        let (_, oldest) = self.entries.pop_front()?;
        self.text_bytes -= oldest.text.bytes();
        // A trigger that was loud once, and has since lost its lines to others, must not keep their memory.
        let capacity = self.entries.capacity();
        if capacity > LIST_CAPACITY_KEPT && self.entries.len() < capacity / 4 {
            self.entries.shrink_to(capacity / 2);
        }
        Some(oldest)
    }
}

#[derive(Debug, Default)]
struct Ring {
    by_trigger: HashMap<Arc<str>, TriggerEntries, RandomState>,
    entries: usize,
    text_bytes: usize,
    next: u64,
}

impl Ring {
    fn push(&mut self, entry: LogEntry) {
        let text_bytes = entry.text.bytes();
        self.entries += 1;
        self.text_bytes += text_bytes;
        let place = self.next;
        self.next += 1;
        let of_trigger = match self.by_trigger.get_mut(&entry.trigger_name) {
            Some(of_trigger) => of_trigger,
            None => self
                .by_trigger
                .entry(Arc::clone(&entry.trigger_name))
                .or_default(),
        };
        of_trigger.text_bytes += text_bytes;
        of_trigger.entries.push_back((place, entry));
    }

    /// Drops the oldest entry of a trigger that has more than its share of `total` by `share`: of `pushed`, which had the
    /// last word, if that has, else of the one with the most.
    fn drop_one(&mut self, pushed: &Arc<str>, total: usize, share: impl Fn(&TriggerEntries) -> usize) {
        let fair_share = total / self.by_trigger.len().max(1);
        let of_pushed = self.by_trigger.get(pushed).map_or(0, &share);
        let loser = if of_pushed > fair_share {
            Arc::clone(pushed)
        } else {
            let most = self.by_trigger.iter().max_by_key(|(_, entries)| share(entries));
            most.map_or_else(
                || Arc::clone(pushed),
                |(trigger_name, _)| Arc::clone(trigger_name),
            )
        };
        if let Some(of_loser) = self.by_trigger.get_mut(&loser) {
            if let Some(dropped) = of_loser.pop_oldest() {
                self.entries -= 1;
                self.text_bytes -= dropped.text.bytes();
            }
            if of_loser.entries.is_empty() {
                self.by_trigger.remove(&loser);
            }
        }
    }
}

/// The log of one database's plugins.
#[derive(Debug)]
pub(crate) struct DatabaseLog {
    ring: Mutex<Ring>,
    entries_max: usize,
}

impl DatabaseLog {
    fn new(entries_max: usize) -> Self {
        Self {
            ring: Mutex::default(),
            entries_max: entries_max.max(1),
        }
    }

    pub(crate) fn push(&self, entry: LogEntry) {
        let trigger_name = Arc::clone(&entry.trigger_name);
        let mut ring = self.ring.lock();
        ring.push(entry);
        while ring.entries > self.entries_max {
            let entries = ring.entries;
            ring.drop_one(&trigger_name, entries, |of_trigger| of_trigger.entries.len());
        }
        while ring.text_bytes > RING_TEXT_BYTES_MAX {
            let text_bytes = ring.text_bytes;
            ring.drop_one(&trigger_name, text_bytes, |of_trigger| of_trigger.text_bytes);
        }
    }

    /// A copy of all entries, oldest first.
    pub(crate) fn entries(&self) -> Vec<LogEntry> {
        self.entries_from(0).0
    }

    /// A copy of the entries from a place in the order of the whole log on, and the place after the last one.
    pub(crate) fn entries_from(&self, place: u64) -> (Vec<LogEntry>, u64) {
        let (mut entries, next) = {
            let ring = self.ring.lock();
            let newer = |of_trigger: &TriggerEntries| {
                let start = of_trigger
                    .entries
                    .partition_point(|(of_entry, _)| *of_entry < place);
                of_trigger.entries.range(start..).cloned().collect::<Vec<_>>()
            };
            let entries: Vec<(u64, LogEntry)> = ring.by_trigger.values().flat_map(newer).collect();
            (entries, ring.next)
        };
        entries.sort_unstable_by_key(|(of_entry, _)| *of_entry);
        (entries.into_iter().map(|(_, entry)| entry).collect(), next)
    }
}

/// The logs of all databases' plugins. Made before the query engine, which shows them, and shared with the engine,
/// which fills them.
#[derive(Debug)]
pub struct PluginLogs {
    databases: RwLock<HashMap<DatabaseId, Arc<DatabaseLog>>>,
    entries_max: usize,
}

impl PluginLogs {
    /// Empty logs that keep the newest `entries_max` entries of each database.
    pub fn new(entries_max: usize) -> Self {
        Self {
            databases: RwLock::default(),
            entries_max,
        }
    }

    /// The log of a database, made where there is none.
    pub(crate) fn of_database(&self, database: DatabaseId) -> Arc<DatabaseLog> {
        if let Some(log) = self.databases.read().get(&database) {
            return Arc::clone(log);
        }
        let mut databases = self.databases.write();
        Arc::clone(
            databases
                .entry(database)
                .or_insert_with(|| Arc::new(DatabaseLog::new(self.entries_max))),
        )
    }

    /// Forgets the logs of all databases but those that `keep` accepts. Lines that their triggers still log go nowhere.
    pub(crate) fn retain(&self, keep: impl Fn(DatabaseId) -> bool) {
        self.databases.write().retain(|database, _| keep(*database));
    }

    /// The logs of all databases in which something was logged.
    pub(crate) fn all(&self) -> Vec<(DatabaseId, Arc<DatabaseLog>)> {
        let databases = self.databases.read();
        databases.iter().map(|(id, log)| (*id, Arc::clone(log))).collect()
    }

    /// Entries that are kept of each database.
    pub(crate) fn entries_max(&self) -> usize {
        self.entries_max
    }

    /// The log of a database, if something was ever logged there.
    pub(crate) fn existing(&self, database: DatabaseId) -> Option<Arc<DatabaseLog>> {
        self.databases.read().get(&database).cloned()
    }
}

/// Where the lines of one trigger go.
#[derive(Debug, Clone)]
pub(crate) struct TriggerLog {
    trigger_name: Arc<str>,
    database: Arc<DatabaseLog>,
}

impl TriggerLog {
    pub(crate) fn new(trigger_name: Arc<str>, database: Arc<DatabaseLog>) -> Self {
        Self {
            trigger_name,
            database,
        }
    }

    pub(crate) fn push(&self, level: LogLevel, text: LogText) {
        let trigger_name = Arc::clone(&self.trigger_name);
        self.database.push(LogEntry {
            time_ns: now_ns(),
            trigger_name,
            level,
            text,
        });
    }

    pub(crate) fn error(&self, text: String) {
        self.push(LogLevel::Error, LogText::bounded(text));
    }

    pub(crate) fn warn(&self, text: String) {
        self.push(LogLevel::Warn, LogText::bounded(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: usize = 64 * 1024;

    fn log(entries_max: usize) -> (Arc<DatabaseLog>, TriggerLog) {
        let database = PluginLogs::new(entries_max).of_database(DatabaseId(1));
        (Arc::clone(&database), TriggerLog::new("t".into(), database))
    }

    #[test]
    fn texts_have_the_literal_form() {
        for (text, rendered) in [
            (
                LogText::Static("starting execution of wal plugin."),
                "starting execution of wal plugin.",
            ),
            (
                LogText::Finished(Duration::from_nanos(1_204_017)),
                "finished execution in 1ms 204us 17ns",
            ),
            (
                LogText::Scheduled(1_767_225_605_000_000_000),
                "starting execution with scheduled time 2026-01-01 00:00:05 UTC",
            ),
        ] {
            assert_eq!(text.render(), rendered);
        }
    }

    #[test]
    fn logs_of_deleted_databases_are_forgotten() {
        let logs = PluginLogs::new(10);
        for database in 1..=3 {
            logs.of_database(DatabaseId(database));
        }
        logs.retain(|database| database != DatabaseId(2));
        let kept = [1, 2, 3].map(|database| logs.existing(DatabaseId(database)).is_some());
        assert_eq!(kept, [true, false, true]);
    }

    #[test]
    fn a_log_keeps_the_newest_by_number_and_by_bytes() {
        let (database, trigger) = log(3);
        for number in 0..10 {
            trigger.error(format!("line {number}"));
        }
        let texts: Vec<String> = database
            .entries()
            .iter()
            .map(|entry| entry.text.render())
            .collect();
        assert_eq!(texts, ["line 7", "line 8", "line 9"]);

        let (database, quiet) = log(100);
        let loud = TriggerLog::new("loud".into(), Arc::clone(&database));
        quiet.error("first".to_owned());
        for number in 0..10_000 {
            loud.error(format!("line {number}"));
            if number % 1_000 == 0 {
                quiet.error(format!("word {number}"));
            }
        }
        let texts: Vec<String> = database
            .entries()
            .iter()
            .map(|entry| entry.text.render())
            .collect();
        assert_eq!(texts.len(), 100);
        assert_eq!(
            texts.iter().filter(|text| !text.starts_with("line")).count(),
            11,
            "the quiet one loses nothing"
        );
        assert_eq!(texts[0], "first");

        // The same by bytes: few long lines do not push out many short ones.
        let (database, quiet) = log(10_000);
        let loud = TriggerLog::new("loud".into(), Arc::clone(&database));
        for number in 0..5_000 {
            quiet.error(format!("word {number}"));
        }
        for _ in 0..2 * RING_TEXT_BYTES_MAX / LONG {
            loud.error("x".repeat(LONG));
        }
        let entries = database.entries();
        let of_quiet = entries.iter().filter(|entry| &*entry.trigger_name == "t");
        assert_eq!(of_quiet.count(), 5_000);
        assert!(entries.len() > 5_400, "{} entries", entries.len());

        let (database, trigger) = log(1_000_000);
        for _ in 0..2_000 {
            trigger.warn("ö".repeat(LONG));
        }
        let entries = database.entries();
        let kept: usize = entries.iter().map(|entry| entry.text.bytes()).sum();
        assert!(kept <= RING_TEXT_BYTES_MAX && entries.len() > 100, "{kept} bytes");
        assert!(entries[0].text.render().ends_with("… (65584 more bytes)"));
    }
}
