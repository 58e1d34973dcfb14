//! A real Kubernetes on one machine: the API for the demo and the tests.
//!
//! Everything of a cluster lives in one network namespace, one cgroup and one state folder, all derived from its name.
//! What talks to pods, Services or the API server must run inside that namespace: [`Cluster::enter`] or
//! [`Cluster::block_on`]. kubectl, helm and ctr are started in it from anywhere.

mod addons;
mod cgroup;
mod cleanup;
mod client;
mod containers;
mod control_plane;
mod daemon;
mod etcd;
mod forward;
mod kubectl;
mod layout;
mod lifecycle;
mod mend;
mod netns;
mod node;
mod pki;
mod probe;
mod processes;
mod status;
mod store;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

pub use addons::COREDNS_IMAGE;
pub use layout::{API_ADDRESS, Layout, NODE_ADDRESS, STORE_ADDRESS, STORE_HOST, xtask_for};
pub use node::PAUSE_IMAGE;
pub use status::{Component, State, Status};
pub use store::BUCKET;

use crate::command;

/// Name of the cluster that commands mean unless told otherwise.
pub const DEFAULT_NAME: &str = "default";

const COMMAND: Duration = Duration::from_mins(10);
const GRACE: Duration = Duration::from_secs(10);

/// A local cluster, up or not.
#[derive(Clone, Debug)]
pub struct Cluster {
    layout: Layout,
}

/// The programs of a cluster that a test may stop, start, pause and kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// containerd.
    Containerd,
    /// kubelet.
    Kubelet,
    /// kube-proxy.
    KubeProxy,
    /// SeaweedFS.
    Store,
}

impl Daemon {
    /// Its name in `cluster status`, and of its log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => control_plane::ETCD,
            Self::ApiServer => control_plane::APISERVER,
            Self::ControllerManager => control_plane::CONTROLLER_MANAGER,
            Self::Scheduler => control_plane::SCHEDULER,
            Self::Containerd => node::CONTAINERD,
            Self::Kubelet => node::KUBELET,
            Self::KubeProxy => node::PROXY,
            Self::Store => store::STORE,
        }
    }
}

impl Cluster {
    /// A handle on the cluster of this name; starts nothing.
    ///
    /// # Errors
    /// The name is not a short DNS label.
    pub fn named(name: &str) -> Result<Self> {
        Ok(Self {
            layout: Layout::new(name)?,
        })
    }

    /// Makes sure that the cluster of this name is up.
    ///
    /// # Errors
    /// The step that failed, with the log to look at.
    pub fn up(name: &str) -> Result<Self> {
        Self::up_with(name, None)
    }

    /// The same with a wanted port on the host for the API server.
    ///
    /// # Errors
    /// As [`Cluster::up`], or the port is taken.
    pub fn up_with(name: &str, api_port: Option<u16>) -> Result<Self> {
        let cluster = Self::named(name)?;
        lifecycle::up(&cluster.layout, api_port)?;
        Ok(cluster)
    }

    /// Removes the cluster to the last process, mount, cgroup and file.
    ///
    /// # Errors
    /// Something is left; the message names it.
    pub fn down(&self) -> Result<()> {
        crate::host::require_root()?;
        let lock = lifecycle::lock(&self.layout)?;
        cleanup::down(&self.layout)?;
        cleanup::forget(&self.layout);
        drop(lock);
        Ok(())
    }

    /// What runs, and whether it answers.
    #[must_use]
    pub fn status(&self) -> Status {
        status::observe(&self.layout)
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.layout.name()
    }

