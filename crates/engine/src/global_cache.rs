//! The cache that all plugins share: pickled values with a time to live (engine.md 0.29, 5.8), in bounded memory.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_worker_proto::{CacheOperation, CacheReply};

/// How often expired entries that nobody asks for are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// Bytes of keys and values that are kept. The memory is the server's, so a plugin that puts without end is refused.
const BYTES_MAX: usize = 256 << 20;
/// What an entry costs beside its key and its value.
const ENTRY_BYTES: usize = 128;

#[derive(Debug)]
struct CacheEntry {
    value: Bytes,
    expires: Option<Instant>,
}

impl CacheEntry {
    fn is_live(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

fn bytes_of(key: &str, value: &[u8]) -> usize {
    ENTRY_BYTES + key.len() + value.len()
}

#[derive(Debug)]
struct Entries {
    by_key: HashMap<String, CacheEntry>,
    bytes: usize,
    swept: Instant,
}

impl Entries {
    fn sweep(&mut self, now: Instant) {
        let bytes = &mut self.bytes;
        self.by_key.retain(|key, entry| {
            let is_live = entry.is_live(now);
            if !is_live {
                *bytes -= bytes_of(key, &entry.value);
            }
            is_live
        });
        self.swept = now;
    }

    fn remove(&mut self, key: &str) -> Option<CacheEntry> {
        let removed = self.by_key.remove(key)?;
        self.bytes -= bytes_of(key, &removed.value);
        Some(removed)
    }

    /// Stores an entry unless that would exceed `bytes_max`; then what was there stays. Returns whether it did.
    fn put(&mut self, key: String, entry: CacheEntry, bytes_max: usize) -> bool {
        let replaced = self.by_key.get(&key).map_or(0, |old| bytes_of(&key, &old.value));
        let bytes = self.bytes - replaced + bytes_of(&key, &entry.value);
        if bytes > bytes_max {
            return false;
        }
        self.bytes = bytes;
        self.by_key.insert(key, entry);
        true
    }
}

/// One namespace of values that outlive the processes that put them there. Every operation is atomic.
#[derive(Debug)]
pub(crate) struct GlobalCache {
    entries: Mutex<Entries>,
    ttl_default: Option<Duration>,
    bytes_max: usize,
}

impl GlobalCache {
    /// An empty cache; `ttl_default` is for entries that are put without a time to live, `None` keeps them for ever.
    pub(crate) fn new(ttl_default: Option<Duration>) -> Self {
        Self::bounded(ttl_default, BYTES_MAX)
    }

    fn bounded(ttl_default: Option<Duration>, bytes_max: usize) -> Self {
        let entries = Entries {
            by_key: HashMap::new(),
            bytes: 0,
            swept: Instant::now(),
        };
        Self {
            entries: Mutex::new(entries),
            ttl_default,
            bytes_max,
        }
    }

    /// Carries out one operation at the instant `now`; `value` is what `Put` stores. Returns the answer and the bytes
    /// that belong to it.
    pub(crate) fn operate(
        &self,
        operation: CacheOperation,
        value: &[u8],
        now: Instant,
    ) -> (CacheReply, Bytes) {
        let mut entries = self.entries.lock();
        if now.saturating_duration_since(entries.swept) >= SWEEP_INTERVAL {
            entries.sweep(now);
        }
        match operation {
            CacheOperation::Put { key, ttl_ms } => {
                let ttl = ttl_ms.map(Duration::from_millis).or(self.ttl_default);
                // Too far ahead to be an instant is as good as never.
                let expires = ttl.and_then(|ttl| now.checked_add(ttl));
                // A copy, since the bytes are part of a read buffer that would be kept as a whole.
                let entry = CacheEntry {
                    value: Bytes::copy_from_slice(value),
                    expires,
                };
                let reply = if entries.put(key, entry, self.bytes_max) {
                    CacheReply::Stored
                } else {
                    CacheReply::Full
                };
                (reply, Bytes::new())
            }
            CacheOperation::Get { key } => match entries.by_key.get(&key) {
                Some(entry) if entry.is_live(now) => (CacheReply::Value, entry.value.clone()),
                Some(_) => {
                    entries.remove(&key);
                    (CacheReply::Missing, Bytes::new())
                }
                None => (CacheReply::Missing, Bytes::new()),
            },
            CacheOperation::Delete { key } => {
                let deleted = entries.remove(&key).is_some_and(|entry| entry.is_live(now));
                (CacheReply::Deleted(deleted), Bytes::new())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_live_until_they_expire() {
        let cache = GlobalCache::new(None);
        let start = Instant::now();
        let put = |key: &str, ttl_ms| CacheOperation::Put {
            key: key.to_owned(),
            ttl_ms,
        };
        let get = |key: &str| CacheOperation::Get { key: key.to_owned() };
        let delete = |key: &str| CacheOperation::Delete { key: key.to_owned() };
        let missing = (CacheReply::Missing, Bytes::new());
        let later = |ms| start + Duration::from_millis(ms);

        assert_eq!(cache.operate(get("a"), b"", start), missing);
        assert_eq!(cache.operate(put("a", None), b"1", start).0, CacheReply::Stored);
        cache.operate(put("b", Some(1000)), b"2", start);
        cache.operate(put("now", Some(0)), b"3", start);
        cache.operate(put("far", Some(u64::MAX)), b"4", start);
        assert_eq!(cache.operate(get("now"), b"", start), missing);
        assert_eq!(
            cache.operate(get("b"), b"", later(999)),
            (CacheReply::Value, Bytes::from_static(b"2"))
        );
        assert_eq!(cache.operate(get("b"), b"", later(1000)), missing);
        assert_eq!(
            cache.operate(delete("b"), b"", later(1000)).0,
            CacheReply::Deleted(false)
        );
        assert_eq!(
            cache.operate(get("far"), b"", later(1_000_000)).0,
            CacheReply::Value
        );
        assert_eq!(
            cache.operate(delete("a"), b"", start).0,
            CacheReply::Deleted(true)
        );
        assert_eq!(cache.operate(get("a"), b"", start), missing);
    }

    #[test]
    fn a_test_cache_forgets_by_itself_and_expired_entries_do_not_stay() {
        let cache = GlobalCache::new(Some(Duration::from_secs(1)));
        let start = Instant::now();
        cache.operate(
            CacheOperation::Put {
                key: "a".to_owned(),
                ttl_ms: None,
            },
            b"1",
            start,
        );
        let operation = CacheOperation::Get {
            key: "other".to_owned(),
        };
        cache.operate(operation, b"", start + 2 * SWEEP_INTERVAL);
        let entries = cache.entries.lock();
        assert!(entries.by_key.is_empty());
        assert_eq!(entries.bytes, 0);
    }

    #[test]
    fn a_full_cache_refuses_and_keeps_what_it_has() {
        let cache = GlobalCache::bounded(None, 2 * (ENTRY_BYTES + 1 + 10));
        let start = Instant::now();
        let put = |key: &str, value: &[u8]| {
            let key = key.to_owned();
            cache
                .operate(CacheOperation::Put { key, ttl_ms: None }, value, start)
                .0
        };
        assert_eq!(put("a", &[1; 10]), CacheReply::Stored);
        assert_eq!(put("b", &[2; 10]), CacheReply::Stored);
        assert_eq!(put("c", &[3; 10]), CacheReply::Full);
        assert_eq!(put("a", &[4; 11]), CacheReply::Full);
        let get = CacheOperation::Get { key: "a".to_owned() };
        assert_eq!(cache.operate(get, b"", start).1[..], [1; 10]);
        // A value makes room for its successor.
        assert_eq!(put("a", &[4; 9]), CacheReply::Stored);
        let delete = CacheOperation::Delete { key: "b".to_owned() };
        assert_eq!(cache.operate(delete, b"", start).0, CacheReply::Deleted(true));
        assert_eq!(put("c", &[3; 10]), CacheReply::Stored);
    }
}
