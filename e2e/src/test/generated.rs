//! Steps about files that are not written by hand: CRDs, tables and manifests are current, and the chart is sound.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::Tally;
use super::cargo::streamed;
use crate::images;
use crate::tools::{go, repository_root};

pub(super) fn current() -> Result<Tally> {
    // The features of the whole workspace, as in the unit tests: the dependencies are compiled already.
    let built = images::binaries(&["--workspace", "--bin", "crdgen"])?;
    let crdgen = built.get("crdgen").context("cargo built no crdgen")?;
    let mut check = Command::new(crdgen);
    check
        .current_dir(repository_root())
        .args(["crds", "values", "manifests", "--check", "--helm"])
        .arg(helm()?);
    streamed(
        "crdgen --check (without --check it writes the files)",
        &mut check,
    )?;
    Ok(Tally::ONE)
}

pub(super) fn chart() -> Result<Tally> {
    let mut lint = Command::new(helm()?);
    lint.current_dir(repository_root())
        .args(["lint", "charts/kinora", "--strict"]);
    streamed("helm lint", &mut lint)?;
    Ok(Tally::ONE)
}

fn helm() -> Result<PathBuf> {
    if go::HELM.cached()?.is_none() {
        crate::progress::note(&format!(
            "building helm from Go modules (about {} on two cores, once)",
            go::HELM.cold
        ));
    }
    go::HELM.binary()
}
