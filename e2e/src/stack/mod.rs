//! A whole Kinora on the local cluster: namespaces, secrets, the reference service and the Helm release.
//!
//! Used by the demo and by the test suite; both then talk to it through [`crate::uploads`] and [`crate::jobs`].

mod secrets;
mod values;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams, Patch, PatchParams};

use crate::cluster::Cluster;
use crate::tools::repository_root;
use crate::wait;

/// Where operator and uploader live.
pub const RELEASE_NAMESPACE: &str = "kinora-system";
/// Where jobs, the default pool and its workers live.
pub const JOBS_NAMESPACE: &str = "videos";
/// Where the reference service lives.
pub const SERVICE_NAMESPACE: &str = "processing";
/// Bucket of the local store.
pub use crate::cluster::BUCKET;
/// Name of the Helm release.
pub const RELEASE: &str = "kinora";
/// Profile whose jobs are deleted as soon as the operator allows.
pub const SHORT_LIVED: &str = "short-lived";
/// Profile whose jobs go to the pool of the same name, which a case makes as it needs it.
pub const CROWD: &str = "crowd";
/// Tenants with a key each for that profile; number 0 has the key of the demo.
pub const CROWD_TENANTS: usize = 20;
const KEY_ID: &str = "demo";
const UPLOAD_TTL_SECONDS: u32 = 900;

/// What differs between the demo and the tests.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// Registry and tag of the imported images.
    pub images: Images,
    /// Operator replicas; two show a fail-over.
    pub operator_replicas: u32,
    /// Uploader replicas.
    pub uploader_replicas: u32,
    /// Shortest TTL of finished upload jobs in seconds; below 900 only with the operator's test flag, which is then set.
    pub upload_ttl_floor_seconds: u32,
    /// Seconds of inactivity after which workers are scaled down.
    pub scale_down_seconds: u32,
}

/// Registry and tag that every Kinora image shares.
#[derive(Clone, Debug)]
pub struct Images {
    /// For example `kinora.local`.
    pub registry: String,
    /// Content hash.
    pub tag: String,
}

/// An installed Kinora.
#[derive(Clone)]
pub struct Stack {
    /// The cluster it runs on.
    pub cluster: Cluster,
    /// Client of the API server, as cluster admin.
    pub client: kube::Client,
    /// `<key-id>.<secret>` for the uploader.
    pub api_key: String,
    /// Knows the store's in-cluster name, so presigned URLs can be followed from here.
    pub http: reqwest::Client,
}

impl Stack {
    /// Installs, or upgrades, everything and waits until it is ready.
    ///
    /// # Errors
    /// The step that failed, with where to look.
    pub async fn install(&self, options: &StackOptions) -> Result<()> {
        self.namespaces_and_secrets()?;
        self.reference_service(&options.images)?;
        self.helm_install(options)?;
        self.ready(options).await
    }

    /// `helm upgrade` alone, and waits until all is rolled.
    ///
    /// # Errors
    /// The step that failed, with where to look.
    pub async fn upgrade(&self, options: &StackOptions) -> Result<()> {
        let (stack, wanted) = (self.clone(), options.clone());
        // Meanwhile a case looks on.
        let work = tokio::task::spawn_blocking(move || stack.helm_install(&wanted));
        work.await.context("helm upgrade")??;
        self.ready(options).await
    }

    /// Removes the release and the definitions, and with them every job; nothing happens when they are not there.
    ///
    /// # Errors
    /// What helm or kubectl said.
    pub fn uninstall(&self) -> Result<()> {
        self.cluster.helm(&[
            "uninstall",
            RELEASE,
            "--namespace",
            RELEASE_NAMESPACE,
            "--ignore-not-found",
            "--wait",
        ])?;
        for definition in kinora_crds::definitions()? {
            let name = definition.crd()?.metadata.name.unwrap_or_default();
            self.cluster
                .kubectl(&["delete", "crd", &name, "--ignore-not-found", "--wait=true"])?;
        }
        Ok(())
    }

