//! The logs of plugins, bounded for each database, shown as `system.processing_engine_logs` (engine.md 0.32, 3.1, 10.3).
//!
//! What plugins log, and what goes wrong with them, is kept in a journal ([`crate::kept_rows`]); a plugin that talks without
//! end has a limited share of it, so that it cannot push out its neighbours' lines. The engine's own lines about the beginning
//! and the end of runs, and what exceeds the share, live in memory only.
//!
//! When a database has too many entries in memory, the trigger that has the most of them loses its oldest one; when its texts
//! are too long, the trigger with the longest ones does. So a plugin that talks without end pushes out its own lines, not
//! those of its neighbours.
//!
//! Request triggers log two lines a run, tens of thousands of times a second, and hardly any is ever read: an entry
//! keeps what its text is made of, and the text is made when somebody looks.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::DateTime;
use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};
use tidemill_catalog::DatabaseId;
use tidemill_worker_proto::{LogLevel, bounded_log_text};

use crate::allowance::{Allowance, Rate};
use crate::kept_rows::{KeptDatabases, KeptRow, KeptRows};

/// Bytes of texts kept a database; the oldest entries go first.
const RING_TEXT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of lines that a trigger may put into the journal, on average a second.
pub(crate) const KEPT_BYTES_PER_SECOND: u64 = 16 * 1024;
/// What it may put there at once: what comes together in so many seconds.
const KEPT_SECONDS: u64 = 64;
/// Lines of one instant get times of their own, so that they keep their order; but a clock that was set back is followed.
const TIME_SHIFT_NS_MAX: i64 = 1_000_000;

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

impl KeptRow for LogEntry {
    const FOLDER: &'static str = "plugin_logs";

    fn schema() -> SchemaRef {
        let text = |name| Field::new(name, DataType::Utf8, false);
        let time = DataType::Timestamp(TimeUnit::Nanosecond, None);
        Arc::new(Schema::new(vec![
            Field::new("event_time", time, false),
            text("trigger_name"),
            text("log_level"),
            text("log_text"),
        ]))
    }

    fn batch_of(rows: &[Self]) -> RecordBatch {
        let times = rows.iter().map(|entry| entry.time_ns);
        let names = rows.iter().map(|entry| &*entry.trigger_name);
        let levels = rows.iter().map(|entry| level_name(entry.level));
        let texts = rows.iter().map(|entry| entry.text.render());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from_iter_values(times)),
            Arc::new(StringArray::from_iter_values(names)),
            Arc::new(StringArray::from_iter_values(levels)),
            Arc::new(StringArray::from_iter_values(texts)),
        ];
        RecordBatch::try_new(Self::schema(), columns).expect("columns are made as the schema says")
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.text.bytes()
    }
}

/// The entries of one trigger, oldest first.
#[derive(Debug, Default)]
struct TriggerEntries {
    entries: VecDeque<LogEntry>,
    text_bytes: usize,
}

