//! Names, addresses and paths of a cluster; everything else is derived from the name.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Clusters of this machine live here; short, because Unix socket paths end at 107 bytes.
const BASE: &str = "/var/lib/kinora";
/// The node's address inside the namespace; RFC 2544 addresses are never routed.
pub const NODE_ADDRESS: &str = "198.18.0.1";
/// Pods.
pub(super) const POD_RANGE: &str = "198.18.0.0/16";
/// First pod address; what is below belongs to the node.
pub(super) const POD_RANGE_START: &str = "198.18.1.0";
/// Services.
pub(super) const SERVICE_RANGE: &str = "198.19.0.0/16";
/// The API server as pods see it: the first Service address.
pub(super) const API_SERVICE_ADDRESS: &str = "198.19.0.1";
/// The cluster's DNS.
pub(super) const DNS_ADDRESS: &str = "198.19.0.10";
/// The API server inside the namespace.
pub const API_ADDRESS: &str = "127.0.0.1:6443";
/// Name of the only node.
pub(super) const NODE_NAME: &str = "node1";
/// The store's name inside the cluster.
pub const STORE_HOST: &str = "store.kinora-e2e.svc";
/// The store inside the namespace, where [`STORE_HOST`] ends up.
pub const STORE_ADDRESS: &str = "198.18.0.1:8333";
/// Environment variable that marks every process of a cluster, so that `down` finds it.
pub(super) const MARK: &str = "KINORA_CLUSTER";

/// Where a cluster keeps what.
#[derive(Clone, Debug)]
pub struct Layout {
    name: String,
    state: PathBuf,
}

impl Layout {
    /// # Errors
    /// The name is not a short DNS label.
    pub fn new(name: &str) -> Result<Self> {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 20 || !name.bytes().all(legal) || name.starts_with('-') {
            bail!(
                "`{name}` cannot name a cluster: use 1 to 20 lower-case letters, digits and dashes, not starting with a dash"
            );
        }
        Ok(Self {
            name: name.to_owned(),
            state: Path::new(BASE).join(name),
        })
    }

    /// Names of the clusters that left anything on this machine's disk.
    #[must_use]
    pub fn known() -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(BASE) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| Self::new(name).is_ok())
            .collect();
        names.sort();
        names
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything of the cluster on disk; goes away with it.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The clusters' common folder.
    #[must_use]
    pub fn base() -> &'static Path {
        Path::new(BASE)
    }

    /// One file or folder in the state folder.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.state.join(relative)
    }

    /// The same as text, for configuration files.
    #[must_use]
    pub fn text(&self, relative: &str) -> String {
        self.path(relative).to_string_lossy().into_owned()
    }

    /// Log of a component.
    #[must_use]
    pub fn log(&self, component: &str) -> PathBuf {
        self.state.join("logs").join(format!("{component}.log"))
    }

    /// Process id of a component.
    #[must_use]
    pub fn pid_file(&self, component: &str) -> PathBuf {
        self.state.join("run").join(format!("{component}.pid"))
    }

    /// Kubeconfig of a user of the cluster, for use inside the namespace.
    #[must_use]
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.state.join(format!("{user}.kubeconfig"))
    }

    /// Name of the network namespace, and of the cgroup.
    #[must_use]
    pub fn scope(&self) -> String {
        format!("kinora-{}", self.name)
    }

    /// File that names the network namespace.
    #[must_use]
    pub fn netns(&self) -> PathBuf {
        Path::new("/run/netns").join(self.scope())
    }

    /// containerd's socket.
    #[must_use]
    pub fn containerd_socket(&self) -> PathBuf {
        self.path("containerd/containerd.sock")
    }

    /// Where the API server writes its audit log, one JSON object a line.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.path("logs/audit.log")
    }
}

/// How a person calls us so that this cluster is meant, and not the default one.
#[must_use]
pub fn xtask_for(name: &str) -> String {
    if name == super::DEFAULT_NAME {
        "cargo xtask".to_owned()
    } else {
        format!("KINORA_CLUSTER_NAME={name} cargo xtask")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggested_command_never_means_another_cluster() {
        assert_eq!(xtask_for("default"), "cargo xtask");
        assert_eq!(xtask_for("b"), "KINORA_CLUSTER_NAME=b cargo xtask");
    }

    #[test]
    fn names_are_short_labels() {
        for (name, want) in [
            ("default", true),
            ("a", true),
            ("test-2", true),
            ("", false),
            ("-a", false),
            ("../x", false),
            ("A", false),
            ("a-name-of-21-letters-x", false),
        ] {
            assert_eq!(Layout::new(name).is_ok(), want, "{name}");
        }
    }

    #[test]
    fn socket_paths_fit_into_a_socket_address() {
        let layout = Layout::new("a-name-of-20-letters").unwrap();
        assert!(layout.containerd_socket().as_os_str().len() + ".ttrpc".len() < 107);
    }
}
