//! The default pool: while this replica leads, what the chart's ConfigMap says is applied to the jobs namespace.
//!
//! A chart cannot hold a definition and an object of it in one first install, so the pool travels as text. May create and
//! patch that one pool; never deletes it.

use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kinora_crds::{VideoWorkerPool, names};
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use prometheus_client::metrics::gauge::Gauge;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::ports::Leadership;
use crate::watches;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A pool that could not be applied is tried again after this, changed or not.
const RETRY: Duration = Duration::from_secs(15);

/// Where the text is and where the pool goes.
#[derive(Clone, Debug)]
pub struct DefaultPool {
    /// Namespace of the ConfigMap.
    pub namespace: String,
    /// Name of the ConfigMap.
    pub configmap: String,
    /// Namespace of the pool.
    pub jobs_namespace: String,
}

/// Why the pool is not as the ConfigMap says.
#[derive(Debug, thiserror::Error)]
pub enum DefaultPoolError {
    /// The text is no VideoWorkerPool.
    #[error("read {} of ConfigMap {configmap}: {what}", names::DEFAULT_POOL_KEY)]
    Text {
        /// The ConfigMap.
        configmap: String,
        /// What is wrong.
        what: String,
    },
    /// The API server refused it, or failed.
    #[error("apply the default pool {name} to namespace {namespace}: {source}")]
    Api {
        /// The pool.
        name: String,
        /// Its namespace.
        namespace: String,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// No answer in time.
    #[error("apply the default pool {name}: no answer in time")]
    Timeout {
        /// The pool.
        name: String,
    },
}

impl DefaultPool {
    /// Follows ConfigMap and leadership until the process ends.
    pub async fn run(
        self,
        client: Client,
        leadership: watch::Receiver<Leadership>,
        applied: Gauge,
    ) {
        let (seen, text) = watch::channel(None);
        let reading = self.follow(client.clone(), &seen);
        let applying = self.keep(client, text, leadership, applied);
        tokio::join!(reading, applying);
    }

    /// Watches the one ConfigMap.
    async fn follow(&self, client: Client, seen: &watch::Sender<Option<String>>) {
        let api: Api<ConfigMap> = Api::namespaced(client, &self.namespace);
        let config =
            watcher::Config::default().fields(&format!("metadata.name={}", self.configmap));
        let mut stream = std::pin::pin!(watches::patient(watcher::watcher(api, config)));
        let mut listed = None;
        loop {
            match stream.try_next().await {
                Ok(Some(event)) => {
                    if let Some(text) = text_after(event, &mut listed) {
                        seen.send_if_modified(|old| std::mem::replace(old, text.clone()) != text);
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        configmap = self.configmap,
                        "watch the default pool: trying again"
                    );
                }
            }
        }
    }

    async fn keep(
        &self,
        client: Client,
        mut text: watch::Receiver<Option<String>>,
        mut leadership: watch::Receiver<Leadership>,
        applied: Gauge,
    ) {
        loop {
            let leads = *leadership.borrow_and_update() == Leadership::Leader;
            let current = text.borrow_and_update().clone();
            let mut retry = None;
            if let Some(current) = current.filter(|_| leads) {
                let done = self.apply(&client, &current).await;
                applied.set(i64::from(done.is_ok()));
                if let Err(error) = done {
                    tracing::error!(%error, "the default pool is not as its ConfigMap says");
                    retry = Some(RETRY);
                }
            }
            tokio::select! {
                changed = text.changed() => if changed.is_err() { return },
                changed = leadership.changed() => if changed.is_err() { return },
                () = sleep(retry) => {}
            }
        }
    }

    async fn apply(&self, client: &Client, text: &str) -> Result<(), DefaultPoolError> {
        let (name, pool) = self.parse(text)?;
        let api: Api<VideoWorkerPool> = Api::namespaced(client.clone(), &self.jobs_namespace);
        let params = PatchParams::apply(names::MANAGER_CHART).force();
        let patch = Patch::Apply(&pool);
        match tokio::time::timeout(REQUEST_TIMEOUT, api.patch(&name, &params, &patch)).await {
            Err(_) => Err(DefaultPoolError::Timeout { name }),
            Ok(Err(source)) => {
                let namespace = self.jobs_namespace.clone();
                Err(DefaultPoolError::Api {
                    name,
                    namespace,
                    source: Box::new(source),
                })
            }
            Ok(Ok(_)) => {
                tracing::info!(
                    pool = name,
                    namespace = self.jobs_namespace,
                    "applied the default pool"
                );
                Ok(())
            }
        }
    }

