//! No plugin can hurt the database or another plugin (`design.md` section 6).

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidemill_testkit::{ServerOptions, TestServer, eventually};

use crate::{PROGRAM, server};

/// A healthy trigger beside the bad one; its answer shows that others run on.
pub(crate) async fn with_neighbour() -> TestServer {
    let server = server().await;
    add_neighbours(&server).await;
    server
}

/// The database `d` with the healthy triggers.
pub(crate) async fn add_neighbours(server: &TestServer) {
    server.put_plugin("good.py", "def process_request(*a): return 'well'\n");
    server.put_plugin("mirror.py", "def process_writes(influxdb3_local, table_batches, args=None):\n    for batch in table_batches:\n        for row in batch['rows']:\n            influxdb3_local.write(LineBuilder('mirror').float64_field('v', row['v']).time_ns(row['time']))\n");
    server.create_database("d").await;
    server
        .create_trigger("d", "good", "good.py", "request:good", json!({}))
        .await;
    server
        .create_trigger("d", "mirror", "mirror.py", "table:m", json!({}))
        .await;
}

/// Writes, queries, a request to the neighbour and the neighbour's derived row, all while the bad plugin does its worst.
pub(crate) async fn everything_works(server: &TestServer, time: i64) {
    let started = Instant::now();
    server.write("d", &format!("m v=1 {time}")).await;
    assert_eq!(
        server
            .query(
                "d",
                &format!("SELECT v FROM m WHERE time = to_timestamp_nanos({time})")
            )
            .await,
        [json!({"v": 1.0})]
    );
    assert_eq!(server.get("/api/v3/engine/good").await.text(), "well");
    let mirrored = async || {
        let sql = format!("SELECT v FROM mirror WHERE time = to_timestamp_nanos({time})");
        (server.try_query("d", &sql).await.json() == json!([{"v": 1.0}])).then_some(())
    };
    eventually("the neighbour derives its row", mirrored).await;
    // Not a measurement: only to tell "at once" from "when the bad plugin is done", which is never.
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "took {:?}",
        started.elapsed()
    );
}

pub(crate) async fn has_started(server: &TestServer, trigger: &str) {
    let started = async || {
        let log = server.plugin_log("d", trigger).await;
        log.iter()
            .any(|line| line.contains("starting execution"))
            .then_some(())
    };
    eventually("the bad plugin runs", started).await;
}

#[tokio::test]
async fn endless_loops_hurt_nobody_and_can_be_disabled() {
    let mut server = with_neighbour().await;
    server.put_plugin("spin.py", "def process_writes(*a):\n    while True: pass\n");
    server
        .create_trigger("d", "spin", "spin.py", "table:m", json!({}))
        .await;
    everything_works(&server, 1).await;
    has_started(&server, "spin").await;
    for time in 2..5 {
        everything_works(&server, time).await;
    }
    let disable = "/api/v3/configure/processing_engine_trigger/disable?db=d&trigger_name=spin";
    assert_eq!(server.post(disable, "").await.status, 200);
    let enable = disable.replace("disable?", "enable?");
    assert_eq!(server.post(&enable, "").await.status, 200);
    server.write("d", "m v=1 9").await;
    assert_eq!(server.stop().await, 0, "{}", server.log());
}

#[tokio::test]
async fn a_process_that_dies_fails_its_run_and_comes_back() {
    for (name, code, trace) in [
        ("exit", "import os\ndef die(): os._exit(1)\n", ""),
        (
            "segfault",
            "import ctypes\ndef die(): ctypes.string_at(0)\n",
            "Segmentation fault",
        ),
        (
            "kill",
            "import os, signal\ndef die(): os.kill(os.getpid(), signal.SIGKILL)\n",
            "",
        ),
    ] {
        let server = with_neighbour().await;
        let plugin = format!(
            "{code}def process_writes(influxdb3_local, table_batches, args=None):\n    \
             for row in table_batches[0]['rows']:\n        if row['v'] == 13.0: die()\n    \
             influxdb3_local.info('survived')\n"
        );
        server.put_plugin("die.py", &plugin);
        server
            .create_trigger("d", "die", "die.py", "table:fatal", json!({}))
            .await;
        server.write("d", "fatal v=13 1").await;
        let failed = async || {
            let log = server.plugin_log("d", "die").await;
            (log.iter()
                .any(|line| line.starts_with("ERROR: error executing wal plugin: "))
                && log.iter().any(|line| line.contains(trace)))
            .then_some(())
        };
        eventually(&format!("{name}: the run counts as failed"), failed).await;
        everything_works(&server, 1).await;
        server.write("d", "fatal v=1 2").await;
        let survived = async || {
            server
                .plugin_log("d", "die")
                .await
                .contains(&"INFO: survived".to_owned())
                .then_some(())
        };
        eventually(&format!("{name}: a new process runs the next batch"), survived).await;
    }
}

