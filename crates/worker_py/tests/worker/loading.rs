//! Modules: names, helpers, edits.

use std::fs;

use tidemill_worker_proto::{EntryPoint, FromWorker};

use crate::harness::{Session, writes_work};

impl Session {
    #[track_caller]
    fn load_ok(&mut self, name: &str) {
        let load = self.load_of(EntryPoint::ScheduledCall, name);
        assert_eq!(self.load(load), FromWorker::Loaded);
    }
}

const SAY: &str = "\ndef process_scheduled_call(api, call_time, args):\n    api.info(";

fn say(prelude: &str, expression: &str) -> String {
    format!("{prelude}{SAY}{expression})\n")
}

#[test]
fn a_single_file_is_a_proper_module() {
    let mut session = Session::start();
    session.write_file(
        "my_plugin.py",
        &say(
            "from __future__ import annotations\nimport dataclasses, pickle, sys",
            "__name__, __file__, sys.modules[__name__].__file__ == __file__",
        ),
    );
    session.load_ok("my_plugin.py");
    let path = session.plugin_dir.path().join("my_plugin.py");
    assert_eq!(
        session.schedule().logged(),
        [format!("my_plugin {} True", path.display())]
    );
}

#[test]
fn dataclasses_and_pickles_of_a_plugin_work_whatever_it_is_called() {
    let mut session = Session::start();
    let source = say(
        "from __future__ import annotations
import dataclasses, pickle
@dataclasses.dataclass
class Point:
    x: int
",
        "pickle.loads(pickle.dumps(Point(1))), __name__",
    );
    for (file, expected) in [
        ("points.py", "Point(x=1) points"),
        ("json.py", "Point(x=1) tidemill_plugin_json"),
        ("with-dash.py", "Point(x=1) with-dash"),
        ("two.dots.py", "Point(x=1) tidemill_plugin_two_dots"),
    ] {
        session.write_file(file, &source);
        session.load_ok(file);
        assert_eq!(session.schedule().logged(), [expected]);
    }
}

