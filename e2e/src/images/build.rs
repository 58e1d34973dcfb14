//! Static binaries with cargo: in the profile that the tests use too, so that dependencies are compiled once, or for
//! users and the benchmark in the release profile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::tools::repository_root;
use crate::{cache, command};

const LIMIT: Duration = Duration::from_mins(60);

/// How binaries are built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Soon; the demo and the tests run these.
    #[default]
    Dev,
    /// Fast and small; takes minutes more.
    Release,
}

impl Profile {
    /// What cargo is told.
    fn args(self) -> &'static [&'static str] {
        match self {
            Self::Dev => &[],
            Self::Release => &["--release"],
        }
    }
}

/// Builds and returns the path of each binary by its name.
///
/// # Errors
/// What the compiler said.
pub fn binaries(profile: Profile, args: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(repository_root())
        .args([
            "build",
            "--locked",
            "--message-format=json-render-diagnostics",
        ])
        .args(profile.args())
        .args(args);
    let said = command::run(
        &format!("cargo build {}", args.join(" ")),
        &mut cargo,
        LIMIT,
    )?;
    Ok(executables(&said))
}

/// One binary of this package that hardly ever changes, kept in the cache by its source.
///
/// # Errors
/// As [`binaries`].
pub(super) fn own_binary(name: &str, source: &str) -> Result<PathBuf> {
    let folder = cache::get(
        &cache::Key::new(name).with(name, source.as_bytes()),
        |scratch| {
            let built = binaries(Profile::Dev, &["--package", "kinora-e2e", "--bin", name])?;
            let path = built
                .get(name)
                .with_context(|| format!("cargo built no {name}"))?;
            stripped(path, &scratch.join(name))
        },
    )?;
    Ok(folder.join(name))
}

/// Copies a binary without its debug information, which would be most of an image.
///
/// # Errors
/// `strip` failed.
pub(super) fn stripped(source: &Path, target: &Path) -> Result<()> {
    // Part of binutils, without which cargo could not have linked the binary.
    let mut strip = Command::new("strip");
    strip
        .args(["--strip-debug", "--enable-deterministic-archives", "-o"])
        .arg(target)
        .arg(source);
    command::run(&format!("strip {}", source.display()), &mut strip, LIMIT).map(|_| ())
}

/// Cargo says one JSON object per line; those with an executable are binaries.
fn executables(said: &str) -> BTreeMap<String, PathBuf> {
    let artifacts = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let named = artifacts.filter_map(|artifact| {
        let name = artifact["target"]["name"].as_str()?.to_owned();
        Some((name, PathBuf::from(artifact["executable"].as_str()?)))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_artifacts_with_an_executable_count() {
        let said = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"lib"},"executable":null}"#,
            "\n",
            "not json\n",
            r#"{"reason":"compiler-artifact","target":{"name":"bin"},"executable":"/t/bin"}"#,
            "\n",
        );
        assert_eq!(
            executables(said),
            BTreeMap::from([("bin".to_owned(), PathBuf::from("/t/bin"))])
        );
    }
}
