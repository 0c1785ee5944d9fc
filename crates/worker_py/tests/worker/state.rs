//! `influxdb3_local.state`.

use std::collections::HashMap;

use bytes::Bytes;
use tidemill_worker_proto::{EntryPoint, FromWorker, Outcome, StateOperation, StateReply, ToWorker, Work};

use crate::harness::{Answers, Finished, Session};

const SCHEDULE: Work = Work::Schedule { time_ns: 0 };

/// The server's side: what is committed.
#[derive(Default)]
struct Committed {
    values: HashMap<String, Vec<u8>>,
    asked: Vec<String>,
}

impl Committed {
    fn answer(&mut self, message: &FromWorker, value: &Bytes) -> Answers {
        let FromWorker::State { call, operation } = message else {
            panic!("{message:?}");
        };
        let (reply, value) = match operation {
            StateOperation::Get { key } => {
                self.asked.push(format!("get {key}"));
                match self.values.get(key) {
                    Some(value) => (StateReply::Value, value.clone()),
                    None => (StateReply::Missing, vec![]),
                }
            }
            StateOperation::Put { key } => {
                self.asked.push(format!("put {key}"));
                self.values.insert(key.clone(), value.to_vec());
                (StateReply::Stored, vec![])
            }
            StateOperation::Delete { key } if key == "full" => {
                (StateReply::Refused("the state is full".to_owned()), vec![])
            }
            StateOperation::Delete { key } => {
                self.asked.push(format!("delete {key}"));
                (StateReply::Deleted(self.values.remove(key).is_some()), vec![])
            }
        };
        vec![(ToWorker::StateDone { call: *call, reply }, value)]
    }

    /// Runs, and commits as the server does.
    fn run(&mut self, session: &mut Session) -> Finished {
        let finished = session.run_answering(SCHEDULE, &[], |message, value| self.answer(message, value));
        for (key, value) in finished.changed() {
            match value {
                Some(value) => self.values.insert(key, value),
                None => self.values.remove(&key),
            };
        }
        finished
    }
}

impl Finished {
    /// What the run has changed in the state: nothing where it failed.
    fn changed(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let Outcome::Returned { state, writes, .. } = &self.outcome else {
            return Vec::new();
        };
        let mut at = writes.iter().map(|write| write.bytes as usize).sum();
        let mut changed = Vec::new();
        for change in state {
            let value = change.value_bytes.map(|bytes| {
                let value = self.blob[at..at + bytes as usize].to_vec();
                at += bytes as usize;
                value
            });
            changed.push((change.key.clone(), value));
        }
        changed
    }

    fn changed_keys(&self) -> Vec<(String, bool)> {
        let keys = self.changed().into_iter();
        keys.map(|(key, value)| (key, value.is_some())).collect()
    }
}

fn schedule(body: &str) -> Session {
    let source = format!(
        "def process_scheduled_call(api, call_time, args):\n    state = api.state\n    {}\n",
        body.replace('\n', "\n    ")
    );
    Session::with_plugin(EntryPoint::ScheduledCall, &source)
}

fn changes(expected: &[(&str, bool)]) -> Vec<(String, bool)> {
    let owned = expected.iter();
    owned.map(|(key, is_put)| ((*key).to_owned(), *is_put)).collect()
}

#[test]
fn a_run_sees_its_own_changes_and_they_end_with_it() {
    let mut session = schedule(
        "
count = state.get('count', 0)
held = {'count': count}
state.put('count', held)
held['count'] = 'changed later'
api.info(count, state.get('count'), state.get('none'), state.get('none', default=5))
state.put('count', count + 1)
state.put('count', count + 2)
state.put('none', None)
state.put('twice', 1)
api.info(state.get('count'), state.get('none', 7), state.delete('twice'), state.delete('twice'), state.get('twice', 8))
api.write('m f=1')",
    );
    let mut committed = Committed::default();
    let finished = committed.run(&mut session);
    assert_eq!(
        finished.logged(),
        ["0 {'count': 0} None 5", "2 None True False 8"]
    );
    assert_eq!(
        finished.changed_keys(),
        changes(&[("count", true), ("none", true), ("twice", false)])
    );
    assert_eq!(finished.written(), [(None, "m f=1".to_owned())]);
    // Nothing is asked for what the run has changed itself.
    assert_eq!(committed.asked, ["get count", "get none", "get none"]);
    let finished = committed.run(&mut session);
    assert_eq!(
        finished.logged(),
        ["2 {'count': 2} None None", "4 None True False 8"]
    );
}

#[test]
fn deleting_tells_whether_there_was_something() {
    let mut session = schedule(
        "
api.info(state.delete('kept'), state.delete('kept'), state.delete('never'), state.get('kept', 'gone'))",
    );
    let mut committed = Committed::default();
    committed
        .values
        .insert("kept".to_owned(), b"\x80\x04K\x01.".to_vec());
    let finished = committed.run(&mut session);
    assert_eq!(finished.logged(), ["True False False gone"]);
    // What was not there is not deleted.
    assert_eq!(finished.changed_keys(), changes(&[("kept", false)]));
}

