//! Hidden paths.

use std::fs;
use std::os::unix::fs::symlink;

use tidemill_sandbox::{Level, Measure, Profile, State};

use crate::child::{Place, run, run_with};

#[test]
fn a_hidden_directory_is_out_of_reach() {
    let place = Place::new();
    symlink("../data/secret", place.path("other/link")).unwrap();
    let ended = run(
        &place.profile(),
        &place.script(
            r#"
import subprocess
attempt("read", read, "data/secret")
attempt("read deeper", read, "data/sub/secret")
attempt("read by a link", read, "other/link")
attempt("read by /proc", read, "/proc/self/root" + os.getcwd() + "/data/secret")
attempt("list", os.listdir, "data")
attempt("list deeper", os.listdir, "data/sub")
attempt("write", write, "data/secret")
attempt("create", write, "data/new")
attempt("truncate", os.truncate, "data/secret", 0)
attempt("remove", os.remove, "data/secret")
attempt("rename out", os.rename, "data/secret", "other/secret")
attempt("rename in", os.rename, "other/file", "data/secret")
attempt("link out", os.link, "data/secret", "other/secret")
attempt("rename itself", os.rename, "data", "other/data")
attempt("make a directory", os.mkdir, "data/new")
print("another program", subprocess.run(["cat", "data/secret"], stderr=subprocess.DEVNULL).returncode)
"#,
        ),
    );
    if ended.lacks(Measure::HiddenPaths) {
        return;
    }
    ended.check(
        "read EACCES
        read deeper EACCES
        read by a link EACCES
        read by /proc EACCES
        list EACCES
        list deeper EACCES
        write EACCES
        create EACCES
        truncate EACCES
        remove EACCES
        rename out EACCES
        rename in EACCES
        link out EXDEV
        rename itself EACCES
        make a directory EACCES
        another program 1",
    );
    assert_eq!(fs::read(place.path("data/secret")).unwrap(), b"data/secret");
}

#[test]
fn everything_else_is_open() {
    let place = Place::new();
    let ended = run(
        &place.profile(),
        &place.script(
            r#"
import tempfile
attempt("read", read, "plugins/code.py")
attempt("read beside", read, "beside")
attempt("write beside", write, "beside")
attempt("list", os.listdir, "plugins")
attempt("create", write, "plugins/new")
attempt("truncate", os.truncate, "plugins/new", 1)
attempt("rename", os.rename, "plugins/new", "plugins/newer")
attempt("rename across", os.rename, "plugins/newer", "other/newer")
attempt("link across", os.link, "other/newer", "plugins/newest")
attempt("symbolic link", os.symlink, "code.py", "plugins/link")
attempt("fifo", os.mkfifo, "plugins/fifo")
attempt("make a directory", os.makedirs, "plugins/a/b")
attempt("remove", os.remove, "other/newer")
attempt("program", os.spawnv, os.P_WAIT, "/bin/true", ["true"])
attempt("standard output", lambda: open("/dev/stdout", "w").close())
attempt("device", write, "/dev/null")
attempt("temporary file", tempfile.mkstemp, dir="other")
"#,
        ),
    );
    let expected: String = ended
        .stdout
        .lines()
        .map(|line| format!("{} ok\n", line.rsplit_once(' ').unwrap().0))
        .collect();
    assert_eq!(ended.stdout, expected);
    assert_eq!(ended.stdout.lines().count(), 17);
}

#[test]
fn directories_on_the_way_are_closed_themselves() {
    let place = Place::new();
    let ended = run_with(
        &place.profile(),
        &place.script(
            r#"
attempt("list", os.listdir, ".")
attempt("create", write, "new")
attempt("replaced", read, "beside")
attempt("appeared", read, "later")
attempt("appeared below", read, "other/later")
attempt("found by name", os.stat, "later")
"#,
        ),
        || {
            fs::write(place.path("next"), "replaced").unwrap();
            fs::rename(place.path("next"), place.path("beside")).unwrap();
            fs::write(place.path("later"), "later").unwrap();
            fs::write(place.path("other/later"), "later").unwrap();
        },
    );
    if ended.lacks(Measure::HiddenPaths) {
        return;
    }
    ended.check(
        "list EACCES
        create EACCES
        replaced EACCES
        appeared EACCES
        appeared below ok
        found by name ok",
    );
    let note = ended
        .applied
        .reports
        .iter()
        .find(|report| report.measure == Measure::HiddenPaths)
        .unwrap();
    assert!(
        note.note
            .ends_with(&format!("{} stay closed", place.root.display())),
        "{note:?}"
    );
}

