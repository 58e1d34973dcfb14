//! Upload clients that others wrote (`e2e/clients/`): npm and Python packages at the versions of the lock files there,
//! installed into the cache together with the small programs that drive them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{repository_root, wheel};
use crate::{cache, command, host};

const LIMIT: Duration = Duration::from_mins(10);

/// The folder of programs with all they need: `node_modules/` beside them, Python packages in `python/`.
///
/// # Errors
/// Node, npm, Chromium, curl or Python are missing and could not be installed, or a registry cannot be reached.
pub fn folder() -> Result<PathBuf> {
    host::ready_for_clients()?;
    host::ready_for_wheels()?;
    let sources = sources()?;
    // Python packages with native code fit one version of Python.
    let python = command::run(
        "python3 --version",
        Command::new("python3").arg("--version"),
        LIMIT,
    )?;
    let mut key = cache::Key::new("clients").with("python", python.as_bytes());
    for source in &sources {
        key = key.with_file(source)?;
    }
    cache::get(&key, |scratch| install(&sources, scratch))
}

fn sources() -> Result<Vec<PathBuf>> {
    let folder = repository_root().join("e2e/clients");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

fn install(sources: &[PathBuf], scratch: &Path) -> Result<()> {
    crate::progress::note(
        "installing upload clients from npm and PyPI (about half a minute, once)",
    );
    for source in sources {
        let name = source.file_name().unwrap_or_default();
        std::fs::copy(source, scratch.join(name))
            .with_context(|| format!("copy {}", source.display()))?;
    }
    let mut packages = npm(scratch);
    packages.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    command::run("npm ci in e2e/clients", &mut packages, LIMIT)?;
    let mut bundle = npm(scratch);
    bundle.args(["run", "--silent", "bundle"]);
    command::run("npm run bundle in e2e/clients", &mut bundle, LIMIT)?;
    let work = tempfile::tempdir().context("make a temporary folder")?;
    let mut pip = Command::new(wheel::pip_python(work.path())?);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--require-hashes",
    ])
    .args(["--only-binary", ":all:", "--target"])
    .arg(scratch.join("python"))
    .arg("-r")
    .arg(scratch.join("requirements.txt"));
    command::run(
        "pip install of e2e/clients/requirements.txt",
        &mut pip,
        LIMIT,
    )?;
    Ok(())
}

fn npm(folder: &Path) -> Command {
    let mut npm = Command::new("npm");
    npm.current_dir(folder)
        .env("npm_config_update_notifier", "false");
    npm
}