#[test]
fn a_failed_run_changes_nothing() {
    let mut session = schedule("state.put('k', 1)\nraise ValueError('x')");
    let finished = Committed::default().run(&mut session);
    assert_eq!(finished.failed().message, "ValueError: x");
    assert!(finished.blob.is_empty());
}

#[test]
fn what_cannot_be_kept_is_an_exception() {
    let mut session = schedule(
        "
import threading
class Gone: pass
for action in (
    lambda: state.put(5, 1),
    lambda: state.get(None),
    lambda: state.put('', 1),
    lambda: state.put('\\0run', 1),
    lambda: state.delete('\\0run'),
    lambda: state.put('k' * 1025, 1),
    lambda: state.put('lock', threading.Lock()),
    lambda: state.put('large', bytes(9 << 20)),
    lambda: state.get('broken'),
):
    try:
        action()
    except Exception as error:
        api.info(type(error).__name__, error)
state.put('k' * 1024, bytes(7 << 20))",
    );
    let mut committed = Committed::default();
    committed
        .values
        .insert("broken".to_owned(), b"cno_mod\nC\n.".to_vec());
    let finished = committed.run(&mut session);
    let logged = finished.logged();
    assert!(
        logged[0].starts_with("TypeError") && logged[1].starts_with("TypeError"),
        "{logged:?}"
    );
    assert_eq!(
        logged[2..],
        [
            "ValueError a key of the state must not be empty",
            "ValueError a key of the state must not begin with a NUL character",
            "ValueError a key of the state must not begin with a NUL character",
            "ValueError a key of the state has at most 1024 bytes; this one has 1025",
            "TypeError the value for 'lock' cannot be pickled, which the state needs: TypeError: cannot pickle '_thread.lock' object",
            "ValueError the value for 'large' has 9437193 bytes when it is pickled, and a value of the state has at most 8388608",
            "ValueError the value for 'broken' in the state cannot be unpickled: ModuleNotFoundError: No module named 'no_mod'; \
             bring back the class that it needs, or put another value",
        ]
    );
    assert_eq!(finished.changed_keys(), changes(&[(&"k".repeat(1024), true)]));
}

#[test]
fn threads_and_tasks_of_a_run_share_its_state() {
    let mut session = Session::with_plugin(
        EntryPoint::ScheduledCall,
        "
import asyncio, threading
async def process_scheduled_call(api, call_time, args):
    def work(name):
        for _ in range(50):
            api.state.put(name, api.state.get(name, 0) + 1)
    threads = [threading.Thread(target=work, args=(f't{n}',)) for n in range(4)]
    for thread in threads: thread.start()
    await asyncio.gather(*(asyncio.to_thread(work, f'a{n}') for n in range(4)))
    for thread in threads: thread.join()
    api.info([api.state.get(name) for name in ('t0', 't3', 'a0', 'a3')])
",
    );
    let finished = Committed::default().run(&mut session);
    assert_eq!(finished.logged(), ["[50, 50, 50, 50]"]);
    assert_eq!(finished.changed().len(), 8);
}

#[test]
fn outside_a_run_changes_are_committed_at_once() {
    let mut session = Session::with_plugin(
        EntryPoint::ScheduledCall,
        "
import threading
def process_scheduled_call(api, call_time, args):
    held = api.cache.get('held')
    if held is None:
        go, state = threading.Event(), api.state
        def work():
            go.wait()
            api.info(state.get('k'))
            state.put('k', 1)
            api.info(state.get('k'), api.state.delete('k'), state.delete('k'))
            try:
                state.delete('full')
            except Exception as error:
                api.info(type(error).__name__, error)
            api.info('done')
        threading.Thread(target=work).start()
        api.cache.put('held', (go, state))
    else:
        # An object that was kept belongs to the run that its thread executes.
        held[1].put('of the run', 1)
        held[0].set()
",
    );
    let mut committed = Committed::default();
    assert_eq!(committed.run(&mut session).changed_keys(), []);
    let run = session.begin(SCHEDULE, &[]);
    let mut texts = Vec::new();
    let mut finished = None;
    while finished.is_none() || texts.last().is_none_or(|text| text != "done") {
        let frame = session.next();
        match frame.head {
            FromWorker::Finished { run: ended, outcome } => {
                assert_eq!(ended, run);
                let (blob, logs) = (frame.blob, Vec::new());
                finished = Some(Finished {
                    outcome,
                    blob,
                    logs,
                    streamed: None,
                });
            }
            FromWorker::Log { text, .. } => texts.push(text),
            call => {
                for (message, blob) in committed.answer(&call, &frame.blob) {
                    session.send(&message, &blob);
                }
            }
        }
    }
    assert_eq!(
        texts,
        ["None", "1 True False", "Exception the state is full", "done"]
    );
    assert_eq!(
        committed.asked,
        ["get k", "put k", "get k", "delete k", "delete k"]
    );
    let finished = finished.expect("the loop ends with it");
    assert_eq!(finished.changed_keys(), changes(&[("of the run", true)]));
}