    /// Name and body of what is applied. The text goes to the API server as it is, so that its schema judges every field;
    /// only the namespace is ours.
    fn parse(&self, text: &str) -> Result<(String, Value), DefaultPoolError> {
        let wrong = |what: String| DefaultPoolError::Text {
            configmap: self.configmap.clone(),
            what,
        };
        let mut pool: Value =
            serde_yaml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let (version, kind) = (
            VideoWorkerPool::api_version(&()),
            VideoWorkerPool::kind(&()),
        );
        if pool.get("apiVersion") != Some(&json!(version)) || pool.get("kind") != Some(&json!(kind))
        {
            return Err(wrong(format!("it must be one {kind} of {version}")));
        }
        let name = pool.pointer("/metadata/name").and_then(Value::as_str);
        let name = name
            .ok_or_else(|| wrong("metadata.name is missing".to_owned()))?
            .to_owned();
        pool["metadata"]["namespace"] = json!(self.jobs_namespace);
        Ok((name, pool))
    }
}

/// The text after this event, if it tells; without the ConfigMap there is none. `listed` is that of the listing under way.
fn text_after(
    event: watcher::Event<ConfigMap>,
    listed: &mut Option<String>,
) -> Option<Option<String>> {
    let text_of = |map: ConfigMap| map.data?.remove(names::DEFAULT_POOL_KEY);
    match event {
        watcher::Event::Apply(map) => Some(text_of(map)),
        watcher::Event::Delete(_) => Some(None),
        watcher::Event::Init => {
            *listed = None;
            None
        }
        watcher::Event::InitApply(map) => {
            *listed = text_of(map);
            None
        }
        watcher::Event::InitDone => Some(listed.take()),
    }
}

async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A standby that leads days later must not bring back a pool that was switched off.
    #[test]
    fn without_the_configmap_there_is_no_text() {
        use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
        let map = |text: &str| ConfigMap {
            data: Some([(names::DEFAULT_POOL_KEY.to_owned(), text.to_owned())].into()),
            ..ConfigMap::default()
        };
        let some = |text: &str| Some(Some(text.to_owned()));
        let mut listed = None;
        for (event, want) in [
            (Init, None),
            (InitApply(map("a")), None),
            (InitDone, some("a")),
            (Apply(map("b")), some("b")),
            (Delete(map("b")), Some(None)),
            (Apply(map("c")), some("c")),
            // Deleted while the watch was broken.
            (Init, None),
            (InitDone, Some(None)),
        ] {
            assert_eq!(text_after(event, &mut listed), want);
        }
    }

    #[test]
    fn the_text_is_one_pool_and_goes_to_the_jobs_namespace() {
        let where_to = DefaultPool {
            namespace: "kinora-system".to_owned(),
            configmap: "kinora-default-pool".to_owned(),
            jobs_namespace: "videos".to_owned(),
        };
        let good = "apiVersion: kinora.dev/v1alpha1\nkind: VideoWorkerPool\nmetadata: {name: default}\nspec: {typo: kept}\n";
        let (name, pool) = where_to.parse(good).unwrap();
        assert_eq!(
            (name.as_str(), &pool["metadata"]["namespace"]),
            ("default", &json!("videos"))
        );
        assert_eq!(
            pool["spec"]["typo"], "kept",
            "the API server judges the fields"
        );
        let table = [
            ("not YAML", "a: b: c"),
            ("nothing", ""),
            (
                "another kind",
                "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n",
            ),
            (
                "another version",
                "apiVersion: kinora.dev/v9\nkind: VideoWorkerPool\nmetadata: {name: x}\n",
            ),
            (
                "no name",
                "apiVersion: kinora.dev/v1alpha1\nkind: VideoWorkerPool\n",
            ),
        ];
        for (name, text) in table {
            let error = where_to.parse(text).unwrap_err().to_string();
            assert!(error.contains("kinora-default-pool"), "{name}: {error}");
        }
    }
}
