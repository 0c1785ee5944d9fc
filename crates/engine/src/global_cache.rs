//! The cache that all plugins share: pickled values with a time to live (engine.md 0.29, 5.8).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_worker_proto::{CacheOperation, CacheReply};

/// How often expired entries that nobody asks for are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

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

#[derive(Debug)]
struct Entries {
    by_key: HashMap<String, CacheEntry>,
    swept: Instant,
}

/// One namespace of values that outlive the processes that put them there. Every operation is atomic.
#[derive(Debug)]
pub(crate) struct GlobalCache {
    entries: Mutex<Entries>,
    ttl_default: Option<Duration>,
}

impl GlobalCache {
    /// An empty cache; `ttl_default` is for entries that are put without a time to live, `None` keeps them for ever.
    pub(crate) fn new(ttl_default: Option<Duration>) -> Self {
        let entries = Entries {
            by_key: HashMap::new(),
            swept: Instant::now(),
        };
        Self {
            entries: Mutex::new(entries),
            ttl_default,
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
        if now.duration_since(entries.swept) >= SWEEP_INTERVAL {
            entries.by_key.retain(|_, entry| entry.is_live(now));
            entries.swept = now;
        }
        match operation {
            CacheOperation::Put { key, ttl_ms } => {
                let ttl = ttl_ms.map(Duration::from_millis).or(self.ttl_default);
                // Too far ahead to be an instant is as good as never.
                let expires = ttl.and_then(|ttl| now.checked_add(ttl));
                // A copy, since the bytes are part of a read buffer that would be kept as a whole.
                entries.by_key.insert(
                    key,
                    CacheEntry {
                        value: Bytes::copy_from_slice(value),
                        expires,
                    },
                );
                (CacheReply::Stored, Bytes::new())
            }
            CacheOperation::Get { key } => match entries.by_key.get(&key) {
                Some(entry) if entry.is_live(now) => (CacheReply::Value, entry.value.clone()),
                Some(_) => {
                    entries.by_key.remove(&key);
                    (CacheReply::Missing, Bytes::new())
                }
                None => (CacheReply::Missing, Bytes::new()),
            },
            CacheOperation::Delete { key } => {
                let deleted = entries
                    .by_key
                    .remove(&key)
                    .is_some_and(|entry| entry.is_live(now));
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
        assert!(cache.entries.lock().by_key.is_empty());
    }
}