#[tokio::test]
async fn a_request_to_a_dying_plugin_is_answered() {
    let server = with_neighbour().await;
    server.put_plugin(
        "die.py",
        "import os\ndef process_request(l, q, *a):\n    if 'die' in q: os._exit(1)\n    return 'alive'\n",
    );
    server
        .create_trigger("d", "die", "die.py", "request:die", json!({}))
        .await;
    assert_eq!(server.get("/api/v3/engine/die").await.text(), "alive");
    assert_eq!(server.get("/api/v3/engine/die?die=1").await.status, 500);
    let back = async || (server.get("/api/v3/engine/die").await.text() == "alive").then_some(());
    eventually("the plugin answers again", back).await;
    everything_works(&server, 1).await;
}

#[tokio::test]
async fn no_process_outlives_the_server() {
    let mut server = with_neighbour().await;
    server.put_plugin(
        "pid.py",
        "import os\ndef process_request(*a): return str(os.getpid())\n",
    );
    server
        .create_trigger("d", "pid", "pid.py", "request:pid", json!({}))
        .await;
    let pid = server.get("/api/v3/engine/pid").await.text();
    let process = std::path::PathBuf::from(format!("/proc/{pid}/stat"));
    assert!(process.exists());
    server.kill();
    let gone = async || {
        // A killed process whose new parent has not collected it yet is gone for our purposes.
        let state = std::fs::read_to_string(&process).ok();
        state.is_none_or(|stat| stat.contains(") Z ")).then_some(())
    };
    eventually("the worker is gone", gone).await;
}

#[tokio::test]
async fn output_of_a_plugin_is_in_its_log() {
    let server = with_neighbour().await;
    server.put_plugin("print.py", "import sys\ndef process_request(*a):\n    print('to stdout')\n    print('to stderr', file=sys.stderr)\n    return 'done'\n");
    server
        .create_trigger("d", "print", "print.py", "request:print", json!({}))
        .await;
    assert_eq!(server.get("/api/v3/engine/print").await.text(), "done");
    let logged = async || {
        let log = server.plugin_log("d", "print").await;
        (log.contains(&"INFO: to stdout".to_owned()) && log.contains(&"WARN: to stderr".to_owned()))
            .then_some(())
    };
    eventually("both lines are logged", logged).await;
}

/// Tries what a plugin may and may not do, and says for each what came of it.
const TRIALS: &str = r#"
import importlib, json, os, socket, subprocess, tempfile, threading

def attempt(action, *args):
    try:
        return action(*args)
    except Exception as error:
        return type(error).__name__

def read(path):
    with open(path) as file:
        return file.read()

def write(path):
    with open(path, "w") as file:
        file.write("kept")
    return read(path)

def temporary():
    with tempfile.NamedTemporaryFile("w+") as file:
        return write(file.name)

def thread():
    done = []
    runner = threading.Thread(target=done.append, args=("ran",))
    runner.start()
    runner.join()
    return done[0]

def connect(port):
    with socket.create_connection(("127.0.0.1", port)):
        return "connected"

def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    data = query_parameters["data"]
    return {
        "list data": attempt(os.listdir, data),
        "read data": attempt(read, os.path.join(data, "secret")),
        "write data": attempt(write, os.path.join(data, "new")),
        "child reads data": subprocess.run(["cat", os.path.join(data, "secret")], capture_output=True, text=True).stdout,
        "server's environment": attempt(lambda: len(read(f"/proc/{os.getppid()}/environ")) > 0),
        "plugin directory": attempt(write, os.path.join(os.environ["PLUGIN_DIR"], "notes.txt")),
        "temporary file": attempt(temporary),
        "library": attempt(lambda: importlib.import_module("sqlite3").connect(":memory:").execute("SELECT 5").fetchone()[0]),
        "package": attempt(lambda: importlib.import_module("site_package_of_the_test").WORD),
        "thread": attempt(thread),
        "child": attempt(lambda: subprocess.run(["sh", "-c", "exit 7"]).returncode),
        "network": attempt(connect, int(query_parameters["port"])),
    }
"#;

/// Where the tests put everything but the data: the data lies in the system's own directory for temporary files.
fn temporary_folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("cargo has made the folder")
}

/// A server with a sandbox, whose plugins have their temporary files elsewhere than it has its data.
async fn sandboxed(temporary: &TempDir, arguments: &[&str]) -> TestServer {
    let options = ServerOptions {
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        environment: vec![("TMPDIR".to_owned(), temporary.path().display().to_string())],
        ..ServerOptions::default()
    };
    TestServer::start_with(PROGRAM, options).await
}