#[test]
fn a_path_that_appears_later_is_hidden() {
    let place = Place::new();
    let profile = place.hiding(&["future/store", "token"]);
    let ended = run_with(
        &profile,
        &place.script(
            r#"
attempt("directory", os.listdir, "future/store")
attempt("file in it", read, "future/store/secret")
attempt("file", read, "token")
"#,
        ),
        || {
            fs::create_dir_all(place.path("future/store")).unwrap();
            fs::write(place.path("future/store/secret"), "").unwrap();
            fs::write(place.path("token"), "").unwrap();
        },
    );
    if ended.lacks(Measure::HiddenPaths) {
        return;
    }
    ended.check(
        "directory EACCES
        file in it EACCES
        file EACCES",
    );
}

#[test]
fn a_link_is_hidden_with_its_target() {
    let place = Place::new();
    fs::create_dir(place.path("server")).unwrap();
    symlink(place.path("data"), place.path("server/data")).unwrap();
    let ended = run(
        &place.hiding(&["server/data"]),
        &place.script(
            r#"
attempt("by the link", read, "server/data/secret")
attempt("directly", read, "data/secret")
attempt("remove the link", os.remove, "server/data")
attempt("replace the link", os.rename, "other", "server/data")
"#,
        ),
    );
    if ended.lacks(Measure::HiddenPaths) {
        return;
    }
    ended.check(
        "by the link EACCES
        directly EACCES
        remove the link EACCES
        replace the link EACCES",
    );
}

#[test]
fn a_hard_link_beside_a_hidden_file_opens_nothing() {
    let place = Place::new();
    fs::hard_link(place.path("beside"), place.path("again")).unwrap();
    let ended = run(
        &place.hiding(&["beside"]),
        &place.script(
            r#"
attempt("hidden", read, "beside")
attempt("by its other name", read, "again")
attempt("a neighbour", read, "other/file")
"#,
        ),
    );
    if ended.lacks(Measure::HiddenPaths) {
        return;
    }
    ended.check(
        "hidden EACCES
        by its other name EACCES
        a neighbour ok",
    );
}

#[test]
fn a_plugin_directory_in_the_data_directory_is_open() {
    let place = Place::new();
    fs::create_dir(place.path("data/plugins")).unwrap();
    fs::write(place.path("data/plugins/code.py"), "").unwrap();
    let profile = Profile {
        visible_paths: vec![place.path("data/plugins")],
        ..place.profile()
    };
    assert_eq!(profile.nested(), []);
    let ended = run(
        &profile,
        &place.script(
            r#"
attempt("code", read, "data/plugins/code.py")
attempt("list", os.listdir, "data/plugins")
attempt("create", write, "data/plugins/new")
attempt("secret", read, "data/secret")
attempt("list data", os.listdir, "data")
"#,
        ),
    );
    if ended.lacks(Measure::HiddenPaths) {
        return;
    }
    ended.check(
        "code ok
        list ok
        create ok
        secret EACCES
        list data EACCES",
    );
}

#[test]
fn a_data_directory_in_the_plugin_directory_is_told() {
    let place = Place::new();
    let profile = Profile {
        visible_paths: vec![place.root.clone()],
        ..place.profile()
    };
    let nested = profile.nested();
    assert_eq!(nested.len(), 1);
    assert_eq!(nested[0].visible, place.root);
    assert_eq!(nested[0].hidden, place.path("data"));
    let ended = run(
        &profile,
        &place.script(
            r#"
attempt("secret", read, "data/secret")
attempt("code", read, "plugins/code.py")
"#,
        ),
    );
    if ended.lacks(Measure::HiddenPaths) {
        return;
    }
    ended.check(
        "secret EACCES
        code ok",
    );
}

#[test]
fn without_a_sandbox_nothing_is_hidden() {
    let place = Place::new();
    let profile = Profile {
        level: Level::Off,
        ..place.profile()
    };
    let ended = run(&profile, &place.script("attempt('secret', read, 'data/secret')"));
    ended.check("secret ok");
    assert_eq!(ended.applied.state(Measure::HiddenPaths), State::NotRequested);
}

#[test]
fn the_root_cannot_be_hidden() {
    let place = Place::new();
    let profile = Profile {
        hidden_paths: vec!["/".into()],
        ..Profile::default()
    };
    let ended = run(&profile, &place.script("attempt('file', read, 'beside')"));
    ended.check("file ok");
    assert_ne!(ended.applied.state(Measure::HiddenPaths), State::InForce);
}