    /// Connects without installing anything.
    ///
    /// # Errors
    /// The API server is not reachable.
    pub async fn attach(cluster: Cluster) -> Result<Self> {
        let client = cluster
            .client()
            .await
            .context("connect to the local cluster")?;
        let http = reqwest::Client::builder()
            // As phones that come once: a request on a kept connection could cross its end, by idleness or by a rollout.
            .pool_max_idle_per_host(0)
            .resolve(
                crate::cluster::STORE_HOST,
                crate::cluster::STORE_ADDRESS.parse()?,
            )
            .timeout(Duration::from_mins(2))
            .build()?;
        let api_key = format!("{KEY_ID}.{}", secrets::demo_secret(&cluster)?);
        Ok(Self {
            cluster,
            client,
            api_key,
            http,
        })
    }

    /// `kubectl apply` of JSON documents.
    ///
    /// # Errors
    /// What kubectl said.
    pub fn apply(&self, documents: &[serde_json::Value]) -> Result<()> {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": documents});
        self.cluster
            .kubectl_stdin(&["apply", "-f", "-"], &list.to_string())
            .map(|_| ())
    }

    /// Installs the reference processing service.
    ///
    /// # Errors
    /// What kubectl said.
    pub fn reference_service(&self, images: &Images) -> Result<()> {
        let manifest = include_str!("../../deploy/reference-service.yaml")
            .replace("@REGISTRY@", &images.registry)
            .replace("@TAG@", &images.tag);
        self.cluster
            .kubectl_stdin(&["apply", "-f", "-"], &manifest)
            .context("apply the reference service")?;
        Ok(())
    }

    fn helm_install(&self, options: &StackOptions) -> Result<()> {
        let values = self.cluster.state_dir().join("values.json");
        std::fs::write(
            &values,
            serde_json::to_vec_pretty(&values::chart_values(options))?,
        )?;
        let chart = repository_root().join("charts/kinora");
        self.cluster
            .helm(&[
                "upgrade",
                "--install",
                RELEASE,
                &chart.to_string_lossy(),
                "--namespace",
                RELEASE_NAMESPACE,
                "--values",
                &values.to_string_lossy(),
                "--wait=legacy",
                "--timeout",
                "8m",
            ])
            .context("helm install; see `cargo xtask kubectl -n kinora-system get pods,events`")?;
        Ok(())
    }

    /// Waits until operator, uploader, reference service and the default pool are there.
    ///
    /// # Errors
    /// They are not within minutes; the message names the one.
    pub async fn ready(&self, options: &StackOptions) -> Result<()> {
        for (namespace, name, replicas) in [
            (
                RELEASE_NAMESPACE,
                "kinora-operator",
                options.operator_replicas,
            ),
            (
                RELEASE_NAMESPACE,
                "kinora-uploader",
                options.uploader_replicas,
            ),
            (SERVICE_NAMESPACE, "reference-service", 1),
        ] {
            let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
            wait::until(
                &format!("deployment {namespace}/{name} to be available"),
                Duration::from_mins(5),
                || async {
                    let found = api.get(name).await?;
                    let status = found.status.unwrap_or_default();
                    let generation = found.metadata.generation;
                    let ready = status.updated_replicas.unwrap_or(0) as u32 == replicas
                        && status.available_replicas.unwrap_or(0) as u32 == replicas
                        && status.replicas.unwrap_or(0) as u32 == replicas
                        && status.observed_generation == generation;
                    Ok(ready.then_some(()))
                },
            )
            .await?;
        }
        let pools: Api<kinora_crds::VideoWorkerPool> =
            Api::namespaced(self.client.clone(), JOBS_NAMESPACE);
        wait::until("the default pool", Duration::from_mins(1), || async {
            Ok(pools.get_opt("default").await?)
        })
        .await?;
        Ok(())
    }

