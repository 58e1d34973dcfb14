//! Programs written in Python, installed with pip into a folder of the cache, every package pinned.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::wheel::pip_python;
use crate::{cache, command, host};

const INSTALL_LIMIT: Duration = Duration::from_mins(15);
/// What is installed; another list makes another entry of the cache.
const SCHEMATHESIS: &str = include_str!("schemathesis.txt");
const LAUNCHER: &str = r#"#!/bin/sh
here=$(dirname "$0")
PYTHONPATH="$here/site" PYTHONDONTWRITEBYTECODE=1 exec python3 -m schemathesis.cli "$@"
"#;

/// Path of schemathesis, the fuzzer of the uploader's API.
///
/// # Errors
/// Python is missing, or the package index cannot be reached.
pub fn schemathesis() -> Result<PathBuf> {
    // Compiled packages fit one version of Python.
    let version = command::run(
        "ask Python for its version",
        Command::new("python3").arg("--version"),
        Duration::from_secs(30),
    )?;
    let key = cache::Key::new("schemathesis")
        .with("requirements", SCHEMATHESIS.as_bytes())
        .with("launcher", LAUNCHER.as_bytes())
        .with("python", version.trim().as_bytes());
    Ok(cache::get(&key, install)?.join("schemathesis"))
}

fn install(scratch: &Path) -> Result<()> {
    host::ready_for_wheels()?;
    let work = tempfile::tempdir().context("make a temporary folder")?;
    let list = work.path().join("requirements.txt");
    std::fs::write(&list, SCHEMATHESIS).context("write the list of packages")?;
    // A folder and no virtual environment: those know their own path, and the cache moves what was built.
    let mut pip = Command::new(pip_python(work.path())?);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
    ])
    .arg("--target")
    .arg(scratch.join("site"))
    .arg("--requirement")
    .arg(&list);
    command::run("install schemathesis", &mut pip, INSTALL_LIMIT)?;
    let launcher = scratch.join("schemathesis");
    std::fs::write(&launcher, LAUNCHER).context("write the launcher")?;
    std::fs::set_permissions(&launcher, std::fs::Permissions::from_mode(0o755))
        .context("make the launcher executable")
}
