//! The node: containerd, kubelet and kube-proxy, with every path they would otherwise share moved into the state.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::daemon::{self, Spec};
use super::layout::{DNS_ADDRESS, Layout, NODE_ADDRESS, NODE_NAME, POD_RANGE, POD_RANGE_START};
use super::{containers, control_plane::flag, probe};
use crate::command;
use crate::tools::Tools;

/// Component names.
pub(super) const CONTAINERD: &str = "containerd";
/// The kubelet.
pub(super) const KUBELET: &str = "kubelet";
/// Service addresses, as nft rules of the namespace.
pub(super) const PROXY: &str = "kube-proxy";
/// What a pod's first process is.
pub const PAUSE_IMAGE: &str = "kinora.local/pause:1";

const READY: Duration = Duration::from_mins(2);

/// Starts containerd and waits until it answers.
///
/// # Errors
/// It does not; the message ends with its log.
pub(super) fn containerd(layout: &Layout) -> Result<()> {
    write(layout, "containerd/config.toml", &containerd_config(layout))?;
    // Point-to-point links, not a bridge: pods meet only through the node's routing, so Service addresses work
    // whether or not the kernel passes bridged packets to nft.
    let network = json!({
        "cniVersion": "1.0.0", "name": "kinora",
        "plugins": [{"type": "ptp", "ipMasq": false, "ipam": {
            "type": "host-local", "dataDir": layout.path("cni-addresses"), "routes": [{"dst": "0.0.0.0/0"}],
            "ranges": [[{"subnet": POD_RANGE, "rangeStart": POD_RANGE_START, "gateway": NODE_ADDRESS}]],
        }}],
    });
    write(
        layout,
        "cni/10-kinora.conflist",
        &serde_json::to_string_pretty(&network)?,
    )?;
    let program = command::find("containerd").context("containerd is not installed")?;
    daemon::ensure(
        layout,
        &Spec::new(
            CONTAINERD,
            program,
            ["--config".to_owned(), layout.text("containerd/config.toml")],
        ),
    )?;
    probe::until(layout, CONTAINERD, READY, || {
        containers::ctr(layout, &["version"]).map(|_| ())
    })
}

/// Starts kubelet and kube-proxy.
///
/// # Errors
/// They could not be started.
pub(super) fn kubelet_and_proxy(layout: &Layout, tools: &Tools) -> Result<()> {
    write(
        layout,
        "kubelet.json",
        &serde_json::to_string_pretty(&kubelet_config(layout))?,
    )?;
    let kubelet = [
        "kubelet".to_owned(),
        flag(
            "kubeconfig",
            &layout.kubeconfig("kubelet").to_string_lossy(),
        ),
        flag("config", &layout.text("kubelet.json")),
        flag("hostname-override", NODE_NAME),
        flag("node-ip", NODE_ADDRESS),
        flag("root-dir", &layout.text("kubelet")),
        flag("volume-plugin-dir", &layout.text("kubelet/volume-plugins")),
    ];
    daemon::ensure(layout, &Spec::new(KUBELET, &tools.hyper, kubelet))?;
    let proxy = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "mode": "nftables", "clusterCIDR": POD_RANGE,
        "clientConnection": {"kubeconfig": layout.kubeconfig("proxy")},
        // Limits of the whole machine; a namespace may not set them.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    });
    write(
        layout,
        "kube-proxy.json",
        &serde_json::to_string_pretty(&proxy)?,
    )?;
    let args = [
        "kube-proxy".to_owned(),
        flag("config", &layout.text("kube-proxy.json")),
        flag("hostname-override", NODE_NAME),
    ];
    daemon::ensure(layout, &Spec::new(PROXY, &tools.hyper, args)).map(|_| ())
}

/// Waits until the node takes pods.
///
/// # Errors
/// It does not; the message ends with the kubelet's log.
pub(super) fn ready(layout: &Layout) -> Result<()> {
    let node = format!("node/{NODE_NAME}");
    probe::kubectl_until(
        layout,
        KUBELET,
        &["wait", "--for=condition=Ready", "--timeout=10s", &node],
        READY,
    )?;
    probe::kubectl_until(
        layout,
        KUBELET,
        &["-n", "default", "get", "serviceaccount", "default"],
        READY,
    )
}

fn containerd_config(layout: &Layout) -> String {
    let at = |relative: &str| format!("{:?}", layout.text(relative));
    format!(
        r#"version = 2
root = {root}
state = {state}
[grpc]
  address = {socket}
[plugins."io.containerd.internal.v1.opt"]
  path = {opt}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Machines without CAP_SYS_RESOURCE cannot lower the score; every sandbox would fail.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = {cni}
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = {runc}
"#,
        root = at("containerd/root"),
        state = at("containerd/state"),
        socket = at("containerd/containerd.sock"),
        opt = at("containerd/opt"),
        cni = at("cni"),
        runc = at("containerd/runc"),
    )
}

fn kubelet_config(layout: &Layout) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": layout.path("pki/ca.crt")}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": layout.path("pki/kubelet.crt"), "tlsPrivateKeyFile": layout.path("pki/kubelet.key"),
        "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{}", layout.scope()), "cgroupsPerQOS": true,
        "enforceNodeAllocatable": [], "failSwapOn": false, "failCgroupV1": false,
        "containerRuntimeEndpoint": format!("unix://{}", layout.containerd_socket().display()),
        "clusterDNS": [DNS_ADDRESS], "clusterDomain": "cluster.local", "resolvConf": "",
        "podLogsDir": layout.path("pod-logs"),
        "maxPods": 250, "serializeImagePulls": false, "registryPullQPS": 0, "eventRecordQPS": 0,
        "imageGCHighThresholdPercent": 100, "imageMinimumGCAge": "8760h",
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "nodeStatusUpdateFrequency": "4s", "kubeAPIQPS": 200, "kubeAPIBurst": 400,
        // The containers' probes and restarts must not make a test wait.
        "syncFrequency": "10s",
    })
}

fn write(layout: &Layout, relative: &str, content: &str) -> Result<()> {
    let path = layout.path(relative);
    fs::write(&path, content).with_context(|| format!("write {}", path.display()))
}
