//! `status`: what runs, and whether it answers. Reads only.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::Value;

use super::layout::{Layout, NODE_NAME, STORE_ADDRESS};
use super::{containers, control_plane, daemon, forward, kubectl, netns, node, probe, store};
use crate::command;

const LIMIT: Duration = Duration::from_secs(5);

/// A cluster at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The cluster's name.
    pub name: String,
    /// As a whole.
    pub state: State,
    /// Everything of it on disk.
    pub state_dir: String,
    /// For the host: goes through a forwarded port.
    pub kubeconfig: String,
    /// Each component.
    pub components: Vec<Component>,
    /// Ports of the host that lead into the cluster.
    pub forwards: Vec<Port>,
}

/// Of a whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Everything answers.
    Running,
    /// Some of it is there.
    Broken,
    /// Nothing is.
    Stopped,
}

/// One program or pod of the cluster.
#[derive(Clone, Debug, Serialize)]
pub struct Component {
    /// Also the name of its log.
    pub name: String,
    /// On the host; none for what runs in pods.
    pub pid: Option<i32>,
    /// Whether it answers.
    pub ready: bool,
    /// Why not.
    pub detail: String,
}

/// A forwarded port.
#[derive(Clone, Debug, Serialize)]
pub struct Port {
    /// What it is for.
    pub name: String,
    /// On 127.0.0.1.
    pub port: u16,
    /// Inside the namespace.
    pub target: String,
}

impl Status {
    /// Whether every component answers.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }
}

/// Asks every component.
#[must_use]
pub(super) fn observe(layout: &Layout) -> Status {
    let there = netns::exists(layout);
    let mut components: Vec<Component> = DAEMONS
        .iter()
        .map(|(name, check)| look(layout, name, *check, there))
        .collect();
    if components
        .iter()
        .any(|component| component.name == control_plane::APISERVER && component.ready)
    {
        components.extend(in_pods(layout));
    }
    let running =
        components.iter().all(|component| component.ready) && components.len() > DAEMONS.len();
    let anything = there || layout.state().exists();
    let state = if running {
        State::Running
    } else if anything {
        State::Broken
    } else {
        State::Stopped
    };
    let forwards = forward::all(layout)
        .into_iter()
        .map(|(name, forward)| Port {
            name,
            port: forward.port,
            target: forward.target,
        });
    Status {
        name: layout.name().to_owned(),
        state,
        state_dir: layout.state().to_string_lossy().into_owned(),
        kubeconfig: layout.kubeconfig("host").to_string_lossy().into_owned(),
        components,
        forwards: forwards.collect(),
    }
}

type Check = fn(&Layout) -> Result<()>;

const DAEMONS: &[(&str, Check)] = &[
    (control_plane::ETCD, |layout| {
        http(layout, "127.0.0.1:2379", "/health")
    }),
    (control_plane::APISERVER, |layout| {
        command::run(
            "ask the API server",
            kubectl::command(layout)?.args(["get", "--raw", "/readyz"]),
            LIMIT,
        )
        .map(|_| ())
    }),
    (control_plane::CONTROLLER_MANAGER, |_| Ok(())),
    (control_plane::SCHEDULER, |_| Ok(())),
    (node::CONTAINERD, |layout| {
        containers::ctr(layout, &["version"]).map(|_| ())
    }),
    (node::KUBELET, |layout| {
        http(layout, "127.0.0.1:10248", "/healthz")
    }),
    (node::PROXY, |layout| {
        http(layout, "127.0.0.1:10256", "/healthz")
    }),
    // Any HTTP answer will do: without credentials the store refuses.
    (store::STORE, |layout| {
        probe::in_namespace(layout, || {
            probe::http_status(STORE_ADDRESS, "/").map(|_| ())
        })
    }),
];

fn look(layout: &Layout, name: &str, check: Check, there: bool) -> Component {
    let pid = daemon::running(layout, name);
    let outcome = match pid {
        None => Err("does not run".to_owned()),
        Some(_) if !there => Err("its network namespace is gone".to_owned()),
        Some(_) => check(layout).map_err(|error| format!("{error:#}")),
    };
    Component {
        name: name.to_owned(),
        pid,
        ready: outcome.is_ok(),
        detail: outcome.err().unwrap_or_default(),
    }
}

fn in_pods(layout: &Layout) -> Vec<Component> {
    let asked = kubectl::command(layout).and_then(|mut kubectl| {
        kubectl.args([
            "-n",
            "kube-system",
            "get",
            &format!("node/{NODE_NAME}"),
            "deployment/coredns",
            "--output=json",
        ]);
        let text = command::run("ask for node and DNS", &mut kubectl, LIMIT)?;
        Ok(serde_json::from_str::<Value>(&text)?)
    });
    let list = asked.unwrap_or(Value::Null);
    let condition = |at: usize, kind: &str| {
        let conditions = list["items"][at]["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        conditions
            .iter()
            .any(|condition| condition["type"] == kind && condition["status"] == "True")
    };
    let component = |name: &str, ready: bool, why: &str| Component {
        name: name.to_owned(),
        pid: None,
        ready,
        detail: if ready { String::new() } else { why.to_owned() },
    };
    vec![
        component("node", condition(0, "Ready"), "not Ready"),
        component("dns", condition(1, "Available"), "not Available"),
    ]
}

fn http(layout: &Layout, address: &str, path: &str) -> Result<()> {
    let status = probe::in_namespace(layout, || probe::http_status(address, path))?;
    ensure!(status == 200, "http://{address}{path} answers {status}");
    Ok(())
}
