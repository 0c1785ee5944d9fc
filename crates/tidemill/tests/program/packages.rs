//! Packages of plugins: installed, listed, locked, and upgraded under triggers that run (`spec/engine.md` 0.18, 7.3).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tidemill_testkit::{ServerOptions, TestServer, eventually};

use crate::PROGRAM;

const INSTALL: &str = "/api/v3/configure/plugin_environment/install_packages";
const PACKAGES: &str = "/api/v3/configure/plugin_environment/packages";

/// A server that makes an environment of its own, which the test may change.
async fn server_with_environment() -> TestServer {
    let options = ServerOptions {
        own_venv: true,
        arguments: ["--package-manager", "pip"].map(str::to_owned).to_vec(),
        ..ServerOptions::default()
    };
    TestServer::start_with(PROGRAM, options).await
}

/// A wheel with one module, which knows its version.
pub(crate) fn make_wheel(folder: &Path, version: &str) {
    const MAKE: &str = "
import sys, zipfile
place, version = sys.argv[1:]
info = f'tidal-{version}.dist-info'
with zipfile.ZipFile(f'{place}/tidal-{version}-py3-none-any.whl', 'w') as wheel:
    wheel.writestr('tidal/__init__.py', 'from tidal.inner import VERSION\\n')
    wheel.writestr('tidal/inner.py', f'VERSION = {version!r}\\n')
    wheel.writestr(f'{info}/METADATA', f'Metadata-Version: 2.1\\nName: tidal\\nVersion: {version}\\n')
    wheel.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(f'{info}/RECORD', '')
";
    let made = std::process::Command::new("python3")
        .args(["-c", MAKE])
        .arg(folder)
        .arg(version)
        .status();
    assert!(made.expect("python3 is installed").success());
}

/// Two versions of a package, in a folder.
fn wheels(server: &TestServer) -> PathBuf {
    let folder = server.plugin_dir().join("wheels");
    fs::create_dir(&folder).expect("the plugin directory is writable");
    make_wheel(&folder, "1.0");
    make_wheel(&folder, "2.0");
    folder
}

