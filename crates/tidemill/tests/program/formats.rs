//! Nodes that each released version of the on-disk formats left, killed in the middle of their work, are served by the present
//! program: in files, in a bucket, and as a backup. `tests/fixtures` says how they were made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidemill_testkit::{S3Server, TestServer};

use crate::{PROGRAM, server_on};

/// What plugins logged is not too old, and files stay as they were found.
const SETTINGS: [&str; 4] = ["--plugin-log-retention", "36500d", "--compaction-cpu-share", "0"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// The files of an archive, in a folder of their own.
fn unpacked(name: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(fixture(name)).arg("-C").arg(folder.path());
    assert!(tar.status().expect("tar is installed").success(), "{name}");
    folder
}

fn in_files(folder: &Path) -> Vec<String> {
    let storage = ["--object-store", "file", "--data-dir"].map(str::to_owned);
    [&storage[..], &[folder.display().to_string()]].concat()
}

/// Every query of the list is answered as it was by the program that made the fixture.
async fn check(server: &TestServer, list: &str) {
    let list = fs::read(fixture(list)).expect("a fixture can be read");
    let list: Vec<Value> = serde_json::from_slice(&list).expect("a list of queries");
    assert!(list.len() >= 10, "they ask for everything");
    for query in list {
        let text = |name: &str| query[name].as_str().expect("a text");
        let rows = server.query(text("db"), text("sql")).await;
        assert_eq!(json!(rows), query["rows"], "{}", text("sql"));
    }
}

/// It can be written to, and what is written is there after a kill, together with the rest.
async fn check_goes_on(server: &mut TestServer) {
    server.write("d", "fresh f=1 1").await;
    server.kill();
    server.restart().await;
    let both = "SELECT (SELECT count(*) FROM fresh) AS fresh, (SELECT count(*) FROM m) AS m";
    assert_eq!(server.query("d", both).await, [json!({ "fresh": 1, "m": 3 })]);
}

#[tokio::test]
async fn a_node_of_version_1_in_files_is_served() {
    let data = unpacked("version1/files.tar.gz");
    let verified = Command::new(PROGRAM)
        .args(["verify", "--node-id", "test", "--data-dir"])
        .arg(data.path())
        .output();
    let verified = verified.expect("the program starts");
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(
        verified.status.success() && said.contains("Nothing is damaged"),
        "{said}"
    );
    let mut server = server_on(in_files(data.path()), &SETTINGS).await;
    check(&server, "version1/files.json").await;
    check_goes_on(&mut server).await;
}

#[tokio::test]
async fn a_node_of_version_1_in_a_bucket_is_served() {
    let Some(store) = S3Server::start().await else {
        return;
    };
    store.upload(unpacked("version1/s3.tar.gz").path()).await;
    let mut server = server_on(store.arguments(), &SETTINGS).await;
    check(&server, "version1/s3.json").await;
    check_goes_on(&mut server).await;
}

#[tokio::test]
async fn a_backup_of_version_1_is_restored() {
    let backup = unpacked("version1/backup.tar.gz");
    let data = tempfile::tempdir().expect("a temporary folder");
    let restored = Command::new(PROGRAM)
        .arg("restore")
        .arg(backup.path())
        .args(["--node-id", "test", "--data-dir"])
        .arg(data.path())
        .output();
    let restored = restored.expect("the program starts");
    let said = String::from_utf8_lossy(&restored.stderr);
    assert!(restored.status.success(), "{said}");
    let mut server = server_on(in_files(data.path()), &SETTINGS).await;
    check(&server, "version1/backup.json").await;
    check_goes_on(&mut server).await;
}

/// Envelopes of all objects that have one, by the folders in which they lie: where a format gets a new version, it gets a
/// fixture, too.
#[tokio::test]
async fn what_is_written_has_the_versions_of_the_newest_fixture() {
    const ENVELOPE: usize = 12;
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut server = server_on(in_files(data.path()), &["--force-snapshot-mem-threshold", "1"]).await;
    server.write("d", "m f=1 1").await;
    assert_eq!(server.stop().await, 0, "{}", server.log());
    let kept = unpacked("version1/files.tar.gz");
    for folder in ["catalog/log", "manifest/log", "wal"] {
        let first = |home: &Path| {
            let folder = home.join("test").join(folder);
            let files = fs::read_dir(&folder).expect("it is there");
            let mut files: Vec<PathBuf> = files
                .map(|file| file.expect("it is listed").path())
                .filter(|path| path.file_name().is_some_and(|name| name != "lock"))
                .collect();
            files.sort();
            fs::read(&files[0]).expect("it can be read")[..ENVELOPE].to_vec()
        };
        assert_eq!(first(data.path()), first(kept.path()), "{folder}");
    }
}