/// What comes of the trials. The data directory has a file `secret` in it.
async fn trials(server: &TestServer) -> Value {
    std::fs::write(server.data_dir().join("secret"), "the secret").expect("the data directory is there");
    server.put_plugin("site_package_of_the_test/__init__.py", "WORD = 'imported'\n");
    server.put_plugin("trials.py", TRIALS);
    server.create_database("d").await;
    server
        .create_trigger("d", "trials", "trials.py", "request:trials", json!({}))
        .await;
    let (_, port) = server.address().rsplit_once(':').expect("an address has a port");
    let data_dir = server.data_dir();
    let path = format!("/api/v3/engine/trials?data={}&port={port}", data_dir.display());
    server.get(&path).await.json()
}

/// Whether this kernel can hide paths. Where it cannot, the log must say why.
fn hides_paths(server: &TestServer) -> bool {
    let log = server.log();
    let lacks = log
        .lines()
        .find(|line| line.contains("the sandbox of plugins lacks hidden_paths"));
    if let Some(line) = lacks {
        assert!(line.contains("Landlock"), "{line}");
        return false;
    }
    assert!(log.contains("in force: no_new_privs"), "{log}");
    true
}

/// What is expected of [`trials`], but for what lies open on kernels that hide nothing.
fn expected(hides_paths: bool, network: &str) -> Value {
    let mut expected = json!({
        "list data": "PermissionError",
        "read data": "PermissionError",
        "write data": "PermissionError",
        "child reads data": "",
        "server's environment": "PermissionError",
        "plugin directory": "kept",
        "temporary file": "kept",
        "library": 5,
        "package": "imported",
        "thread": "ran",
        "child": 7,
        "network": network,
    });
    if !hides_paths {
        forget_data(&mut expected);
    }
    expected
}

fn forget_data(trials: &mut Value) {
    let trials = trials.as_object_mut().expect("an object");
    trials.retain(|name, _| !name.contains("data") && !name.contains("environment"));
}

#[tokio::test]
async fn a_plugin_is_kept_from_the_servers_data_and_from_little_else() {
    let temporary = temporary_folder();
    for (arguments, network) in [
        (&[][..], "connected"),
        (&["--plugin-sandbox", "strict"][..], "PermissionError"),
    ] {
        let server = sandboxed(&temporary, arguments).await;
        let mut found = trials(&server).await;
        let hides_paths = hides_paths(&server);
        if !hides_paths {
            forget_data(&mut found);
        }
        assert_eq!(found, expected(hides_paths, network), "{arguments:?}");
    }
}

#[tokio::test]
async fn without_a_sandbox_a_plugin_may_do_what_the_server_may() {
    let temporary = temporary_folder();
    let server = sandboxed(&temporary, &["--plugin-sandbox", "off"]).await;
    let found = trials(&server).await;
    assert_eq!(found["read data"], "the secret");
    assert_eq!(found["write data"], "kept");
    assert_eq!(found["network"], "connected");
}

/// To hide data among temporary files would refuse plugins all new ones.
#[tokio::test]
async fn data_among_temporary_files_is_not_hidden_and_the_log_says_so() {
    let server = server().await;
    let found = trials(&server).await;
    assert_eq!(found["temporary file"], "kept");
    assert_eq!(found["read data"], "the secret");
    let log = server.log();
    let folder = std::env::temp_dir();
    assert!(
        log.contains(&format!(
            "is not hidden from plugins, since it lies in {}",
            folder.display()
        )),
        "{log}"
    );
}

/// Whether a process is there and more than a zombie that nobody has collected yet.
fn is_running(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Leaves two processes behind: a daemon as they are made by the book, and one without any environment.
const LEAVES_CHILDREN: &str = "
import os, subprocess, time
def daemon():
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writer, str(os.getpid()).encode())
            os.closerange(0, 100)
            time.sleep(1000)
        os._exit(0)
    os.wait()
    return os.read(reader, 100).decode()
def process_request(influxdb3_local, query_parameters, *a):
    if 'die' in query_parameters: os._exit(3)
    bare = subprocess.Popen(['/bin/sleep', '1000'], start_new_session=True, env={})
    return f'{daemon()} {bare.pid}'
";

