//! How the plugin's functions are called.

use arrow::array::Int64Array;
use tidemill_worker_proto::{EntryPoint, FailureKind, FromWorker, Work};

use crate::harness::{Session, array, batch, request_work, writes_work};

#[test]
fn arguments_are_a_new_dictionary_each_time() {
    let mut session = Session::start();
    session.write_file(
        "plugin.py",
        "
def process_scheduled_call(api, call_time, args):
    api.info(repr(args))
    if args is not None:
        args['x'] = 1
",
    );
    let mut check = |arguments: Option<Vec<(&str, &str)>>, expected: &str| {
        let mut load = session.load_of(EntryPoint::ScheduledCall, "plugin.py");
        let owned = |pairs: Vec<(&str, &str)>| {
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect()
        };
        load.arguments = arguments.map(owned);
        assert_eq!(session.load(load), FromWorker::Loaded);
        assert_eq!(session.schedule().logged(), [expected]);
        assert_eq!(session.schedule().logged(), [expected]);
    };
    check(None, "None");
    check(Some(vec![]), "{}");
    check(Some(vec![("a", "1"), ("b", "two")]), "{'a': '1', 'b': 'two'}");
}

#[test]
fn the_scheduled_time_is_naive_utc_with_microseconds() {
    let mut session = Session::with_plugin(
        EntryPoint::ScheduledCall,
        "
import os, time
os.environ['TZ'] = 'Asia/Tokyo'
time.tzset()
def process_scheduled_call(api, call_time, args):
    api.info(repr(call_time))
",
    );
    let mut check = |time_ns, expected: &str| {
        assert_eq!(session.run(Work::Schedule { time_ns }, &[]).logged(), [expected]);
    };
    check(0, "datetime.datetime(1970, 1, 1, 0, 0)");
    check(
        1_767_225_605_100_200_300,
        "datetime.datetime(2026, 1, 1, 0, 0, 5, 100200)",
    );
    check(-1, "datetime.datetime(1969, 12, 31, 23, 59, 59, 999999)");
}

#[test]
fn a_request_has_parameters_headers_and_a_body() {
    let mut session = Session::with_plugin(
        EntryPoint::Request,
        "
def process_request(api, parameters, headers, body, args=None):
    assert type(parameters) is dict and type(headers) is dict and type(body) is bytes
    return {'parameters': parameters, 'headers': headers, 'body': list(body), 'args': args}
",
    );
    let work = request_work(&[("a", "1"), ("b", ""), ("a", "2")], &[("x-y", "z")]);
    let finished = session.run(work, &[0, 255]);
    assert_eq!(
        finished.answered(),
        r#"200 [Content-Type: application/json] {"parameters": {"a": "2", "b": ""}, "headers": {"x-y": "z"}, "body": [0, 255], "args": null}"#
    );
}

#[test]
fn the_api_knows_its_run() {
    let mut session = Session::with_plugin(
        EntryPoint::ScheduledCall,
        "
def process_scheduled_call(api, call_time, args):
    api.info(api.trigger_name, api.database, api.run_id)
    api.warn()
    api.error(1, None, [2])
    try:
        api.info(text='x')
    except TypeError:
        api.info('no keywords')
",
    );
    let finished = session.schedule();
    assert_eq!(
        finished.logged(),
        ["the_trigger tides run-1", "", "1 None [2]", "no keywords"]
    );
    let levels: Vec<String> = finished
        .logs
        .iter()
        .map(|(level, _)| format!("{level:?}"))
        .collect();
    assert_eq!(levels, ["Info", "Warn", "Error", "Info"]);
}

#[test]
fn coroutines_are_awaited_on_one_loop_a_thread() {
    let mut session = Session::with_plugin(
        EntryPoint::Request,
        "
import asyncio
seen = []
async def process_request(api, parameters, headers, body, args):
    await asyncio.sleep(0)
    seen.append(asyncio.get_running_loop())
    return 'same' if all(loop is seen[0] for loop in seen) else 'other'
",
    );
    assert_eq!(session.request().answered(), "200 [Content-Type: text/html] same");
    assert_eq!(session.request().answered(), "200 [Content-Type: text/html] same");
}

#[test]
fn a_synchronous_plugin_may_run_loops_of_its_own() {
    let mut session = Session::with_plugin(
        EntryPoint::ScheduledCall,
        "
import asyncio
async def work():
    await asyncio.sleep(0)
    return 3
def process_scheduled_call(api, call_time, args):
    api.info(asyncio.run(work()))
",
    );
    assert_eq!(session.schedule().logged(), ["3"]);
    assert_eq!(session.schedule().logged(), ["3"]);
}

#[test]
fn on_write_is_called_once_a_table() {
    let mut session = Session::start();
    session.write_file(
        "plugin.py",
        "
def on_write(self, database, table_name, batch):
    self.info(database, table_name, batch, self.args)
",
    );
    let mut load = session.load_of(EntryPoint::Writes, "plugin.py");
    load.arguments = Some(vec![("k".into(), "v".into())]);
    assert_eq!(session.load(load), FromWorker::Loaded);
    let rows = || batch(vec![("f", array(Int64Array::from(vec![1])))]);
    let (work, blob) = writes_work(&[("a", vec![rows()]), ("b", vec![rows(), rows()])]);
    assert_eq!(
        session.run(work, &blob).logged(),
        [
            "tides a [{'f': 1}] {'k': 'v'}",
            "tides b [{'f': 1}, {'f': 1}] {'k': 'v'}"
        ]
    );
}

#[test]
fn any_callable_will_do_and_a_missing_one_is_named() {
    let mut session = Session::with_plugin(
        EntryPoint::Request,
        "
import functools
def answer(word, api, parameters, headers, body, args):
    return word
process_request = functools.partial(answer, 'partial')
",
    );
    assert_eq!(
        session.request().answered(),
        "200 [Content-Type: text/html] partial"
    );

    let mut check = |entry, expected: &str| {
        session.write_file("empty.py", "");
        let load = session.load_of(entry, "empty.py");
        let FromWorker::LoadFailed(failure) = session.load(load) else {
            panic!("loaded");
        };
        assert_eq!(
            (failure.kind, failure.message.as_str()),
            (FailureKind::MissingFunction, expected)
        );
        assert_eq!(session.schedule().failed(), &failure);
    };
    check(
        EntryPoint::Writes,
        "the process_writes function is not present in the plugin. \
         Should be defined as: process_writes(influxdb3_local, table_batches, args=None)",
    );
    check(
        EntryPoint::ScheduledCall,
        "the process_scheduled_call function is not present in the plugin. \
         Should be defined as: process_scheduled_call(influxdb3_local, call_time, args=None)",
    );
    check(
        EntryPoint::Request,
        "the process_request function is not present in the plugin. \
         Should be defined as: process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None) \
         -> Tuple[str, Optional[Dict[str, str]]]",
    );
}