#[test]
fn names_of_the_library_are_not_shadowed() {
    let mut session = Session::start();
    session.write_file(
        "json/__init__.py",
        &say(
            "import json, email\nfrom .part import word",
            "json.dumps([word]), email.__file__.endswith('email/__init__.py')",
        ),
    );
    session.write_file(
        "json/part.py",
        "import json as real\nword = real.loads('\"w\"')\n",
    );
    session.write_file("email.py", "raise Exception\n");
    session.load_ok("json");
    assert_eq!(session.schedule().logged(), [r#"["w"] True"#]);
}

#[test]
fn helpers_beside_the_plugin_can_be_imported() {
    let mut session = Session::start();
    session.write_file(
        "folder/plugin.py",
        &say("import near, far, sys", "near.word, far.word, sys.path[-2:]"),
    );
    session.write_file("folder/near.py", "word = 'near'\n");
    session.write_file("far.py", "word = 'far'\n");
    session.load_ok("folder/plugin.py");
    let root = session.plugin_dir.path().display().to_string();
    assert_eq!(
        session.schedule().logged(),
        [format!("near far ['{root}/folder', '{root}']")]
    );
}

#[test]
fn builtins_and_the_module_are_the_same_classes() {
    let mut session = Session::start();
    session.write_file(
        "plugin.py",
        &say(
            "import tidemill\nfrom tidemill import LineBuilder as Imported",
            "LineBuilder is Imported, QueryError is tidemill.QueryError, issubclass(InvalidKeyError, InfluxDBError), \
             issubclass(InfluxDBError, Exception), issubclass(tidemill.RunTimeout, TimeoutError)",
        ),
    );
    session.load_ok("plugin.py");
    assert_eq!(session.schedule().logged(), ["True True True True True"]);
}

#[test]
fn the_types_for_authors_can_be_imported() {
    let mut session = Session::start();
    session.write_file(
        "plugin.py",
        "from tidemill import Arguments, LineBuilder, PluginApi, TableBatch
import builtins, tidemill
def process_writes(api: PluginApi, table_batches: list[TableBatch], args: Arguments):
    api.info(LineBuilder is builtins.LineBuilder, type(table_batches[0]) is TableBatch, PluginApi.__module__)
    try:
        tidemill.Nothing
    except AttributeError as error:
        api.info(error)
",
    );
    let load = session.load_of(EntryPoint::Writes, "plugin.py");
    assert_eq!(session.load(load), FromWorker::Loaded);
    let (work, blob) = writes_work(&[("m", vec![])]);
    assert_eq!(
        session.run(work, &blob).logged(),
        [
            "True True tidemill",
            "module 'tidemill' has no attribute 'Nothing'"
        ]
    );
}

#[test]
fn whether_there_is_the_package_can_be_asked() {
    let mut session = Session::start();
    session.write_file(
        "plugin.py",
        &say(
            "import importlib.util",
            "importlib.util.find_spec('tidemill').name, importlib.util.find_spec('no_such_package')",
        ),
    );
    session.load_ok("plugin.py");
    assert_eq!(session.schedule().logged(), ["tidemill None"]);
}

#[test]
fn state_survives_and_an_edit_takes_effect_at_the_next_run() {
    let mut session = Session::start();
    let source = |word: &str| {
        format!(
            "count = 0\ndef process_scheduled_call(api, call_time, args):\n    global count\n    count += 1\n    api.info('{word}', count)\n"
        )
    };
    session.write_file("plugin.py", &source("one"));
    session.load_ok("plugin.py");
    assert_eq!(session.schedule().logged(), ["one 1"]);
    assert_eq!(session.schedule().logged(), ["one 2"]);
    session.write_file("plugin.py", &source("other"));
    assert_eq!(session.schedule().logged(), ["other 1"]);
    // A file moved in, older and of the same length: neither time nor size need to grow.
    session.write_file("older.py", &source("third"));
    let older = fs::File::open(session.plugin_dir.path().join("older.py")).unwrap();
    older.set_modified(std::time::UNIX_EPOCH).unwrap();
    fs::rename(
        session.plugin_dir.path().join("older.py"),
        session.plugin_dir.path().join("plugin.py"),
    )
    .unwrap();
    assert_eq!(session.schedule().logged(), ["third 1"]);
    assert_eq!(session.schedule().logged(), ["third 2"]);
}

#[test]
fn a_broken_edit_fails_runs_until_it_is_mended() {
    let mut session = Session::start();
    session.write_file("plugin.py", &say("", "'good'"));
    session.load_ok("plugin.py");
    assert_eq!(session.schedule().logged(), ["good"]);
    session.write_file("plugin.py", "import no_such_module_at_all\n");
    let message = "ModuleNotFoundError: No module named 'no_such_module_at_all'";
    assert_eq!(session.schedule().failed().message, message);
    assert_eq!(session.schedule().failed().message, message);
    // Mended from outside, with the file as it is.
    session.write_file("no_such_module_at_all.py", "");
    assert!(
        session
            .schedule()
            .failed()
            .message
            .starts_with("the process_scheduled_call function is not present")
    );
    session.write_file("plugin.py", &say("", "'mended'"));
    assert_eq!(session.schedule().logged(), ["mended"]);
}

#[test]
fn a_plugin_whose_file_is_gone_runs_on_until_there_is_another() {
    let mut session = Session::start();
    session.write_file("plugin.py", &say("", "'first'"));
    session.load_ok("plugin.py");
    fs::remove_file(session.plugin_dir.path().join("plugin.py")).unwrap();
    assert_eq!(session.schedule().logged(), ["first"]);
    session.write_file("plugin.py", &say("", "'second'"));
    assert_eq!(session.schedule().logged(), ["second"]);

    session.write_file("pack/__init__.py", &say("from .part import word", "word"));
    session.write_file("pack/part.py", "word = 'old'\n");
    session.load_ok("pack");
    fs::remove_dir_all(session.plugin_dir.path().join("pack")).unwrap();
    assert_eq!(session.schedule().logged(), ["old"]);
    session.write_file("pack/part.py", "word = 'new'\n");
    assert_eq!(session.schedule().logged(), ["old"]);
    session.write_file("pack/__init__.py", &say("from .part import word", "word"));
    assert_eq!(session.schedule().logged(), ["new"]);
}

#[test]
fn edits_anywhere_in_a_package_and_its_helpers_are_seen() {
    let mut session = Session::start();
    session.write_file(
        "pack/__init__.py",
        &say(
            "from .sub.deep import word\nfrom . import extra\nimport helper",
            "__name__, word, helper.word, extra.word",
        ),
    );
    session.write_file("pack/sub/__init__.py", "");
    session.write_file("pack/sub/deep.py", "word = 'aaa'\n");
    session.write_file("pack/extra.py", "word = 'bbb'\n");
    session.write_file("helper.py", "word = 'ccc'\n");
    session.load_ok("pack");
    assert_eq!(session.schedule().logged(), ["pack aaa ccc bbb"]);
    // Within one second and with the same length: what a bytecode file would hide.
    session.write_file("pack/sub/deep.py", "word = 'AAA'\n");
    assert_eq!(session.schedule().logged(), ["pack AAA ccc bbb"]);
    session.write_file("helper.py", "word = 'CCC'\n");
    assert_eq!(session.schedule().logged(), ["pack AAA CCC bbb"]);
    // A package in the place of a module.
    session.write_file("pack/extra/__init__.py", "word = 'BBB'\n");
    fs::remove_file(session.plugin_dir.path().join("pack/extra.py")).unwrap();
    assert_eq!(session.schedule().logged(), ["pack AAA CCC BBB"]);
    // Replaced as a whole, as `update trigger` does.
    session.write_file("new/__init__.py", &say("from .sub import word", "word"));
    session.write_file("new/sub.py", "word = 'replaced'\n");
    let folder = session.plugin_dir.path();
    fs::rename(folder.join("pack"), folder.join("pack.old")).unwrap();
    fs::rename(folder.join("new"), folder.join("pack")).unwrap();
    assert_eq!(session.schedule().logged(), ["replaced"]);
}

#[test]
fn helpers_of_a_single_file_are_loaded_again_whatever_their_age() {
    let mut session = Session::start();
    let root = session.plugin_dir.path().to_owned();
    session.write_file(
        "folder/plugin.py",
        "import near, far\nfrom shared.deep import tools\nfrom other import word as other\n\
         def process_scheduled_call(api, call_time, args):\n    import late\n    \
         api.info(near.word, far.word, tools.word, other, late.word)\n",
    );
    for (file, word) in [
        ("folder/near.py", "a"),
        ("far.py", "b"),
        ("shared/__init__.py", "-"),
        ("shared/deep/tools.py", "c"),
        ("other/__init__.py", "d"),
        ("late.py", "e"),
    ] {
        session.write_file(file, &format!("word = '{word}'\n"));
    }
    session.load_ok("folder/plugin.py");
    assert_eq!(session.schedule().logged(), ["a b c d e"]);
    assert_eq!(session.schedule().logged(), ["a b c d e"]);
    for (file, word, expected) in [
        ("folder/near.py", "A", "A b c d e"),
        ("far.py", "B", "A B c d e"),
        ("shared/deep/tools.py", "C", "A B C d e"),
        ("other/__init__.py", "D", "A B C D e"),
        // Imported by the function, not by the module.
        ("late.py", "E", "A B C D E"),
    ] {
        // As `cp -p` does it: in place, with the age of another file and the same length.
        session.write_file(file, &format!("word = '{word}'\n"));
        let edited = fs::File::options().append(true).open(root.join(file)).unwrap();
        edited.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(session.schedule().logged(), [expected]);
    }
    // A helper that is gone is missed, until it is back.
    fs::rename(root.join("far.py"), root.join("far.txt")).unwrap();
    assert_eq!(
        session.schedule().failed().message,
        "ModuleNotFoundError: No module named 'far'"
    );
    fs::rename(root.join("far.txt"), root.join("far.py")).unwrap();
    assert_eq!(session.schedule().logged(), ["A B C D E"]);
}

#[test]
fn a_traceback_names_the_lines_of_helpers_as_they_are_now() {
    let mut session = Session::start();
    session.write_file(
        "plugin.py",
        "from tools import sums\ndef process_scheduled_call(api, call_time, args):\n    sums.ratio(1)\n",
    );
    session.write_file("tools/__init__.py", "");
    session.write_file("tools/sums.py", "def ratio(n):\n    return n / 0\n");
    session.load_ok("plugin.py");
    let root = session.plugin_dir.path().display().to_string();
    let check = |session: &mut Session, line: u32, source: &str| {
        let finished = session.schedule();
        let traceback = finished.failed().traceback.clone().unwrap();
        let expected = format!(
            "Traceback (most recent call last):\n  File \"{root}/plugin.py\", line 3, in process_scheduled_call\n    \
             sums.ratio(1)\n"
        );
        assert!(traceback.starts_with(&expected), "{traceback}");
        let expected = format!("  File \"{root}/tools/sums.py\", line {line}, in ratio\n    {source}\n");
        assert!(traceback.contains(&expected), "{traceback}");
        assert!(
            traceback.ends_with("ZeroDivisionError: division by zero"),
            "{traceback}"
        );
    };
    check(&mut session, 2, "return n / 0");
    session.write_file(
        "tools/sums.py",
        "# A new line.\n\ndef ratio(n):\n    return (n + 1) / 0\n",
    );
    check(&mut session, 4, "return (n + 1) / 0");
}

#[test]
fn files_that_a_package_keeps_beside_its_source_are_no_edit() {
    let mut session = Session::start();
    session.write_file(
        "pack/__init__.py",
        "import os
count = 0
def process_scheduled_call(api, call_time, args):
    global count
    count += 1
    with open(os.path.join(os.path.dirname(__file__), f'state{count}.json'), 'w') as file:
        file.write('{}')
    api.info(count)
",
    );
    session.load_ok("pack");
    for expected in ["1", "2", "3"] {
        assert_eq!(session.schedule().logged(), [expected]);
    }
}
