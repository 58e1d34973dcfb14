//! etcd in other hands: a backup of it, an empty one, an old one. Everything else of the cluster stays where it is.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::layout::Layout;
use super::{Cluster, Daemon, addons, control_plane, lifecycle, node};
use crate::command;

const COPY: Duration = Duration::from_mins(2);
/// Whoever holds state that came from etcd, in the order in which they are stopped.
const CLIENTS: [Daemon; 5] = [
    Daemon::Kubelet,
    Daemon::KubeProxy,
    Daemon::ControllerManager,
    Daemon::Scheduler,
    Daemon::ApiServer,
];

impl Cluster {
    /// Copies etcd's data to `folder`, which is replaced. API server and etcd are away meanwhile.
    ///
    /// # Errors
    /// It could not be copied, or they do not come back.
    pub async fn back_up_etcd(&self, folder: &Path) -> Result<()> {
        let (cluster, folder) = (self.clone(), folder.to_owned());
        let work = move || {
            cluster.stop(Daemon::ApiServer);
            cluster.stop(Daemon::Etcd);
            copy(&cluster.layout.path("etcd"), &folder)?;
            cluster.start(Daemon::Etcd)?;
            cluster.start(Daemon::ApiServer)?;
            control_plane::api_ready(&cluster.layout)
        };
        tokio::task::spawn_blocking(work)
            .await
            .context("back up etcd")?
    }

    /// Puts a backup in the place of etcd's data, or nothing at all, and starts the control plane on it. Pods that it does not
    /// know end; an empty one gets DNS and the store's Service again.
    ///
    /// # Errors
    /// The control plane does not come back.
    pub async fn replace_etcd(&self, backup: Option<&Path>) -> Result<()> {
        let (cluster, backup) = (self.clone(), backup.map(Path::to_owned));
        let work = move || {
            for daemon in CLIENTS {
                cluster.stop(daemon);
            }
            cluster.stop(Daemon::Etcd);
            let data = cluster.layout.path("etcd");
            match backup {
                Some(backup) => copy(&backup, &data)?,
                None => empty(&data)?,
            }
            revive(&cluster.layout)
        };
        tokio::task::spawn_blocking(work)
            .await
            .context("replace etcd")?
    }
}

fn revive(layout: &Layout) -> Result<()> {
    let tools = lifecycle::recorded_tools(layout).context("the cluster is not up")?;
    control_plane::etcd(layout, &tools)?;
    control_plane::api_server(layout, &tools)?;
    control_plane::api_ready(layout)?;
    control_plane::controllers(layout, &tools)?;
    node::kubelet_and_proxy(layout, &tools)?;
    addons::apply(layout)?;
    node::ready(layout)?;
    addons::ready(layout)
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    empty(to)?;
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(from.join(".")).arg(to);
    command::run("copy etcd's data", &mut copy, COPY).map(|_| ())
}