#[tokio::test]
async fn processes_that_a_plugin_leaves_behind_end_with_its_process() {
    let mut server = with_neighbour().await;
    server.put_plugin("leave.py", LEAVES_CHILDREN);
    server
        .create_trigger("d", "leave", "leave.py", "request:leave", json!({}))
        .await;
    let leave = async |server: &TestServer| {
        let left = eventually("the plugin answers", async || {
            let answer = server.get("/api/v3/engine/leave").await;
            (answer.status == 200).then(|| answer.text())
        });
        let left: Vec<String> = left.await.split(' ').map(str::to_owned).collect();
        assert!(left.iter().all(|pid| is_running(pid)), "{left:?}");
        left
    };
    let gone = async |left: &[String]| {
        let gone = async || (!left.iter().any(|pid| is_running(pid))).then_some(());
        eventually("what was left behind is gone", gone).await;
    };

    let left = leave(&server).await;
    assert_eq!(server.get("/api/v3/engine/leave?die=1").await.status, 500);
    gone(&left).await;

    let left = leave(&server).await;
    let trigger = "/api/v3/configure/processing_engine_trigger";
    let disabled = server
        .post(&format!("{trigger}/disable?db=d&trigger_name=leave"), "")
        .await;
    assert_eq!(disabled.status, 200);
    gone(&left).await;
    let enabled = server
        .post(&format!("{trigger}/enable?db=d&trigger_name=leave"), "")
        .await;
    assert_eq!(enabled.status, 200);
    everything_works(&server, 1).await;

    let left = leave(&server).await;
    assert_eq!(server.stop().await, 0);
    assert!(
        !left.iter().any(|pid| is_running(pid)),
        "gone before the server is"
    );
}

#[tokio::test]
async fn a_plugin_that_closes_every_file_gets_a_new_process() {
    let server = with_neighbour().await;
    server.put_plugin(
        "close.py",
        "import os\ndef process_request(l, query, *a):\n    if 'close' in query: os.closerange(0, 4096)\n    return str(os.getpid())\n",
    );
    server
        .create_trigger("d", "close", "close.py", "request:close", json!({}))
        .await;
    let before = server.get("/api/v3/engine/close").await.text();
    let closed = server.get("/api/v3/engine/close?close=1").await;
    assert_eq!(closed.status, 500);
    let reason = "the plugin has closed its connection to the server";
    assert!(closed.text().contains(reason), "{}", closed.text());
    everything_works(&server, 1).await;
    let after = eventually("a new process answers", async || {
        let answer = server.get("/api/v3/engine/close").await;
        (answer.status == 200).then(|| answer.text())
    })
    .await;
    assert_ne!(after, before);
    let log = server.plugin_log("d", "close").await;
    assert!(
        log.iter()
            .any(|line| line.starts_with("ERROR") && line.contains(reason)),
        "{log:?}"
    );
}

#[tokio::test]
async fn exits_and_interrupts_fail_a_run_at_most() {
    let server = with_neighbour().await;
    server.put_plugin(
        "exit.py",
        "
import _thread, os, signal, sys, threading, time
def raises(error):
    raise error
def process_request(influxdb3_local, query_parameters, *a):
    how = query_parameters.get('how')
    if how == 'exit':
        sys.exit('enough')
    if how == 'interrupt':
        raise KeyboardInterrupt('by the plugin')
    if how == 'thread':
        for error in (SystemExit('in a thread'), KeyboardInterrupt('in a thread')):
            thread = threading.Thread(target=raises, args=(error,))
            thread.start()
            thread.join()
    if how == 'main':
        # Arrives when no run is in flight, or in the next one.
        threading.Timer(0.05, _thread.interrupt_main).start()
    return 'well'
",
    );
    server
        .create_trigger("d", "exit", "exit.py", "request:exit", json!({}))
        .await;
    let ask = async |how: &str| {
        let answer = server.get(&format!("/api/v3/engine/exit?how={how}")).await;
        (answer.status, answer.text())
    };
    let well = (200, "well".to_owned());
    assert_eq!(ask("").await, well);
    let (status, text) = ask("exit").await;
    assert!(status == 500 && text.contains("SystemExit: enough"), "{text}");
    assert_eq!(ask("").await, well);
    let (status, text) = ask("interrupt").await;
    assert!(
        status == 500 && text.contains("KeyboardInterrupt: by the plugin"),
        "{text}"
    );
    assert_eq!(ask("thread").await, well);
    assert_eq!(ask("main").await, well);
    let logged = async || {
        let log = server.plugin_log("d", "exit").await;
        let has = |text: &str| log.iter().any(|line| line.contains(text));
        (has("SystemExit: enough") && has("KeyboardInterrupt: in a thread")).then_some(())
    };
    eventually("the log has what happened", logged).await;
    everything_works(&server, 1).await;
    let back = async || (ask("").await == (200, "well".to_owned())).then_some(());
    eventually("the plugin answers", back).await;
}
