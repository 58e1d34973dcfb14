//! kubectl and helm, pointed at a cluster and run inside its network namespace.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::layout::Layout;
use super::{lifecycle, netns};

/// kubectl as cluster admin.
///
/// # Errors
/// The cluster was never up.
pub(super) fn command(layout: &Layout) -> Result<Command> {
    let mut kubectl = netns::inside(layout, program(layout, "hyper")?);
    kubectl
        .arg("kubectl")
        .env("KUBECONFIG", layout.kubeconfig("admin"))
        .env("HOME", layout.path("home"));
    without_proxies(&mut kubectl);
    Ok(kubectl)
}

/// helm as cluster admin; its caches stay in the cluster's state.
///
/// # Errors
/// The cluster was never up.
pub(super) fn helm(layout: &Layout) -> Result<Command> {
    let mut helm = netns::inside(layout, program(layout, "helm")?);
    helm.env("KUBECONFIG", layout.kubeconfig("admin"))
        .env("HOME", layout.path("home"));
    for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(folder, layout.path("home/helm"));
    }
    without_proxies(&mut helm);
    Ok(helm)
}

fn without_proxies(command: &mut Command) {
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ] {
        command.env_remove(name);
    }
}

fn program(layout: &Layout, name: &str) -> Result<PathBuf> {
    let tools = lifecycle::recorded_tools(layout).with_context(|| {
        format!(
            "cluster {} is not up: run `cargo xtask cluster up --name {}`",
            layout.name(),
            layout.name()
        )
    })?;
    Ok(if name == "helm" {
        tools.helm
    } else {
        tools.hyper
    })
}
