//! Clients of the API server; for callers inside the cluster's network namespace.

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::Cluster;

impl Cluster {
    /// As cluster admin.
    ///
    /// # Errors
    /// The cluster was never up.
    pub async fn client(&self) -> Result<kube::Client> {
        kube::Client::try_from(self.config().await?).context("make a Kubernetes client")
    }

    /// As somebody else, whom the cluster admin impersonates.
    ///
    /// # Errors
    /// The cluster was never up.
    pub async fn client_as(&self, user: &str) -> Result<kube::Client> {
        let mut config = self.config().await?;
        config.auth_info.impersonate = Some(user.to_owned());
        kube::Client::try_from(config).context("make a Kubernetes client")
    }

    async fn config(&self) -> Result<kube::Config> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())
            .with_context(|| format!("read {}", self.kubeconfig().display()))?;
        let options = KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .context("read the kubeconfig")?;
        config.proxy_url = None;
        Ok(config)
    }
}
