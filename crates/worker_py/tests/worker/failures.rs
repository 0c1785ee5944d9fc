//! What the server is told when a plugin fails.

use tidemill_worker_proto::{EntryPoint, FailureKind, FromWorker};

use crate::harness::{Session, request_work};

#[track_caller]
fn check_raised(source: &str, expected: &str) {
    let finished = Session::with_plugin(EntryPoint::ScheduledCall, source).schedule();
    let failure = finished.failed();
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (FailureKind::Raised, expected)
    );
}

#[test]
fn any_exception_is_a_failure_of_the_run_only() {
    let call = |body: &str| format!("def process_scheduled_call(api, call_time, args):\n    {body}\n");
    check_raised(&call("raise ValueError('no')"), "ValueError: no");
    check_raised(&call("import sys; sys.exit(3)"), "SystemExit: 3");
    check_raised(&call("raise KeyboardInterrupt"), "KeyboardInterrupt: ");
    check_raised(&call("raise GeneratorExit('g')"), "GeneratorExit: g");
    check_raised(
        &call("def f(): f()\n    f()"),
        "RecursionError: maximum recursion depth exceeded",
    );
    check_raised(
        "class E(Exception):\n    def __str__(self): raise ValueError\ndef process_scheduled_call(api, call_time, args):\n    raise E\n",
        "E: <exception str() failed>",
    );
    check_raised(
        "def process_scheduled_call(api, call_time): pass",
        "TypeError: process_scheduled_call() takes 2 positional arguments but 3 were given",
    );
    check_raised(
        &call("LineBuilder('some_table').build()"),
        "InvalidLineError: At least one field is required: some_table",
    );
}

#[test]
fn a_traceback_begins_in_the_plugin() {
    let mut session = Session::with_plugin(
        EntryPoint::ScheduledCall,
        "import json
def inner(text):
    return json.loads(text)
def process_scheduled_call(api, call_time, args):
    try:
        inner('{')
    except ValueError as error:
        raise RuntimeError('outer') from error
",
    );
    let finished = session.schedule();
    let path = session.plugin_dir.path().join("plugin.py").display().to_string();
    let traceback = finished.failed().traceback.clone().unwrap();
    let wanted = [
        format!(
            "Traceback (most recent call last):\n  File \"{path}\", line 6, in process_scheduled_call\n    inner('{{')\n"
        ),
        format!("  File \"{path}\", line 3, in inner\n    return json.loads(text)\n"),
        format!(
            "\nTraceback (most recent call last):\n  File \"{path}\", line 8, in process_scheduled_call\n"
        ),
    ];
    for part in wanted {
        assert!(traceback.contains(&part), "{part}\nis not in\n{traceback}");
    }
    assert!(traceback.ends_with("RuntimeError: outer"), "{traceback}");
}

#[test]
fn a_traceback_through_an_event_loop_begins_in_the_plugin_too() {
    let mut session = Session::with_plugin(
        EntryPoint::Request,
        "async def process_request(api, parameters, headers, body, args):\n    return 1 / 0\n",
    );
    let finished = session.run(request_work(&[], &[]), &[]);
    let path = session.plugin_dir.path().join("plugin.py").display().to_string();
    let traceback = finished.failed().traceback.clone().unwrap();
    let expected =
        format!("Traceback (most recent call last):\n  File \"{path}\", line 2, in process_request\n");
    assert!(traceback.starts_with(&expected), "{traceback}");
}

#[test]
fn load_errors_name_the_place() {
    let mut session = Session::start();
    session.write_file("plugin.py", "def process_writes(:\n");
    let load = session.load_of(EntryPoint::Writes, "plugin.py");
    let FromWorker::LoadFailed(failure) = session.load(load) else {
        panic!("loaded");
    };
    assert_eq!(failure.kind, FailureKind::Load);
    assert!(
        failure.message.starts_with("SyntaxError: invalid syntax"),
        "{failure:?}"
    );
    let traceback = failure.traceback.unwrap();
    assert!(
        traceback.contains("plugin.py\", line 1") && !traceback.contains("importlib"),
        "{traceback}"
    );

    session.write_file("broken/__init__.py", "from . import missing\n");
    let load = session.load_of(EntryPoint::Writes, "broken");
    let FromWorker::LoadFailed(failure) = session.load(load) else {
        panic!("loaded");
    };
    assert!(
        failure.message.starts_with(
            "Failed to import plugin module 'broken': ImportError: cannot import name 'missing'"
        )
    );
    assert!(
        failure
            .message
            .ends_with("\nHint: Check for syntax errors or missing dependencies in Python files."),
        "{failure:?}"
    );
    assert!(
        failure
            .traceback
            .unwrap()
            .contains("broken/__init__.py\", line 1, in <module>\n    from . import missing")
    );
}
