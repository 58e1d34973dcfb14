//! Components that ended without being asked to.

use anyhow::Result;

use super::{Cluster, Daemon, daemon};

const ALL: [Daemon; 8] = [
    Daemon::Etcd,
    Daemon::ApiServer,
    Daemon::ControllerManager,
    Daemon::Scheduler,
    Daemon::Containerd,
    Daemon::Kubelet,
    Daemon::KubeProxy,
    Daemon::Store,
];

impl Cluster {
    /// Starts again what does not run; says of each how its log ended.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn mend(&self) -> Result<Vec<String>> {
        let ended = ALL
            .into_iter()
            .filter(|daemon| self.daemon_pid(*daemon).is_none());
        ended
            .map(|daemon| {
                let log = daemon::log_tail(&self.layout, daemon.name());
                self.start(daemon)?;
                Ok(format!("{} did not run:\n{log}", daemon.name()))
            })
            .collect()
    }
}
