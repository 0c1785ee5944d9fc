//! `write`, `write_to_db`, `write_sync`, `write_sync_to_db`.

use bytes::Bytes;
use tidemill_worker_proto::{EntryPoint, FromWorker, ToWorker};

use crate::harness::{Answers, Session, request_work};

fn schedule(body: &str) -> Session {
    let source = format!(
        "def process_scheduled_call(api, call_time, args):\n    {}\n",
        body.replace('\n', "\n    ")
    );
    Session::with_plugin(EntryPoint::ScheduledCall, &source)
}

#[test]
fn writes_are_collected_by_database() {
    let mut session = schedule(
        "
class Many:
    def build(self): return 'm f=3\\nm f=4'
api.write(LineBuilder('m').int64_field('f', 1))
api.write_to_db('other', 'm f=2\\n')
api.write(Many())
api.write_to_db('tides', ['m f=5', LineBuilder('m').int64_field('f', 6)])
api.write_to_db('other', (Many(),))
api.write('')",
    );
    let expected = [
        (None, "m f=1i\nm f=3\nm f=4\nm f=5\nm f=6i".to_owned()),
        (Some("other".to_owned()), "m f=2\nm f=3\nm f=4".to_owned()),
    ];
    assert_eq!(session.schedule().written(), expected);
    assert_eq!(session.schedule().written(), expected);
}

#[test]
fn what_cannot_be_written_is_an_exception() {
    let mut session = schedule(
        "
class Odd:
    def build(self): return 5
for argument in (5, None, Odd(), [['m f=1']], LineBuilder('m')):
    try:
        api.write(argument)
    except Exception as error:
        api.info(type(error).__name__, error)",
    );
    let finished = session.schedule();
    assert_eq!(
        finished.logged(),
        [
            "AttributeError 'int' object has no attribute 'build'",
            "AttributeError 'NoneType' object has no attribute 'build'",
            "TypeError build() must return str, not int",
            "AttributeError 'list' object has no attribute 'build'",
            "InvalidLineError At least one field is required: m",
        ]
    );
    assert_eq!(finished.written(), []);
}

#[test]
fn a_failed_run_writes_nothing() {
    let mut session = schedule("api.write('m f=1')\nraise ValueError('x')");
    let finished = session.schedule();
    assert_eq!(finished.failed().message, "ValueError: x");
    assert!(finished.blob.is_empty());
}

fn answer_write(seen: &mut Vec<String>, message: &FromWorker, lines: &Bytes) -> Answers {
    let FromWorker::Write {
        call,
        run,
        database,
        no_sync,
    } = message
    else {
        panic!("{message:?}");
    };
    let lines = String::from_utf8(lines.to_vec()).unwrap();
    seen.push(format!("{run:?} {database:?} {no_sync} {lines:?}"));
    let outcome = if lines.is_empty() {
        Err("error writing line protocol to tides: Cannot write: incoming write was empty".to_owned())
    } else {
        Ok(())
    };
    vec![(ToWorker::WriteDone { call: *call, outcome }, vec![])]
}

#[test]
fn synchronous_writes_wait_for_their_answer() {
    let mut session = schedule(
        "
api.write_sync('m f=1', no_sync=False)
api.write_sync_to_db('other', LineBuilder('m').int64_field('f', 2), True)
api.write_sync_to_db('tides', ['m f=3', 'm f=4'], no_sync=True)
try:
    api.write_sync('', False)
except Exception as error:
    api.info(type(error) is Exception, error)
for arguments in (('m f=1',), ('m f=1', 1)):
    try:
        api.write_sync(*arguments)
    except TypeError as error:
        api.info('TypeError')",
    );
    let mut seen = Vec::new();
    let run = session.begin(tidemill_worker_proto::Work::Schedule { time_ns: 0 }, &[]);
    let finished = session.finish(run, |message, lines| answer_write(&mut seen, message, lines));
    assert_eq!(
        finished.logged(),
        [
            "True error writing line protocol to tides: Cannot write: incoming write was empty",
            "TypeError",
            "TypeError"
        ]
    );
    assert_eq!(
        seen,
        [
            r#"Some(RunId(1)) None false "m f=1""#,
            r#"Some(RunId(1)) Some("other") true "m f=2i""#,
            r#"Some(RunId(1)) None true "m f=3\nm f=4""#,
            r#"Some(RunId(1)) None false """#,
        ]
    );
}

#[test]
fn writes_outside_a_run_are_committed_at_once() {
    let mut session = Session::with_plugin(
        EntryPoint::ScheduledCall,
        "
import threading
kept = None
def process_scheduled_call(api, call_time, args):
    global kept
    if kept is None:
        kept = api
        go = threading.Event()
        api.cache.put('go', go)
        def work():
            go.wait()
            kept.info('outside')
            kept.write('m f=1')
        api.cache.put('thread', threading.Thread(target=work))
        api.cache.get('thread').start()
    else:
        # An object that was kept belongs to the run that its thread executes.
        kept.write('m f=2')
",
    );
    assert_eq!(session.schedule().written(), []);
    assert_eq!(session.schedule().written(), [(None, "m f=2".to_owned())]);

    let load = {
        session.write_file(
            "other.py",
            "def process_scheduled_call(api, call_time, args):\n    api.cache.get('go').set()\n",
        );
        session.load_of(EntryPoint::ScheduledCall, "other.py")
    };
    assert_eq!(session.load(load), FromWorker::Loaded);
    let run = session.begin(tidemill_worker_proto::Work::Schedule { time_ns: 0 }, &[]);
    let mut ended = false;
    let mut seen = Vec::new();
    while !ended || seen.len() < 2 {
        let frame = session.next();
        match frame.head {
            FromWorker::Finished { run: finished, .. } => {
                assert_eq!(finished, run);
                ended = true;
            }
            FromWorker::Log { text, .. } => seen.push(text),
            call => {
                let mut lines = Vec::new();
                let answers = answer_write(&mut lines, &call, &frame.blob);
                seen.extend(
                    lines
                        .into_iter()
                        .map(|line| line.split_once(' ').unwrap().1.to_owned()),
                );
                for (message, blob) in answers {
                    session.send(&message, &blob);
                }
            }
        }
    }
    assert_eq!(seen, ["outside", r#"None false "m f=1""#]);
}

#[test]
fn a_run_gives_back_no_more_than_its_limit() {
    let mut session = Session::with_plugin(
        EntryPoint::Request,
        "
def process_request(api, query_parameters, *a):
    def attempt(write, *arguments):
        try:
            write(*arguments)
        except ValueError as error:
            api.info(error)
    attempt(api.write, 'm f=1')
    attempt(api.write_to_db, 'other', 'm f=1234567')
    attempt(api.write_sync, 'm f=1234567890123', True)
    attempt(api.write, 'm f=2')
    return 'x' * int(query_parameters['length'])
",
    );
    let mut load = session.load_of(EntryPoint::Request, "plugin.py");
    load.output_bytes_max = 15;
    assert_eq!(session.load(load), FromWorker::Loaded);
    let mut ask = |length: &str| session.run(request_work(&[("length", length)], &[]), &[]);
    let finished = ask("4");
    assert_eq!(
        finished.logged(),
        [
            "the run exceeds the trigger's output limit of 15 bytes",
            "the write exceeds the trigger's output limit of 15 bytes"
        ]
    );
    assert_eq!(&finished.blob[..], b"m f=1\nm f=2xxxx");
    assert_eq!(
        ask("5").failed().message,
        "the run exceeds the trigger's output limit of 15 bytes: its answer has 5, the lines that it writes have 11"
    );
}
