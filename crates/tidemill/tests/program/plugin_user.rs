//! Plugins that run as a user of their own (`--plugin-user`). Only root can start them so; elsewhere these tests say that they
//! were skipped.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;
use tempfile::TempDir;
use tidemill_testkit::{ServerOptions, TestServer};

use crate::PROGRAM;
use crate::packages::make_wheel;

/// An installation that every user may read, wherever the one under test lies.
struct Installation {
    folder: TempDir,
}

impl Installation {
    /// `None` where the tests cannot do this.
    fn new() -> Option<Self> {
        let system_python = Path::new("/usr/bin/python3");
        if !rustix::process::geteuid().is_root() || !system_python.exists() {
            #[expect(clippy::print_stderr, reason = "shown with the test")]
            {
                eprintln!("skipped: needs root and {}", system_python.display());
            }
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let installation = Self { folder };
        set_mode(installation.folder.path(), 0o755);
        for name in ["bin", "plugins"] {
            fs::create_dir(installation.path(name)).expect("the folder is writable");
            set_mode(&installation.path(name), 0o755);
        }
        let program = Path::new(PROGRAM);
        let extension = program.with_file_name("libtidemill_worker.so");
        for file in [program, &extension] {
            let target = installation
                .path("bin")
                .join(file.file_name().expect("a file has a name"));
            if fs::hard_link(file, &target).is_err() {
                fs::copy(file, &target).expect("the program can be copied");
            }
        }
        Some(installation)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn program(&self) -> PathBuf {
        self.path("bin/tidemill")
    }

    fn arguments(&self, user: &str) -> Vec<String> {
        let (plugin_dir, venv) = (self.text("plugins"), self.text("venv"));
        let arguments = [
            "--plugin-dir",
            &plugin_dir,
            "--virtual-env-location",
            &venv,
            "--plugin-user",
            user,
        ];
        arguments.map(str::to_owned).to_vec()
    }

    /// An environment that root has made.
    fn make_environment(&self) {
        let made = Command::new("/usr/bin/python3")
            .args(["-m", "venv", "--without-pip"])
            .arg(self.path("venv"))
            .status();
        assert!(made.expect("python runs").success());
    }

    /// A server that is expected not to start.
    fn refused(&self, command: &mut Command, user: &str) -> Output {
        let data = self.text("data");
        command
            .args([
                "serve",
                "--node-id",
                "n",
                "--data-dir",
                &data,
                "--http-bind",
                "127.0.0.1:0",
            ])
            .args(self.arguments(user))
            .output()
            .expect("the program runs")
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("our own file");
}

const WHO: &str = "
import grp, json, os, pwd, subprocess
def attempt(action):
    try:
        return action()
    except OSError as error:
        return type(error).__name__
def process_request(*a):
    user = pwd.getpwnam('nobody')
    status = dict(line.rstrip().split(':\\t') for line in open('/proc/self/status') if ':\\t' in line)
    return {
        'user': os.getresuid() == (user.pw_uid,) * 3,
        'group': os.getresgid() == (user.pw_gid,) * 3,
        'groups': sorted(os.getgroups()) == sorted(set(os.getgrouplist('nobody', user.pw_gid))),
        'home': os.environ['HOME'] == user.pw_dir,
        'name': os.environ['USER'],
        'capabilities': int(status['CapEff'], 16) | int(status['CapPrm'], 16),
        'no_new_privs': status['NoNewPrivs'],
        'oom_score': open('/proc/self/oom_score_adj').read().strip(),
        'root again': attempt(lambda: os.setuid(0)),
        'shadow': attempt(lambda: open('/etc/shadow').read()),
        'child': subprocess.run(['id', '-un'], capture_output=True, text=True).stdout.strip(),
        'server': attempt(lambda: os.kill(os.getppid(), 0)),
    }
";

#[tokio::test]
async fn plugins_run_as_the_user_and_as_nobody_else() {
    let Some(installation) = Installation::new() else {
        return;
    };
    for (user, sandbox, manager) in [("nobody", "standard", "disabled"), ("65534", "off", "pip")] {
        let mut arguments = installation.arguments(user);
        let more = ["--plugin-sandbox", sandbox, "--package-manager", manager];
        arguments.extend(more.map(str::to_owned));
        let options = ServerOptions {
            without_plugins: true,
            arguments,
            ..ServerOptions::default()
        };
        let server = TestServer::start_with(installation.program(), options).await;
        fs::write(installation.path("plugins/who.py"), WHO).expect("our own folder");
        server.create_database("d").await;
        server
            .create_trigger("d", "who", "who.py", "request:who", json!({}))
            .await;
        let expected = json!({
            "user": true, "group": true, "groups": true, "home": true, "name": "nobody", "capabilities": 0,
            "no_new_privs": "1", "oom_score": "1000", "root again": "PermissionError", "shadow": "PermissionError",
            "child": "nobody", "server": "PermissionError",
        });
        assert_eq!(
            server.get("/api/v3/engine/who").await.json(),
            expected,
            "{sandbox}"
        );
        let log = server.log();
        assert!(log.contains("user (65534)"), "the status says it: {log}");
        // The first server has made it, for the user.
        let environment = fs::metadata(installation.path("venv/bin")).expect("the environment is there");
        assert_eq!(environment.uid(), 65534);
        if manager == "pip" {
            install(&installation, &server).await;
        }
    }
}

/// The installer is foreign code too.
async fn install(installation: &Installation, server: &TestServer) {
    let wheels = installation.path("wheels");
    fs::create_dir(&wheels).expect("our own folder");
    make_wheel(&wheels, "1.0");
    let body = json!({"packages": ["tidal"], "find_links": [wheels], "offline": true});
    let endpoint = "/api/v3/configure/plugin_environment/install_packages";
    let answer = server.post_json(endpoint, &body).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    let library = installation.path("venv/lib");
    let version = fs::read_dir(&library).expect("it is there").next();
    let version = version.expect("of one Python").expect("it can be listed");
    let module = version.path().join("site-packages/tidal/inner.py");
    assert_eq!(fs::metadata(module).expect("it was installed").uid(), 65534);
    let lock = fs::metadata(installation.path("plugins/requirements.lock"));
    assert_eq!(lock.expect("the server has written it").uid(), 0);
}

#[tokio::test]
async fn what_keeps_plugins_from_it_is_said_at_the_start() {
    let Some(installation) = Installation::new() else {
        return;
    };
    let program = installation.program();
    let refused = |user: &str| {
        let output = installation.refused(&mut Command::new(&program), user);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let error = refused("no-such-user");
    assert!(
        error.contains("--plugin-user no-such-user: this machine has no such user"),
        "{error}"
    );

    set_mode(&installation.path("plugins"), 0o700);
    let error = refused("nobody");
    let plugins = installation.text("plugins");
    assert!(
        error.contains(&format!("the user nobody, which cannot read and enter {plugins}")),
        "{error}"
    );
    set_mode(&installation.path("plugins"), 0o755);

    // The program may be executed, the extension beside it not be read.
    let extension = installation.path("bin/libtidemill_worker.so");
    let own = installation.path("bin/copy");
    fs::copy(&extension, &own).expect("our own folder");
    fs::rename(&own, &extension).expect("our own folder");
    set_mode(&extension, 0o700);
    let error = refused("nobody");
    assert!(
        error.contains("cannot read ") && error.contains("libtidemill_worker.so"),
        "{error}"
    );
    set_mode(&extension, 0o755);

    let mut command = Command::new(&program);
    fs::create_dir(installation.path("data")).unwrap_or_default();
    command.uid(65534).gid(65534);
    let output = installation.refused(&mut command, "nobody");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("if the server is started as root"), "{error}");
}

/// The environment is only looked for when the server runs: it is reported where a plugin is tried.
#[tokio::test]
async fn a_closed_environment_is_reported_to_whoever_needs_it() {
    let Some(installation) = Installation::new() else {
        return;
    };
    installation.make_environment();
    set_mode(&installation.path("venv"), 0o700);
    let options = ServerOptions {
        without_plugins: true,
        arguments: installation.arguments("nobody"),
        ..ServerOptions::default()
    };
    let server = TestServer::start_with(installation.program(), options).await;
    fs::write(installation.path("plugins/who.py"), WHO).expect("our own folder");
    server.create_database("d").await;
    let test = json!({"filename": "who.py", "database": "d"});
    let answer = server.post_json("/api/v3/plugin_test/request", &test).await;
    assert_eq!(answer.status, 503);
    let text = answer.text();
    assert!(
        text.contains("the user nobody, which cannot read and enter"),
        "{text}"
    );
    assert!(text.contains(&installation.text("venv")), "{text}");
}