#[tokio::test]
async fn a_package_is_upgraded_under_busy_triggers() {
    let server = server_with_environment().await;
    let wheels = wheels(&server).display().to_string();
    let install = async |package: &str| {
        server
            .command(&[
                "install",
                "package",
                "--offline",
                "--find-links",
                &wheels,
                package,
            ])
            .await
    };

    let refused = install("tidal==3.0").await;
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{refused:?}");
    assert!(refused.stderr.contains("No matching distribution"), "{refused:?}");
    assert!(
        refused.stderr.contains("Install command failed: ")
            && refused.stderr.contains("pip failed with exit status: 1"),
        "{refused:?}"
    );

    let installed = install("tidal==1.0").await;
    assert_eq!(
        (installed.code, installed.stdout.as_str()),
        (0, ""),
        "{installed:?}"
    );
    assert!(
        installed.stderr.contains("pip install --find-links="),
        "{installed:?}"
    );
    assert!(
        installed.stderr.contains("Successfully installed tidal-1.0"),
        "{installed:?}"
    );

    server.put_plugin(
        "answer.py",
        "import tidal, time\ndef process_request(l, query, *a):\n    time.sleep(float(query.get('for', 0)))\n    return tidal.VERSION\n",
    );
    server.put_plugin(
        "derive.py",
        "import tidal\ndef process_writes(influxdb3_local, table_batches, args=None):\n    for batch in table_batches:\n        \
         for row in batch['rows']:\n            influxdb3_local.write(LineBuilder('seen').tag('version', tidal.VERSION).int64_field('v', row['v']).time_ns(row['time']))\n",
    );
    server.create_database("d").await;
    server
        .create_trigger("d", "answer", "answer.py", "request:answer", json!({}))
        .await;
    let concurrent = json!({"trigger_settings": {"run_async": true, "error_behavior": "log"}});
    server
        .create_trigger("d", "concurrent", "answer.py", "request:concurrent", concurrent)
        .await;
    server
        .create_trigger("d", "derive", "derive.py", "table:m", json!({}))
        .await;
    assert_eq!(server.get("/api/v3/engine/concurrent").await.text(), "1.0");
    server.write("d", "m v=1i 1").await;

    // Never idle: a request is always there, and each is answered by the one or the other version.
    let upgraded = AtomicBool::new(false);
    let ask = async |path: &str| {
        let mut answers = Vec::new();
        let deadline = Instant::now() + Duration::from_mins(1);
        while answers.last().is_none_or(|last| last != "2.0") {
            let answer = server.get(path).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            answers.push(answer.text());
            assert!(Instant::now() < deadline, "still the old version");
            if answers.len() == 1 {
                upgraded.store(true, Ordering::SeqCst);
            }
        }
        answers
    };
    let upgrade = async {
        while !upgraded.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let installed = install("tidal==2.0").await;
        assert_eq!(installed.code, 0, "{installed:?}");
    };
    // In flight when the package changes: it ends as it began.
    let slow = server.get("/api/v3/engine/concurrent?for=8");
    let (answers, others, slow, ()) = tokio::join!(
        ask("/api/v3/engine/answer?for=0.01"),
        ask("/api/v3/engine/answer?for=0.01"),
        slow,
        upgrade
    );
    assert_eq!((slow.status, slow.text().as_str()), (200, "1.0"));
    for answers in [answers, others] {
        assert_eq!(answers.first().map(String::as_str), Some("1.0"));
        assert!(
            answers.is_sorted(),
            "no answer of the old version comes after one of the new"
        );
    }
    let concurrent = async || (server.get("/api/v3/engine/concurrent").await.text() == "2.0").then_some(());
    eventually("the other trigger has the new version", concurrent).await;
    server.write("d", "m v=2i 2").await;
    let derived = async || {
        let rows = server
            .try_query("d", "SELECT v, version FROM seen WHERE v = 2")
            .await
            .json();
        (rows == json!([{"v": 2, "version": "2.0"}])).then_some(())
    };
    eventually("the new version derives", derived).await;
    let rows = server
        .query("d", "SELECT v, version FROM seen ORDER BY time")
        .await;
    assert_eq!(rows.len(), 2, "each row was seen once: {rows:?}");

    // What is there now.
    let listed = server.command(&["show", "packages", "--format", "csv"]).await;
    assert!(listed.stdout.starts_with("name,version\n"), "{listed:?}");
    assert!(listed.stdout.contains("\ntidal,2.0\n"), "{listed:?}");
    let listed = server.command(&["show", "packages"]).await;
    assert!(listed.stdout.contains("| tidal"), "{listed:?}");
    for (format, beginning) in [
        ("json", &b"[{"[..]),
        ("jsonl", b"{"),
        ("csv", b"name,"),
        ("pretty", b"+--"),
        ("parquet", b"PAR1"),
    ] {
        let answer = server.get(&format!("{PACKAGES}?format={format}")).await;
        assert!(answer.body.starts_with(beginning), "{format}: {}", answer.text());
    }
    assert_eq!(server.get(&format!("{PACKAGES}?format=xml")).await.status, 400);
    let listed = server.get(PACKAGES).await.json();
    let tidal = listed
        .as_array()
        .expect("a list")
        .iter()
        .find(|package| package["name"] == "tidal");
    assert_eq!(tidal, Some(&json!({"name": "tidal", "version": "2.0"})));
    let lock = server.plugin_dir().join("requirements.lock");
    let text = fs::read_to_string(&lock).expect("the lock file is written");
    assert!(text.ends_with("\ntidal==2.0\n"), "{text}");

    // The lock file of yesterday brings yesterday's packages back.
    let yesterday = server.plugin_dir().join("yesterday.lock");
    fs::write(&yesterday, text.replace("2.0", "1.0")).expect("the plugin directory is writable");
    let yesterday = yesterday.display().to_string();
    let back = [
        "install",
        "package",
        "--no-index",
        "-f",
        &wheels,
        "-r",
        &yesterday,
    ];
    let installed = server.command(&back).await;
    assert_eq!(installed.code, 0, "{installed:?}");
    let back = async || (server.get("/api/v3/engine/answer").await.text() == "1.0").then_some(());
    eventually("the older version answers", back).await;
    let text = fs::read_to_string(&lock).expect("the lock file is written");
    assert!(text.ends_with("\ntidal==1.0\n"), "{text}");

    // Over HTTP: an empty answer, or one that tells what is going on.
    let body = json!({"packages": ["tidal==2.0"], "find_links": [wheels], "offline": true});
    let answer = server.post_json(INSTALL, &body).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    let body = json!({"packages": ["tidal==3.0"], "find_links": [wheels], "offline": true});
    let answer = server.post_json(INSTALL, &body).await;
    assert_eq!(answer.status, 400);
    let text = answer.json()["error"].as_str().unwrap_or_default().to_owned();
    assert!(
        text.contains("error installing python packages: pip failed"),
        "{text}"
    );
    assert!(text.contains("No matching distribution"), "{text}");
    let request = server.request(Method::POST, INSTALL).json(&body);
    let answer = server
        .send(request.header("accept", "application/x-ndjson"))
        .await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let text = answer.text();
    let objects: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    let (last, lines) = objects.split_last().expect("there are lines");
    assert!(lines.iter().all(|object| object["line"].is_string()), "{text}");
    let error = last["error"].as_str().unwrap_or_default();
    assert!(error.ends_with("pip failed with exit status: 1"), "{text}");
}

#[tokio::test]
async fn what_is_no_package_is_refused_before_anything_runs() {
    let server = crate::server().await;
    for (body, text) in [
        (json!({"packages": []}), "no package was named"),
        (
            json!({"packages": ["--index-url=http://evil"]}),
            "'--index-url=http://evil' is not the name of a package",
        ),
        (
            json!({"packages": ["psutil"], "find_links": ["--pre"]}),
            "'--pre' is not a directory or URL to find packages in",
        ),
    ] {
        let answer = server.post_json(INSTALL, &body).await;
        assert_eq!(answer.status, 400, "{body}");
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.ends_with(text), "{error}");
        // Also where lines are accepted, with the same status.
        let request = server.request(Method::POST, INSTALL).json(&body);
        let answer = server
            .send(request.header("accept", "application/x-ndjson"))
            .await;
        assert_eq!(answer.status, 400, "{body}");
    }
}

#[tokio::test]
async fn what_is_installed_stays_when_installing_is_disabled() {
    let options = ServerOptions {
        arguments: ["--package-manager", "disabled"].map(str::to_owned).to_vec(),
        ..ServerOptions::default()
    };
    let server = TestServer::start_with(PROGRAM, options).await;
    let answer = server.post_json(INSTALL, &json!({"packages": ["psutil"]})).await;
    assert_eq!(answer.status, 403);
    assert_eq!(server.get(PACKAGES).await.status, 200);
    let server = crate::plain_server().await;
    for answer in [
        server.get(PACKAGES).await,
        server.post_json(INSTALL, &json!({"packages": ["psutil"]})).await,
    ] {
        assert_eq!(answer.status, 503);
        assert!(
            answer
                .text()
                .contains("Plugin environment management is disabled")
        );
    }
}
