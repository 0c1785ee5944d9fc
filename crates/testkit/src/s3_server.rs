//! An object store that speaks the protocol of S3, on this machine.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use reqwest::{Client, RequestBuilder, Response};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::venv::venv_with;
use crate::wait::eventually;

const BUCKET: &str = "tidemill";
/// What moto calls itself in its log, before its port.
const ADDRESS_PREFIX: &str = "Running on http://127.0.0.1:";

/// Who has a key; moto looks no closer.
const SIGNED: &str =
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none";

/// A server of moto with one bucket in its memory. Dropping it kills it.
#[derive(Debug)]
pub struct S3Server {
    process: Child,
    endpoint: String,
    _folder: TempDir,
}

impl S3Server {
    /// Starts one on a free port. `None` where moto cannot be installed, which is said on standard error.
    pub async fn start() -> Option<Self> {
        let venv = venv_with(&["moto[s3,server]"])?;
        let folder = tempfile::tempdir().expect("temporary folder");
        let log_path = folder.path().join("moto.log");
        let log = File::create(&log_path).expect("temporary folder is writable");
        let mut process = Command::new(venv.join("bin/moto_server"))
            .args(["--host", "127.0.0.1", "--port", "0"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log file"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("moto is installed");
        let port = eventually("moto listens", async || {
            let log = fs::read_to_string(&log_path).unwrap_or_default();
            let status = process.try_wait().expect("child can be waited for");
            assert!(status.is_none(), "moto ended: {log}");
            let (_, after) = log.split_once(ADDRESS_PREFIX)?;
            let (port, _) = after.split_once('\n')?;
            Some(port.trim().to_owned())
        })
        .await;
        let endpoint = format!("http://127.0.0.1:{port}");
        let server = Self {
            process,
            endpoint,
            _folder: folder,
        };
        let made = Client::new()
            .put(format!("{}/{BUCKET}", server.endpoint))
            .send()
            .await
            .expect("moto answers");
        assert!(made.status().is_success(), "moto makes a bucket");
        Some(server)
    }

    /// Its URL.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Its bucket.
    pub fn bucket(&self) -> &str {
        BUCKET
    }

    /// What tells a server to keep its data there.
    pub fn arguments(&self) -> Vec<String> {
        let arguments = [
            "--object-store",
            "s3",
            "--bucket",
            BUCKET,
            "--aws-endpoint",
            &self.endpoint,
            "--aws-allow-http",
            "--aws-access-key-id",
            "test",
            "--aws-secret-access-key",
            "test-secret",
        ];
        arguments.map(str::to_owned).to_vec()
    }

    /// The names of its objects that begin so, in order.
    pub async fn names(&self, prefix: &str) -> Vec<String> {
        let url = format!("{}/{BUCKET}?list-type=2&prefix={prefix}", self.endpoint);
        let answer = administrator(Client::new().get(url)).await;
        let listing = answer.text().await.expect("moto answers");
        assert!(
            !listing.contains("<IsTruncated>true"),
            "a test has few objects: {listing}"
        );
        let keys = listing.split("<Key>").skip(1);
        let keys = keys.filter_map(|key| Some(key.split_once("</Key>")?.0.to_owned()));
        keys.collect()
    }

    /// Puts the files below a folder as objects, whose names are their paths below the folder.
    pub async fn upload(&self, folder: &Path) {
        let client = Client::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(&next).expect("a folder can be read") {
                let path = entry.expect("a folder can be read").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path
                    .strip_prefix(folder)
                    .expect("it lies in the folder")
                    .display();
                let url = format!("{}/{BUCKET}/{name}", self.endpoint);
                let content = fs::read(&path).expect("a file can be read");
                let put = administrator(client.put(url).body(content)).await;
                assert!(put.status().is_success(), "{name}: {}", put.status());
            }
        }
    }

    /// Removes an object, as who administers the bucket would.
    pub async fn remove(&self, name: &str) {
        let url = format!("{}/{BUCKET}/{name}", self.endpoint);
        let removed = administrator(Client::new().delete(url)).await;
        assert!(removed.status().is_success(), "{name}: {}", removed.status());
    }

    /// Stops it where it is: connections stay open and nothing is answered.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process_group(Pid::from_child(&self.process), signal).expect("moto can be signalled");
    }
}

/// Sends a request as who administers the bucket: moto refuses others what servers have put.
async fn administrator(request: RequestBuilder) -> Response {
    let request = request.header("authorization", SIGNED);
    request.send().await.expect("moto answers")
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        let _ = self.process.wait();
    }
}
