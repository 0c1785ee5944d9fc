//! `influxdb3_local.cache`.

use std::collections::HashMap;

use bytes::Bytes;
use tidemill_worker_proto::{CacheOperation, CacheReply, EntryPoint, FromWorker, ToWorker, Work};

use crate::harness::{Answers, Session};

fn schedule(body: &str) -> Session {
    let source = format!(
        "def process_scheduled_call(api, call_time, args):\n    {}\n",
        body.replace('\n', "\n    ")
    );
    Session::with_plugin(EntryPoint::ScheduledCall, &source)
}

#[test]
fn the_trigger_namespace_holds_live_objects() {
    let mut session = schedule(
        "
held = api.cache.get('held')
if held is None:
    api.cache.put('held', held := {'runs': 0})
held['runs'] += 1
api.info(held['runs'], api.cache.get('held') is held, api.cache.get('x'), api.cache.get('x', 5), api.cache.get('x', default=6))
api.cache.put('none', None)
api.info(api.cache.get('none', 7), api.cache.delete('none'), api.cache.delete('none'), api.cache.get('none', 7))",
    );
    assert_eq!(
        session.schedule().logged(),
        ["1 True None 5 6", "None True False 7"]
    );
    assert_eq!(
        session.schedule().logged(),
        ["2 True None 5 6", "None True False 7"]
    );
    // Loading anew keeps it.
    let load = session.load_of(EntryPoint::ScheduledCall, "plugin.py");
    assert_eq!(session.load(load), FromWorker::Loaded);
    assert_eq!(session.schedule().logged()[0], "3 True None 5 6");
}

#[test]
fn time_to_live() {
    let mut session = schedule(
        "
import gc, weakref
class Value: pass
api.cache.put('gone', 1, ttl=0)
api.cache.put('far', 2, ttl=3600)
api.cache.put('short', 3, 0.000001)
api.info(api.cache.get('gone'), api.cache.get('far'), api.cache.get('short'), api.cache.delete('gone'))
for ttl in (-1, float('nan'), 1e300, float('inf'), 10**400):
    try:
        api.cache.put('k', 1, ttl=ttl)
    except ValueError:
        api.info('ValueError')
for key in (1, None, b'k'):
    try:
        api.cache.get(key)
    except TypeError:
        api.info('TypeError')",
    );
    let mut expected = vec!["None 2 None False"];
    expected.extend(["ValueError"; 5]);
    expected.extend(["TypeError"; 3]);
    assert_eq!(session.schedule().logged(), expected);
}

#[test]
fn what_a_value_does_when_it_is_dropped_may_use_the_cache() {
    let mut session = schedule(
        "
class Value:
    def __del__(self): api.cache.put('last', 'words')
api.cache.put('v', Value())
api.cache.put('v', 1)
api.info(api.cache.get('last'))",
    );
    assert_eq!(session.schedule().logged(), ["words"]);
}

/// The server's half of the global namespace.
#[derive(Default)]
struct Global {
    values: HashMap<String, Bytes>,
    times_to_live_ms: Vec<Option<u64>>,
}

impl Global {
    fn answer(&mut self, message: &FromWorker, blob: &Bytes) -> Answers {
        let FromWorker::GlobalCache { call, operation } = message else {
            panic!("{message:?}");
        };
        let (reply, value) = match operation {
            CacheOperation::Put { key, ttl_ms } => {
                self.values.insert(key.clone(), blob.clone());
                self.times_to_live_ms.push(*ttl_ms);
                (CacheReply::Stored, Bytes::new())
            }
            CacheOperation::Get { key } => match self.values.get(key) {
                Some(value) => (CacheReply::Value, value.clone()),
                None => (CacheReply::Missing, Bytes::new()),
            },
            CacheOperation::Delete { key } => (
                CacheReply::Deleted(self.values.remove(key).is_some()),
                Bytes::new(),
            ),
        };
        vec![(ToWorker::CacheDone { call: *call, reply }, value.to_vec())]
    }
}

#[test]
fn the_global_namespace_is_pickled() {
    let source = "
import threading
class Own:
    def __init__(self, x): self.x = x
def process_scheduled_call(api, call_time, args):
    api.info(getattr(api.cache.get('own', use_global=True), 'x', None), api.cache.get('k'))
    api.cache.put('own', Own(5), use_global=True)
    api.cache.put('k', [1], 1.0005, True)
    api.info(api.cache.get('k', None, True), api.cache.delete('k', use_global=True), api.cache.delete('k', True), api.cache.get('k', 7, use_global=True))
    try:
        api.cache.put('lock', threading.Lock(), use_global=True)
    except TypeError as error:
        api.info(error)
";
    let mut global = Global::default();
    let refusal = "the value for 'lock' cannot be pickled, which the global cache needs: \
        TypeError: cannot pickle '_thread.lock' object; keep it in the trigger's own cache (use_global=False)";
    for first in ["None None", "5 None"] {
        // Two processes, one after the other.
        let mut session = Session::with_plugin(EntryPoint::ScheduledCall, source);
        let finished = session.run_answering(Work::Schedule { time_ns: 0 }, &[], |message, blob| {
            global.answer(message, blob)
        });
        assert_eq!(finished.logged(), [first, "[1] True False 7", refusal]);
    }
    assert_eq!(global.times_to_live_ms, [None, Some(1001), None, Some(1001)]);
}

#[test]
fn a_full_global_namespace_is_an_exception() {
    let mut session = schedule(
        "
try:
    api.cache.put('k', 1, use_global=True)
except RuntimeError as error:
    api.info(str(error).split(':')[0])",
    );
    let finished = session.run_answering(Work::Schedule { time_ns: 0 }, &[], |message, _| {
        let FromWorker::GlobalCache { call, .. } = message else {
            panic!("{message:?}");
        };
        let reply = CacheReply::Full;
        vec![(ToWorker::CacheDone { call: *call, reply }, vec![])]
    });
    assert_eq!(finished.logged(), ["the global cache is full"]);
}

#[test]
fn test_caches_have_a_default_time_to_live() {
    let mut session = schedule(
        "api.cache.put('k', 1)\napi.cache.put('k', 1, use_global=True)\napi.info(api.cache.get('k'))",
    );
    let mut load = session.load_of(EntryPoint::ScheduledCall, "plugin.py");
    load.cache_ttl_default_ms = Some(0);
    assert_eq!(session.load(load), FromWorker::Loaded);
    let mut global = Global::default();
    let finished = session.run_answering(Work::Schedule { time_ns: 0 }, &[], |message, blob| {
        global.answer(message, blob)
    });
    assert_eq!(finished.logged(), ["None"]);
    assert_eq!(global.times_to_live_ms, [Some(0)]);
}
