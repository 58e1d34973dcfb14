//! Kubernetes, CoreDNS and helm from the Go modules in `e2e/cluster`, and what the uploader is compared with from
//! `e2e/peers`; their `go.sum` pins every byte of source.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::repository_root;
use crate::{cache, command};

/// Stamped into the binaries; must be the version in `e2e/cluster/kubernetes/go.mod` (a test compares them).
pub const KUBERNETES_VERSION: &str = "v1.34.4";
const BUILD_LIMIT: Duration = Duration::from_mins(60);

/// A program to be built from a module.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// Folder of the module, and name of the cache entry.
    pub folder: &'static str,
    /// Folder in the checkout that it lies in.
    home: &'static str,
    /// Name of the binary.
    pub binary: &'static str,
    package: &'static str,
    /// About how long a cold build takes on two cores.
    pub cold: &'static str,
}

/// etcd and Kubernetes.
pub const HYPER: Module = Module {
    folder: "kubernetes",
    home: "e2e/cluster",
    binary: "hyper",
    package: ".",
    cold: "5 min",
};
/// CoreDNS.
pub const COREDNS: Module = Module {
    folder: "coredns",
    home: "e2e/cluster",
    binary: "coredns",
    package: "github.com/coredns/coredns",
    cold: "3 min",
};
/// helm.
pub const HELM: Module = Module {
    folder: "helm",
    home: "e2e/cluster",
    binary: "helm",
    package: "helm.sh/helm/v4/cmd/helm",
    cold: "2 min",
};
/// tusd, the tus server that the benchmark sets beside the uploader.
pub const TUSD: Module = Module {
    folder: "tusd",
    home: "e2e/peers",
    binary: "tusd",
    package: "github.com/tus/tusd/v2/cmd/tusd",
    cold: "2 min",
};

impl Module {
    /// Path of the binary, if it was built already.
    ///
    /// # Errors
    /// The module's files cannot be read.
    pub fn cached(&self) -> Result<Option<PathBuf>> {
        Ok(cache::lookup(&self.key()?).map(|folder| folder.join(self.binary)))
    }

    /// Path of the binary; builds it when the cache does not have it.
    ///
    /// # Errors
    /// Go is missing or the build failed.
    pub fn binary(&self) -> Result<PathBuf> {
        let folder = cache::get(&self.key()?, |scratch| {
            let go = command::find("go").with_context(|| {
                format!(
                    "Go is needed once to build {} and is not installed: get Go 1.26 or newer (or any from 1.21 on, which fetches it) from \
                     https://go.dev/dl/ and put it on PATH, then run this again",
                    self.binary
                )
            })?;
            let mut build = Command::new(go);
            build
                .current_dir(self.source())
                .env("CGO_ENABLED", "0")
                // An older Go fetches the one that a module asks for.
                .env("GOTOOLCHAIN", "auto")
                .args([
                    "build",
                    "-mod=readonly",
                    "-trimpath",
                    "-buildvcs=false",
                    "-ldflags",
                    &link_flags(),
                    "-o",
                ])
                .arg(scratch.join(self.binary))
                .arg(self.package);
            command::run(
                &format!("build {} with Go", self.binary),
                &mut build,
                BUILD_LIMIT,
            )?;
            Ok(())
        })?;
        Ok(folder.join(self.binary))
    }

    fn source(&self) -> PathBuf {
        repository_root().join(self.home).join(self.folder)
    }

    /// The Go version is left out on purpose: a machine with a filled cache needs no Go.
    fn key(&self) -> Result<cache::Key> {
        let mut key = cache::Key::new(self.folder).with("flags", link_flags().as_bytes());
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.source())
            .with_context(|| format!("read {}", self.source().display()))?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .collect();
        files.sort();
        for file in files {
            key = key.with_file(&file)?;
        }
        Ok(key)
    }
}

/// `k8s.io/component-base` is in CoreDNS and helm too, but only Kubernetes' own binaries show the version.
fn link_flags() -> String {
    let (major, minor) = (
        "1",
        KUBERNETES_VERSION.split('.').nth(1).unwrap_or_default(),
    );
    format!(
        "-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION} \
         -X k8s.io/component-base/version.gitMajor={major} -X k8s.io/component-base/version.gitMinor={minor} \
         -X k8s.io/client-go/pkg/version.gitVersion={KUBERNETES_VERSION}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamped_version_is_the_one_in_go_mod() {
        let text = std::fs::read_to_string(HYPER.source().join("go.mod")).unwrap();
        assert!(text.contains(&format!("k8s.io/kubernetes {KUBERNETES_VERSION}\n")));
    }

    #[test]
    fn every_module_is_pinned_by_checksums() {
        for module in [HYPER, COREDNS, HELM, TUSD] {
            assert!(
                module.source().join("go.sum").is_file(),
                "{}",
                module.folder
            );
        }
    }
}