impl TriggerEntries {
    fn pop_oldest(&mut self) -> Option<LogEntry> {
        let oldest = self.entries.pop_front()?;
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
}

impl Ring {
    fn push(&mut self, entry: LogEntry) {
        let text_bytes = entry.text.bytes();
        self.entries += 1;
        self.text_bytes += text_bytes;
        let of_trigger = match self.by_trigger.get_mut(&entry.trigger_name) {
            Some(of_trigger) => of_trigger,
            None => self
                .by_trigger
                .entry(Arc::clone(&entry.trigger_name))
                .or_default(),
        };
        of_trigger.text_bytes += text_bytes;
        of_trigger.entries.push_back(entry);
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
pub(crate) struct DatabaseLog {
    kept: Arc<KeptRows<LogEntry>>,
    ring: Mutex<Ring>,
    entries_max: usize,
    newest_ns: AtomicI64,
}

impl DatabaseLog {
    fn new(kept: Arc<KeptRows<LogEntry>>, entries_max: usize) -> Self {
        Self {
            kept,
            ring: Mutex::default(),
            entries_max: entries_max.max(1),
            newest_ns: AtomicI64::new(i64::MIN),
        }
    }

    /// The time of a new entry.
    fn next_time(&self) -> i64 {
        let now_ns = now_ns();
        let time_after = |newest_ns: i64| {
            let is_taken = newest_ns >= now_ns && newest_ns.saturating_sub(now_ns) < TIME_SHIFT_NS_MAX;
            if is_taken { newest_ns + 1 } else { now_ns }
        };
        let taken = self
            .newest_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |newest_ns| {
                Some(time_after(newest_ns))
            });
        taken.map_or(now_ns, time_after)
    }

    /// Adds an entry that may outlive the server.
    fn keep(&self, entry: LogEntry) {
        if let Err(entry) = self.kept.push(entry) {
            self.push(entry);
        }
    }

    /// Adds an entry that lives in memory.
    fn push(&self, entry: LogEntry) {
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

    /// The entries that live in memory only, in any order.
    pub(crate) fn in_memory(&self) -> Vec<LogEntry> {
        let ring = self.ring.lock();
        let of_triggers = ring.by_trigger.values();
        of_triggers
            .flat_map(|of_trigger| of_trigger.entries.iter().cloned())
            .collect()
    }
}

/// The logs of all databases' plugins.
pub(crate) struct PluginLogs {
    databases: RwLock<HashMap<DatabaseId, Arc<DatabaseLog>>>,
    pub(crate) kept: Arc<KeptDatabases<LogEntry>>,
    entries_max: usize,
}

impl PluginLogs {
    /// Empty logs that hold the newest `entries_max` entries of each database in memory.
    pub(crate) fn new(entries_max: usize) -> Self {
        Self {
            databases: RwLock::default(),
            kept: Arc::default(),
            entries_max,
        }
    }

    /// The log of a database, made where there is none.
    pub(crate) fn of_database(&self, database: DatabaseId) -> Arc<DatabaseLog> {
        if let Some(log) = self.databases.read().get(&database) {
            return Arc::clone(log);
        }
        let kept = self.kept.of_database(database);
        let new = || Arc::new(DatabaseLog::new(kept, self.entries_max));
        Arc::clone(self.databases.write().entry(database).or_insert_with(new))
    }

    /// Forgets the logs of all databases but those that `keep` accepts. Lines that their triggers still log go nowhere.
    pub(crate) fn retain(&self, keep: impl Fn(DatabaseId) -> bool) {
        self.databases.write().retain(|database, _| keep(*database));
        self.kept.retain(keep);
    }

    /// The log of a database, if something was logged there since the start.
    pub(crate) fn existing(&self, database: DatabaseId) -> Option<Arc<DatabaseLog>> {
        self.databases.read().get(&database).cloned()
    }
}

/// Where the lines of one trigger go.
#[derive(Clone)]
pub(crate) struct TriggerLog {
    trigger_name: Arc<str>,
    database: Arc<DatabaseLog>,
    kept_bytes: Arc<Mutex<Allowance>>,
}

impl TriggerLog {
    /// Of its lines about so many bytes a second are kept across restarts.
    pub(crate) fn new(
        trigger_name: Arc<str>,
        database: Arc<DatabaseLog>,
        kept_bytes_per_second: u64,
    ) -> Self {
        let kept_bytes = Rate {
            at_once: kept_bytes_per_second.saturating_mul(KEPT_SECONDS),
            per_second: kept_bytes_per_second,
        };
        Self {
            trigger_name,
            database,
            kept_bytes: Arc::new(Mutex::new(Allowance::new(kept_bytes, Instant::now()))),
        }
    }

    pub(crate) fn push(&self, level: LogLevel, text: LogText) {
        let allowed = match &text {
            LogText::Text(text) => self.kept_bytes.lock().take(text.len() as u64, Instant::now()),
            // Tens of thousands a second, which nobody will look for after a restart.
            LogText::Static(_) | LogText::Finished(_) | LogText::Scheduled(_) => None,
        };
        if let Some(refused @ 1..) = allowed {
            let text = LogText::Text(format!("{refused} lines were too much to be kept").into());
            self.database.keep(self.entry(LogLevel::Warn, text));
        }
        let entry = self.entry(level, text);
        if allowed.is_some() {
            self.database.keep(entry);
        } else {
            self.database.push(entry);
        }
    }

    fn entry(&self, level: LogLevel, text: LogText) -> LogEntry {
        LogEntry {
            time_ns: self.database.next_time(),
            trigger_name: Arc::clone(&self.trigger_name),
            level,
            text,
        }
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

    fn log(entries_max: usize) -> Arc<DatabaseLog> {
        PluginLogs::new(entries_max).of_database(DatabaseId(1))
    }

    /// A line that lives in memory only.
    fn push(database: &DatabaseLog, trigger_name: &str, text: String) {
        database.push(LogEntry {
            time_ns: database.next_time(),
            trigger_name: trigger_name.into(),
            level: LogLevel::Info,
            text: LogText::bounded(text),
        });
    }

    fn in_memory(database: &DatabaseLog) -> Vec<LogEntry> {
        let mut entries = database.in_memory();
        entries.sort_by_key(|entry| entry.time_ns);
        entries
    }

    fn texts(entries: &[LogEntry]) -> Vec<String> {
        entries.iter().map(|entry| entry.text.render()).collect()
    }

    #[test]
    fn lines_of_one_instant_have_times_of_their_own() {
        let database = log(10);
        let times: Vec<i64> = (0..10_000).map(|_| database.next_time()).collect();
        assert!(times.is_sorted_by(|first, second| first < second));
        let ahead = now_ns() + 3_600_000_000_000;
        database.newest_ns.store(ahead, Ordering::Relaxed);
        assert!(
            database.next_time() < ahead,
            "a clock that was set back is followed"
        );
    }

    #[test]
    fn a_plugin_that_talks_without_end_has_a_share_of_the_journal() {
        let database = log(100);
        let trigger = |name: &str, limit| TriggerLog::new(name.into(), Arc::clone(&database), limit);
        let (loud, quiet) = (trigger("loud", KEPT_BYTES_PER_SECOND), trigger("quiet", 1));
        loud.push(
            LogLevel::Info,
            LogText::Static("starting execution of wal plugin."),
        );
        for _ in 0..40 {
            loud.warn("x".repeat(60_000));
        }
        quiet.warn("a word".to_owned());
        loud.warn("the last".to_owned());
        let kept = texts(&database.kept.waiting());
        let share = usize::try_from(KEPT_SECONDS * KEPT_BYTES_PER_SECOND).unwrap() / 60_000;
        assert_eq!(kept.iter().filter(|text| text.len() == 60_000).count(), share);
        let refused = format!("{} lines were too much to be kept", 40 - share);
        assert_eq!(kept[share..], ["a word", &refused, "the last"]);
        // What is not kept is still there to be seen.
        assert_eq!(texts(&in_memory(&database)).len(), 1 + 40 - share);
        quiet.warn("x".repeat(64));
        assert!(
            !texts(&database.kept.waiting()).contains(&"x".repeat(64)),
            "each has its own limit"
        );
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
        let database = log(3);
        for number in 0..10 {
            push(&database, "t", format!("line {number}"));
        }
        assert_eq!(texts(&in_memory(&database)), ["line 7", "line 8", "line 9"]);

        let database = log(100);
        push(&database, "quiet", "first".to_owned());
        for number in 0..10_000 {
            push(&database, "loud", format!("line {number}"));
            if number % 1_000 == 0 {
                push(&database, "quiet", format!("word {number}"));
            }
        }
        let kept = texts(&in_memory(&database));
        assert_eq!(kept.len(), 100);
        assert_eq!(
            kept.iter().filter(|text| !text.starts_with("line")).count(),
            11,
            "the quiet one loses nothing"
        );
        assert_eq!(kept[0], "first");

        // The same by bytes: few long lines do not push out many short ones.
        let database = log(10_000);
        for number in 0..5_000 {
            push(&database, "quiet", format!("word {number}"));
        }
        for _ in 0..2 * RING_TEXT_BYTES_MAX / LONG {
            push(&database, "loud", "x".repeat(LONG));
        }
        let entries = in_memory(&database);
        let of_quiet = entries.iter().filter(|entry| &*entry.trigger_name == "quiet");
        assert_eq!(of_quiet.count(), 5_000);
        assert!(entries.len() > 5_400, "{} entries", entries.len());

        let database = log(1_000_000);
        for _ in 0..2_000 {
            push(&database, "t", "ö".repeat(LONG));
        }
        let entries = in_memory(&database);
        let kept: usize = entries.iter().map(|entry| entry.text.bytes()).sum();
        assert!(kept <= RING_TEXT_BYTES_MAX && entries.len() > 100, "{kept} bytes");
        assert!(entries[0].text.render().ends_with("… (65584 more bytes)"));
    }
}
