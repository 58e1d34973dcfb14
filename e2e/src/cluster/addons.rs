//! What runs in the cluster before Kinora does: CoreDNS, and the Service that leads to the store.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::layout::{Layout, NODE_ADDRESS};
use super::{kubectl, node, probe};
use crate::command;

/// CoreDNS, built from the pinned Go module.
pub const COREDNS_IMAGE: &str = "kinora.local/coredns:1";

const LIMIT: Duration = Duration::from_mins(2);
const COREDNS: &str = include_str!("../../cluster/coredns.yaml");

/// Applies both; they may be there already.
///
/// # Errors
/// What kubectl said.
pub(super) fn apply(layout: &Layout) -> Result<()> {
    let manifest = format!(
        "{}\n---\n{}",
        COREDNS.replace("@IMAGE@", COREDNS_IMAGE),
        store_service()
    );
    command::run_with_input(
        "apply DNS and the store's Service",
        kubectl::command(layout)?.args(["apply", "-f", "-"]),
        &manifest,
        LIMIT,
    )?;
    Ok(())
}

/// Waits until names resolve.
///
/// # Errors
/// They do not; the message ends with the kubelet's log.
pub(super) fn ready(layout: &Layout) -> Result<()> {
    let args = [
        "-n",
        "kube-system",
        "wait",
        "--for=condition=Available",
        "--timeout=10s",
        "deployment/coredns",
    ];
    probe::kubectl_until(layout, node::KUBELET, &args, LIMIT)
}

/// Pods know the store by name only; its address is the node's.
fn store_service() -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kinora-e2e"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "store", "namespace": "kinora-e2e"},
         "spec": {"ports": [{"name": "s3", "port": 8333, "targetPort": 8333, "protocol": "TCP"}]}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
         "metadata": {"name": "store", "namespace": "kinora-e2e", "labels": {"kubernetes.io/service-name": "store"}},
         "addressType": "IPv4", "ports": [{"name": "s3", "port": 8333, "protocol": "TCP"}],
         "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": true}}]},
    ]})
}
