//! Ways to the API server: as admin, and as the two ServiceAccounts of Kinora, with the rights that the manifests give them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kinora_crds::names::DISPATCH_AUDIENCE;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};

/// Where Kinora itself is.
pub(crate) const RELEASE_NAMESPACE: &str = "kinora-system";
/// Where its jobs are.
pub(crate) const JOBS_NAMESPACE: &str = "videos";
/// Longer than any run.
const TOKEN_SECONDS: i64 = 4 * 3600;
const SERVICE_ACCOUNT_OF_WORKERS: &str = "default";

/// Clients.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) admin: Client,
    /// May create jobs of uploads.
    pub(crate) uploader: Client,
    /// May write their status, and delete them.
    pub(crate) operator: Client,
    /// For the operator's process.
    pub(crate) operator_kubeconfig: PathBuf,
}

impl Access {
    /// From the admin's kubeconfig; those of the ServiceAccounts are put into `folder`.
    pub(crate) async fn open(admin_kubeconfig: &Path, folder: &Path) -> Result<Self> {
        let admin = client(admin_kubeconfig).await?;
        let text = std::fs::read_to_string(admin_kubeconfig).context("read the kubeconfig")?;
        let written = async |account: &str| -> Result<PathBuf> {
            let token = token(&admin, RELEASE_NAMESPACE, account, None).await?;
            let mut config: Value =
                serde_json::from_str(&text).context("the kubeconfig is no JSON")?;
            config["users"][0]["user"] = json!({"token": token});
            let path = folder.join(format!("{account}.kubeconfig"));
            std::fs::write(&path, config.to_string()).context("write a kubeconfig")?;
            Ok(path)
        };
        let operator_kubeconfig = written("kinora-operator").await?;
        let uploader = client(&written("kinora-uploader").await?).await?;
        Ok(Self {
            uploader,
            operator: client(&operator_kubeconfig).await?,
            admin,
            operator_kubeconfig,
        })
    }
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("read {}", kubeconfig.display()))?;
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    config.proxy_url = None;
    // As the operator's own: what fails is to be seen.
    config.default_retry = false;
    Client::try_from(config).context("make a client of the API server")
}

/// The token that the kubelet would project into a worker's pod.
pub(crate) async fn worker_token(admin: &Client, pod: &Pod) -> Result<String> {
    token(admin, JOBS_NAMESPACE, SERVICE_ACCOUNT_OF_WORKERS, Some(pod)).await
}

async fn token(
    admin: &Client,
    namespace: &str,
    account: &str,
    bound: Option<&Pod>,
) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: bound
                .map(|_| vec![DISPATCH_AUDIENCE.to_owned()])
                .unwrap_or_default(),
            bound_object_ref: bound.map(|pod| BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.name_any()),
                uid: pod.uid(),
            }),
            expiration_seconds: Some(TOKEN_SECONDS),
        },
        ..TokenRequest::default()
    };
    let params = PostParams::default();
    let made = accounts.create_token_request(account, &params, &request);
    let made = made
        .await
        .with_context(|| format!("a token of {namespace}/{account}"))?;
    made.status
        .map(|status| status.token)
        .with_context(|| format!("the API server gave no token of {namespace}/{account}"))
}
