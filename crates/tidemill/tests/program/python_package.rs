//! The Python package in `python/`: its own tests, and what becomes of it in a plugin's process.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use tidemill_testkit::{shared_venv, venv_with};

use crate::server;

/// Without any package, and with those that some of the tests are about.
#[test]
fn the_tests_of_the_python_package_pass() {
    check_package_with(&shared_venv());
    if let Some(venv) = venv_with(&crate::arrow_tables::PACKAGES) {
        check_package_with(&venv);
    }
}

fn check_package_with(venv: &Path) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(venv.join("bin/python"))
        .args([
            "-W",
            "error",
            "-m",
            "unittest",
            "discover",
            "-s",
            "python/tests",
            "-t",
            "python",
        ])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(repository)
        .output()
        .expect("the virtual environment has a Python");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !report.contains("Ran 0 tests"),
        "{report}"
    );
}

/// The package's vectors hold for the server's native class too, which neither a file in the plugin directory nor an
/// installed package can shadow.
#[tokio::test]
async fn the_native_line_builder_passes_the_tests_of_the_package() {
    let server = server().await;
    server.create_database("d").await;
    server.put_plugin("tidemill.py", "raise RuntimeError('shadowed')\n");
    server.put_plugin(
        "test_line_builder.py",
        include_str!("../../../../python/tests/test_line_builder.py"),
    );
    server.put_plugin(
        "vectors.py",
        r#"
import io
import unittest

def process_request(*arguments):
    import test_line_builder
    report = io.StringIO()
    tests = unittest.defaultTestLoader.loadTestsFromModule(test_line_builder)
    result = unittest.TextTestRunner(stream=report).run(tests)
    return {
        "is_native": test_line_builder.LineBuilder is LineBuilder,
        "has_run": result.testsRun > 0,
        "failures": [text for test, text in result.failures + result.errors],
    }
"#,
    );
    server
        .create_trigger("d", "vectors", "vectors.py", "request:vectors", json!({}))
        .await;
    let answer = server.get("/api/v3/engine/vectors").await.json();
    assert_eq!(
        answer,
        json!({"is_native": true, "has_run": true, "failures": []})
    );
}
