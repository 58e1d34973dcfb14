//! The API against a fuzzer that knows nothing but its OpenAPI document: whatever it sends, no 5xx comes back and
//! nothing that the document does not tell. The seed is fixed, examples and time are bounded. covers: F7, S18

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a failed expectation is the test's finding"
)]

#[allow(
    dead_code,
    reason = "shared with the tests of the server, which use all of it"
)]
#[path = "server/harness.rs"]
mod harness;

use std::process::Stdio;
use std::time::Duration;

use harness::{ADMIN, World};
use tokio::process::Command;

/// Environment variable with the path of the `schemathesis` program.
const PROGRAM: &str = "KINORA_SCHEMATHESIS";
const WITHIN: Duration = Duration::from_secs(300);
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,unsupported_method,allow_header_conformance,ignored_auth";
/// The media type of tus is sent as any bytes are. Python's HTTP client takes an informational answer for the final one,
/// so it must not ask for one.
const HOOKS: &str = r#"import schemathesis

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.headers:
        case.headers.pop("Upload-Draft-Interop-Version", None)
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fuzzer_meets_no_5xx_and_nothing_undocumented() {
    let program = std::env::var(PROGRAM).unwrap_or_else(|_| {
        panic!(
            "schemathesis was not found: run the tests with `cargo xtask test`, which fetches it, or set {PROGRAM} to \
             its path (pip install schemathesis)"
        )
    });
    let world = World::new("z1").await;
    let replica = world.replica().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hooks.py"), HOOKS).unwrap();
    let mut run = Command::new(program);
    run.current_dir(folder.path())
        .arg("run")
        .arg(format!("{}/v1/openapi.json", replica.base))
        .args(["--header", &format!("Authorization: Bearer {ADMIN}")])
        .args(["--checks", CHECKS])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args(["--seed", "4711", "--max-examples", "15", "--no-shrink"])
        .args(["--generation-database", "none", "--warnings", "off"])
        // One worker: Python 3.11 parses its own source in several threads only with luck.
        .args(["--request-timeout", "90", "--workers", "1"])
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(WITHIN, run.output()).await;
    let output = output.expect("the fuzzer ends in time").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    println!("{said}");
}