    /// Base URL of each ready uploader replica, sorted.
    ///
    /// # Errors
    /// The API server did not answer.
    pub async fn uploader_replicas(&self) -> Result<Vec<String>> {
        let pods = self
            .pods(RELEASE_NAMESPACE, "app.kubernetes.io/component=uploader")
            .await?;
        let mut urls: Vec<String> = pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod))
            .filter_map(|pod| pod.status.as_ref()?.pod_ip.clone())
            .map(|ip| format!("http://{ip}:8080"))
            .collect();
        urls.sort();
        if urls.is_empty() {
            bail!(
                "no uploader replica is ready; see `cargo xtask kubectl -n {RELEASE_NAMESPACE} get pods`"
            );
        }
        Ok(urls)
    }

    /// Base URL of the uploader's Service.
    ///
    /// # Errors
    /// There is no such Service.
    pub async fn uploader(&self) -> Result<String> {
        Ok(format!(
            "http://{}:8080",
            self.cluster_ip(RELEASE_NAMESPACE, "kinora-uploader")
                .await?
        ))
    }

    /// The cluster's store, with the rights of uploader and operator.
    ///
    /// # Errors
    /// It refuses or does not answer.
    pub async fn store(&self) -> Result<kinora_storage::Store> {
        let (access_key, secret_key) = self.cluster.store_credentials()?;
        let folder = self.cluster.state_dir().join("e2e-credentials");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("access-key-id"), access_key)?;
        std::fs::write(folder.join("secret-access-key"), secret_key)?;
        let endpoint = format!("http://{}", crate::cluster::STORE_ADDRESS);
        let args = kinora_storage::StoreArgs::new(&endpoint, BUCKET, &folder);
        Ok(kinora_storage::Store::connect(&args).await?)
    }

    /// Cluster address of a Service.
    ///
    /// # Errors
    /// There is no such Service, or it has no address.
    pub async fn cluster_ip(&self, namespace: &str, name: &str) -> Result<String> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let service = api
            .get(name)
            .await
            .with_context(|| format!("get service {namespace}/{name}"))?;
        service
            .spec
            .and_then(|spec| spec.cluster_ip)
            .with_context(|| format!("service {namespace}/{name} has no address"))
    }

    /// Pods of a namespace by label selector.
    ///
    /// # Errors
    /// The API server did not answer.
    pub async fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        Ok(api
            .list(&ListParams::default().labels(selector))
            .await?
            .items)
    }

    /// Sets the faults of the reference service; `{}` clears them.
    ///
    /// # Errors
    /// The service refused or did not answer.
    pub async fn faults(&self, faults: &serde_json::Value) -> Result<()> {
        let url = format!(
            "http://{}:8081/faults",
            self.cluster_ip(SERVICE_NAMESPACE, "reference-service")
                .await?
        );
        wait::until("the faults to be set", Duration::from_mins(1), || async {
            let answer = self.http.put(&url).json(faults).send().await?;
            answer.error_for_status()?;
            Ok(Some(()))
        })
        .await
    }

    /// Takes the reference service away (0) or brings it back (1), and waits until it is so.
    ///
    /// # Errors
    /// It is not within minutes.
    pub async fn scale_service(&self, replicas: i32) -> Result<()> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), SERVICE_NAMESPACE);
        let patch = Patch::Merge(serde_json::json!({"spec": {"replicas": replicas}}));
        let name = "reference-service";
        api.patch_scale(name, &PatchParams::default(), &patch)
            .await
            .context("scale the reference service")?;
        let what = format!("{replicas} replicas of the reference service");
        wait::until(&what, Duration::from_mins(5), || async {
            let status = api.get(name).await?.status.unwrap_or_default();
            let (all, ready) = (status.replicas, status.available_replicas);
            Ok((all.unwrap_or(0) == replicas && ready.unwrap_or(0) == replicas).then_some(()))
        })
        .await
    }

    /// Calls that the reference service has seen, by idempotency key.
    ///
    /// # Errors
    /// The service did not answer.
    pub async fn calls(&self) -> Result<serde_json::Value> {
        let url = format!(
            "http://{}:8081/calls",
            self.cluster_ip(SERVICE_NAMESPACE, "reference-service")
                .await?
        );
        Ok(self
            .http
            .get(url)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?)
    }
}

/// True when the pod's Ready condition is.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| {
        all.iter()
            .any(|one| one.type_ == "Ready" && one.status == "True")
    })
}