    /// Everything of the cluster on disk; goes away with it.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        self.layout.state()
    }

    /// Logs of the components.
    #[must_use]
    pub fn logs_dir(&self) -> PathBuf {
        self.layout.path("logs")
    }

    /// The API server's audit log: one JSON object for every write, level Metadata.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.layout.audit_log()
    }

    /// Cluster admin, for use inside the namespace.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig("admin")
    }

    /// Cluster admin, for use on the host, through the forwarded port.
    #[must_use]
    pub fn host_kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig("host")
    }

    /// Moves the calling thread, and all threads and processes it starts later, into the cluster's network namespace.
    ///
    /// # Errors
    /// The cluster is not up, or this is not root.
    pub fn enter(&self) -> Result<()> {
        netns::enter(&self.layout)
    }

    /// Runs `work` on a thread inside the namespace and waits for it; the calling thread stays where it is.
    ///
    /// # Errors
    /// Those of [`Cluster::enter`] and of `work`.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        probe::in_namespace(&self.layout, work)
    }

    /// Runs a future on a runtime whose threads are all inside the namespace.
    ///
    /// # Errors
    /// Those of [`Cluster::enter`] and of the future.
    pub fn block_on<T, F>(&self, make: impl FnOnce() -> F + Send) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>>,
    {
        self.inside(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("start the runtime")?;
            runtime.block_on(make())
        })
    }

    /// Runs kubectl as cluster admin and returns what it printed.
    ///
    /// # Errors
    /// What kubectl said.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_stdin(args, "")
    }

    /// The same, with text on standard input.
    ///
    /// # Errors
    /// What kubectl said.
    pub fn kubectl_stdin(&self, args: &[&str], input: &str) -> Result<String> {
        let what = format!("kubectl {}", args.join(" "));
        command::run_with_input(
            &what,
            kubectl::command(&self.layout)?.args(args),
            input,
            COMMAND,
        )
    }

    /// kubectl as cluster admin, for the caller to run.
    ///
    /// # Errors
    /// The cluster was never up.
    pub fn kubectl_command(&self) -> Result<Command> {
        kubectl::command(&self.layout)
    }

    /// Runs helm as cluster admin and returns what it printed.
    ///
    /// # Errors
    /// What helm said.
    pub fn helm(&self, args: &[&str]) -> Result<String> {
        command::run(
            &format!("helm {}", args.join(" ")),
            kubectl::helm(&self.layout)?.args(args),
            COMMAND,
        )
    }

    /// helm as cluster admin, for the caller to run.
    ///
    /// # Errors
    /// The cluster was never up.
    pub fn helm_command(&self) -> Result<Command> {
        kubectl::helm(&self.layout)
    }

    /// Access key and secret key of the store.
    ///
    /// # Errors
    /// The cluster was never up.
    pub fn store_credentials(&self) -> Result<(String, String)> {
        store::credentials(&self.layout)
    }

    /// Makes one more bucket in the store.
    ///
    /// # Errors
    /// The store refuses.
    pub fn make_bucket(&self, name: &str) -> Result<()> {
        self.inside(|| store::make_bucket(name))
    }

    /// Imports a docker-archive into containerd, unless it is there; says whether it was imported.
    ///
    /// # Errors
    /// What `ctr` said.
    pub fn import_image(&self, reference: &str, archive: &Path) -> Result<bool> {
        containers::import(&self.layout, reference, archive)
    }

    /// Host process id of a container's first process; `pod` is a pod's uid or name.
    ///
    /// # Errors
    /// There is no such container, or it does not run.
    pub fn container_pid(&self, pod: &str, container: &str) -> Result<i32> {
        containers::pid(&self.layout, pod, container)
    }

    /// Host process id of a component.
    #[must_use]
    pub fn daemon_pid(&self, daemon: Daemon) -> Option<i32> {
        daemon::running(&self.layout, daemon.name())
    }

    /// Sends a signal to a component: SIGKILL, SIGSTOP, SIGCONT. One that does not run is fine.
    pub fn signal(&self, daemon: Daemon, signal: Signal) {
        if let Some(pid) = self.daemon_pid(daemon) {
            processes::signal(pid, signal);
        }
    }

    /// Ends a component and waits until it has ended.
    pub fn stop(&self, daemon: Daemon) {
        daemon::stop(&self.layout, daemon.name(), GRACE);
    }

    /// Starts a component again, as `up` did; does not wait until it is ready.
    ///
    /// # Errors
    /// The cluster was never up, or the program does not start.
    pub fn start(&self, daemon: Daemon) -> Result<()> {
        let tools = lifecycle::recorded_tools(&self.layout)
            .with_context(|| format!("cluster {} is not up", self.name()))?;
        match daemon {
            Daemon::Etcd => control_plane::etcd(&self.layout, &tools),
            Daemon::ApiServer => control_plane::api_server(&self.layout, &tools),
            Daemon::ControllerManager | Daemon::Scheduler => {
                control_plane::controllers(&self.layout, &tools)
            }
            Daemon::Containerd => node::containerd(&self.layout),
            Daemon::Kubelet | Daemon::KubeProxy => node::kubelet_and_proxy(&self.layout, &tools),
            Daemon::Store => store::start(&self.layout, &tools),
        }
    }

    /// Ends the API server.
    ///
    /// # Errors
    /// It is still there.
    pub fn stop_apiserver(&self) -> Result<()> {
        self.stop(Daemon::ApiServer);
        anyhow::ensure!(
            self.daemon_pid(Daemon::ApiServer).is_none(),
            "the API server does not end"
        );
        Ok(())
    }

    /// Starts the API server and waits until it serves.
    ///
    /// # Errors
    /// It does not serve in time.
    pub async fn start_apiserver(&self) -> Result<()> {
        let cluster = self.clone();
        let start = move || {
            cluster.start(Daemon::ApiServer)?;
            control_plane::api_ready(&cluster.layout)
        };
        tokio::task::spawn_blocking(start)
            .await
            .context("wait for the API server")?
    }

    /// Lets the host reach `target` (`ip:port` inside the namespace) through a port of its 127.0.0.1, until `down`.
    ///
    /// Without `port`, the one this forward had before is taken if it is free, otherwise any free one.
    ///
    /// # Errors
    /// The wanted port is taken, or the forwarder does not start.
    pub fn forward(&self, name: &str, port: Option<u16>, target: &str) -> Result<u16> {
        forward::ensure(&self.layout, name, port, target)
    }
}

/// The forwarder's own process; see [`Cluster::forward`].
///
/// # Errors
/// The port is taken or the namespace is gone.
pub fn serve_forward(cluster: &str, name: &str, port: u16, target: &str) -> Result<()> {
    forward::serve(&Layout::new(cluster)?, name, port, target)
}

/// Names of all clusters of this machine.
#[must_use]
pub fn names() -> Vec<String> {
    Layout::known()
}
