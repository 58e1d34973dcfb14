//! etcd, API server, controller manager and scheduler: their command lines, and how to ask whether they are ready.

use std::time::Duration;

use anyhow::{Context, Result};

use super::daemon::{self, Spec};
use super::layout::{Layout, NODE_ADDRESS, POD_RANGE, SERVICE_RANGE};
use super::probe;
use crate::tools::Tools;

/// Component names, in the order in which they are started.
pub(super) const ETCD: &str = "etcd";
/// The API server.
pub(super) const APISERVER: &str = "apiserver";
/// The controller manager.
pub(super) const CONTROLLER_MANAGER: &str = "controller-manager";
/// The scheduler.
pub(super) const SCHEDULER: &str = "scheduler";

const READY: Duration = Duration::from_mins(2);
/// Counts writes exactly: one line per mutating request, when it has been answered.
const AUDIT_POLICY: &str = r"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, verbs: [create, update, patch, delete, deletecollection]}
- {level: None}
";

/// The API server's watch cache keeps hundreds of MiB alive, and on two cores each cycle of the garbage collector slows
/// everybody down for a second: fewer cycles, for memory.
const GARBAGE_COLLECTOR: &[(&str, &str)] = &[("GOGC", "400"), ("GOMEMLIMIT", "4GiB")];

/// Starts etcd and waits until it answers.
///
/// # Errors
/// It does not; the message ends with its log.
pub(super) fn etcd(layout: &Layout, tools: &Tools) -> Result<()> {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let (client, peer) = (url(2379), url(2380));
    let args = [
        "etcd".to_owned(),
        flag("name", "kinora"),
        flag("data-dir", &layout.text("etcd")),
        flag("listen-client-urls", &client),
        flag("advertise-client-urls", &client),
        flag("listen-peer-urls", &peer),
        flag("initial-advertise-peer-urls", &peer),
        flag("initial-cluster", &format!("kinora={peer}")),
        flag("quota-backend-bytes", "8589934592"),
        flag("log-level", "warn"),
        // A test machine's disk must not set the pace. A power cut may cost the local cluster, nothing else.
        "--unsafe-no-fsync".to_owned(),
    ];
    daemon::ensure(layout, &Spec::new(ETCD, &tools.hyper, args))?;
    probe::http_until(layout, ETCD, "127.0.0.1:2379", "/health", READY)
}

/// Starts the API server; [`api_ready`] waits for it.
///
/// # Errors
/// It could not be started.
pub(super) fn api_server(layout: &Layout, tools: &Tools) -> Result<()> {
    let policy = layout.path("audit-policy.yaml");
    std::fs::write(&policy, AUDIT_POLICY).with_context(|| format!("write {}", policy.display()))?;
    let pki = |file: &str| layout.text(&format!("pki/{file}"));
    let issuer = "https://kubernetes.default.svc";
    let args = [
        "kube-apiserver".to_owned(),
        flag("etcd-servers", "http://127.0.0.1:2379"),
        flag("secure-port", "6443"),
        flag("bind-address", "0.0.0.0"),
        flag("advertise-address", NODE_ADDRESS),
        flag("tls-cert-file", &pki("apiserver.crt")),
        flag("tls-private-key-file", &pki("apiserver.key")),
        flag("client-ca-file", &pki("ca.crt")),
        flag("kubelet-client-certificate", &pki("kubelet-client.crt")),
        flag("kubelet-client-key", &pki("kubelet-client.key")),
        flag("kubelet-certificate-authority", &pki("ca.crt")),
        // The namespace has no DNS of its own: without this `logs` and `exec` would look for the node's name.
        flag("kubelet-preferred-address-types", "InternalIP"),
        flag("service-account-key-file", &pki("sa.pub")),
        flag("service-account-signing-key-file", &pki("sa.key")),
        flag("service-account-issuer", issuer),
        flag("api-audiences", issuer),
        flag("authorization-mode", "Node,RBAC"),
        flag("enable-admission-plugins", "NodeRestriction"),
        flag("service-cluster-ip-range", SERVICE_RANGE),
        flag("audit-policy-file", &policy.to_string_lossy()),
        flag("audit-log-path", &layout.audit_log().to_string_lossy()),
        flag("audit-log-maxsize", "2000"),
    ];
    let spec = Spec {
        env: GARBAGE_COLLECTOR,
        ..Spec::new(APISERVER, &tools.hyper, args)
    };
    daemon::ensure(layout, &spec).map(|_| ())
}

/// Waits until the API server serves.
///
/// # Errors
/// It does not; the message ends with its log.
pub(super) fn api_ready(layout: &Layout) -> Result<()> {
    probe::kubectl_until(layout, APISERVER, &["get", "--raw", "/readyz"], READY)
}

/// Starts controller manager and scheduler.
///
/// # Errors
/// They could not be started.
pub(super) fn controllers(layout: &Layout, tools: &Tools) -> Result<()> {
    let kubeconfigs = |user: &str| {
        let config = layout.kubeconfig(user);
        [
            "kubeconfig",
            "authentication-kubeconfig",
            "authorization-kubeconfig",
        ]
        .map(|name| flag(name, &config.to_string_lossy()))
        .to_vec()
    };
    let mut manager = vec!["kube-controller-manager".to_owned()];
    manager.extend(kubeconfigs(CONTROLLER_MANAGER));
    manager.extend([
        flag(
            "service-account-private-key-file",
            &layout.text("pki/sa.key"),
        ),
        flag("root-ca-file", &layout.text("pki/ca.crt")),
        flag("use-service-account-credentials", "true"),
        flag("cluster-cidr", POD_RANGE),
        flag("allocate-node-cidrs", "false"),
        flag("leader-elect", "false"),
        // There is one node. Taken for dead after a minute without API server, all Services would lose their endpoints.
        flag("node-monitor-grace-period", "5m"),
        flag(
            "flex-volume-plugin-dir",
            &layout.text("kubelet/volume-plugins"),
        ),
    ]);
    daemon::ensure(
        layout,
        &Spec::new(CONTROLLER_MANAGER, &tools.hyper, manager),
    )?;
    let mut scheduler = vec!["kube-scheduler".to_owned()];
    scheduler.extend(kubeconfigs(SCHEDULER));
    scheduler.push(flag("leader-elect", "false"));
    daemon::ensure(layout, &Spec::new(SCHEDULER, &tools.hyper, scheduler)).map(|_| ())
}

/// `--name=value`.
pub(super) fn flag(name: &str, value: &str) -> String {
    format!("--{name}={value}")
}
