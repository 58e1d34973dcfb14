//! The default pool: while this replica leads, what the chart's ConfigMap says is applied to the jobs namespace.
//!
//! A chart cannot hold a definition and an object of it in one first install, so the pool travels as text. May create and
//! patch that one pool; never deletes it. One that somebody deleted stays away; one that went with its namespace or its
//! definition is applied again once they are back.

use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
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
/// How often it is looked whether its home is still the one that it was applied to.
const LOOK: Duration = Duration::from_mins(1);

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
    #[error("{action}: {source}")]
    Api {
        /// What was tried.
        action: String,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// No answer in time.
    #[error("{action}: no answer in time")]
    Timeout {
        /// What was tried.
        action: String,
    },
}

/// What takes the pool along when it goes, by uid: the jobs namespace, and the definition of pools.
#[derive(Debug, PartialEq, Eq)]
struct Home {
    namespace: Option<String>,
    definition: Option<String>,
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
        let mut stream = std::pin::pin!(watches::patient(watches::watch_few(api, config)));
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
        let mut home = None;
        loop {
            let leads = *leadership.borrow_and_update() == Leadership::Leader;
            let current = text.borrow_and_update().clone();
            let (mut is_applied, mut again) = (false, None);
            if let Some(current) = current.filter(|_| leads) {
                let done = self.settle(&client, &current, &mut home).await;
                is_applied = done.is_ok();
                again = Some(if is_applied { LOOK } else { RETRY });
                if let Err(error) = done {
                    tracing::error!(%error, "the default pool is not as its ConfigMap says");
                }
            }
            applied.set(i64::from(is_applied));
            let changed = tokio::select! {
                changed = text.changed() => changed,
                changed = leadership.changed() => changed,
                () = sleep(again) => continue,
            };
            if changed.is_err() {
                return;
            }
            home = None;
        }
    }

    /// Applies the pool, unless `home` says that it was applied to just this one: then somebody deleted it, if it is not there.
    async fn settle(
        &self,
        client: &Client,
        text: &str,
        home: &mut Option<Home>,
    ) -> Result<(), DefaultPoolError> {
        // Looked for first: one that is replaced meanwhile is another one at the next look.
        let found = self.home(client).await?;
        if home.as_ref() != Some(&found) {
            self.apply(client, text).await?;
            *home = Some(found);
        }
        Ok(())
    }

    async fn home(&self, client: &Client) -> Result<Home, DefaultPoolError> {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let name = &self.jobs_namespace;
        let namespace = call(
            || format!("read namespace {name}"),
            namespaces.get_metadata(name),
        );
        let namespace = namespace.await?.metadata.uid;
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let name = format!("videoworkerpools.{}", names::GROUP);
        let definition = call(
            || format!("read definition {name}"),
            definitions.get_metadata(&name),
        );
        let definition = definition.await?.metadata.uid;
        Ok(Home {
            namespace,
            definition,
        })
    }

    async fn apply(&self, client: &Client, text: &str) -> Result<(), DefaultPoolError> {
        let (name, pool) = self.parse(text)?;
        let namespace = self.jobs_namespace.as_str();
        let api: Api<VideoWorkerPool> = Api::namespaced(client.clone(), namespace);
        let params = PatchParams::apply(names::MANAGER_CHART).force();
        call(
            || format!("apply the default pool {name} to namespace {namespace}"),
            api.patch(&name, &params, &Patch::Apply(&pool)),
        )
        .await?;
        tracing::info!(pool = name, namespace, "applied the default pool");
        Ok(())
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

/// One call to the API server, with a time limit.
async fn call<T>(
    action: impl Fn() -> String,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, DefaultPoolError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, call).await {
        Err(_) => Err(DefaultPoolError::Timeout { action: action() }),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(DefaultPoolError::Api {
            action: action(),
            source: Box::new(source),
        }),
    }
}

async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
