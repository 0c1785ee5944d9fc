//! An object store that speaks the protocol of S3, in a process of its own on this machine.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use reqwest::Client;
use tidemill_testkit::{eventually, venv_with};

const BUCKET: &str = "tidemill";

/// An object store with one bucket in its memory. Dropping it ends it.
pub(crate) struct S3 {
    process: Child,
    url: String,
}

impl S3 {
    /// Starts one. `None` where moto cannot be installed from the package index, which is said on standard error.
    pub(crate) async fn start() -> Option<Self> {
        let venv = venv_with(&["moto[s3,server]"])?;
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.local_addr().expect("it is bound").port()
        };
        let process = Command::new(venv.join("bin/moto_server"))
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto_server is installed");
        let s3 = Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
        };
        let (client, bucket) = (Client::new(), format!("{}/{BUCKET}", s3.url));
        eventually("moto_server makes a bucket", async || {
            let answer = client.put(&bucket).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        Some(s3)
    }

    /// What tells a server to keep its objects there.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let words = [
            "--object-store",
            "s3",
            "--bucket",
            BUCKET,
            "--aws-endpoint",
            &self.url,
            "--aws-allow-http",
            "--aws-access-key-id",
            "test",
            "--aws-secret-access-key",
            "test",
        ];
        words.map(str::to_owned).into()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
