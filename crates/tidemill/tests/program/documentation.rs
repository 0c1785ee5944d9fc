//! The documentation is true: its commands are run as written, and print what it says they print.
//!
//! A fenced block is `python file=NAME` (put into the plugin directory), `sh` (run by bash), `sh retry` (run until it
//! prints what the next block says), `sh no-test` (not run here), or `text` (the output of the block before). Addresses
//! and folders are those of the test's server.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Output, Stdio};

use tidemill_testkit::{TestServer, eventually};

use crate::{PROGRAM, server};

/// Where the documentation has its server and its plugin directory.
const ADDRESS: &str = "127.0.0.1:8181";
const FOLDER: &str = "/tmp/tutorial/plugins";

#[derive(Debug, PartialEq, Eq)]
struct Block<'a> {
    /// What follows the fence.
    info: &'a str,
    text: String,
    /// Line of the fence in the page.
    line: usize,
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for (number, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block {
                    info,
                    text: String::new(),
                    line: number + 1,
                });
            }
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => writeln!(block.text, "{line}").expect("a string takes all"),
            (None, None) => {}
        }
    }
    assert_eq!(open, None, "a block is not closed");
    blocks
}

/// Runs all blocks of a page in order.
async fn run_page(server: &TestServer, page: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["tidemill", "influxdb3"] {
        symlink(PROGRAM, folder.path().join(name)).expect("a link in an empty folder");
    }
    let page = page
        .replace(ADDRESS, server.address())
        .replace(FOLDER, &server.plugin_dir().display().to_string());
    let blocks = blocks(&page);
    for (index, block) in blocks.iter().enumerate() {
        let expected = blocks
            .get(index + 1)
            .filter(|next| next.info == "text")
            .map(|next| next.text.trim_end());
        let (language, rest) = block.info.split_once(' ').unwrap_or((block.info, ""));
        match (language, rest) {
            ("python", rest) => {
                let name = rest.strip_prefix("file=").expect("a plugin has a name");
                server.put_plugin(name, &block.text);
            }
            ("sh", "") => {
                let output = bash(server, folder.path(), &block.text).await;
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(
                    output.status.success(),
                    "line {}: {}\n{said}{}",
                    block.line,
                    output.status,
                    String::from_utf8_lossy(&output.stderr)
                );
                if let Some(expected) = expected {
                    assert_eq!(said.trim_end(), expected, "line {}", block.line);
                }
            }
            ("sh", "retry") => {
                let expected = expected.expect("what is tried again says what it waits for");
                let ask = async || {
                    let output = bash(server, folder.path(), &block.text).await;
                    (String::from_utf8_lossy(&output.stdout).trim_end() == expected).then_some(())
                };
                eventually(&format!("line {} prints {expected}", block.line), ask).await;
            }
            ("sh", "no-test") | ("text", "") => {}
            _ => panic!("line {}: a block of an unknown kind: {}", block.line, block.info),
        }
    }
}

async fn bash(server: &TestServer, programs: &Path, script: &str) -> Output {
    let path = std::env::var("PATH").unwrap_or_default();
    tokio::process::Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(programs)
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("INFLUXDB3_HOST_URL", server.url())
        .stdin(Stdio::null())
        .output()
        .await
        .expect("bash starts")
}

fn page(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).expect("the page is there")
}

#[tokio::test]
async fn the_page_about_plugins() {
    let server = server().await;
    run_page(&server, &page("docs/plugins.md")).await;
}

#[tokio::test]
async fn the_tutorial_of_the_readme() {
    let readme = page("README.md");
    let (_, tutorial) = readme
        .split_once("\n## Five minutes\n")
        .expect("the README has a tutorial");
    let (tutorial, _) = tutorial
        .split_once("\n## ")
        .expect("something follows the tutorial");
    let server = server().await;
    run_page(&server, tutorial).await;
}
