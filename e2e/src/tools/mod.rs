//! Programs that are not Debian packages: built from Go modules or taken out of Python wheels, into the cache.

pub mod clients;
pub mod go;
pub mod python;
pub mod wheel;

use std::path::{Path, PathBuf};

/// The checkout that this program was built from.
#[must_use]
pub fn repository_root() -> &'static Path {
    let e2e = Path::new(env!("CARGO_MANIFEST_DIR"));
    e2e.parent().unwrap_or(e2e)
}

/// Paths of the programs that a cluster runs.
#[derive(Clone, Debug)]
pub struct Tools {
    /// etcd, the Kubernetes control plane, kubelet, kube-proxy, kubectl in one.
    pub hyper: PathBuf,
    /// The cluster's DNS server; runs in a pod.
    pub coredns: PathBuf,
    /// Installs the chart.
    pub helm: PathBuf,
    /// SeaweedFS, the store.
    pub weed: PathBuf,
}
