//! Watches the pods of all pools into the [`PodIndex`] and tells the core what their changes mean. Reads pods only.

pub mod attempt;
pub mod index;
pub mod standing;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kinora_crds::names;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};

use self::attempt::Maker;
pub use self::index::{Owner, PodFacts, PodIndex};
pub use self::standing::Standing;
use crate::ports::PodEvent;
use crate::watches;

const GET_TIMEOUT: Duration = Duration::from_secs(2);

/// A cheap handle on the index.
#[derive(Clone)]
pub struct Pods {
    client: Client,
    index: Arc<RwLock<PodIndex>>,
    standing: watch::Receiver<Arc<Standing>>,
}

/// The writing end; see [`run`].
pub struct PodWatch {
    pods: Pods,
    maker: Maker,
    standing: watch::Sender<Arc<Standing>>,
    events: mpsc::Sender<PodEvent>,
}

/// An empty index and the watch that shall fill it. `maker` knows the pods of attempts that the operator made; of others
/// that look like them the core hears nothing.
pub fn new(client: Client, maker: Maker, events: mpsc::Sender<PodEvent>) -> (Pods, PodWatch) {
    let (standing, standing_out) = watch::channel(Arc::default());
    let pods = Pods {
        client,
        index: Arc::default(),
        standing: standing_out,
    };
    let watch = PodWatch {
        pods: pods.clone(),
        maker,
        standing,
        events,
    };
    (pods, watch)
}

impl Pods {
    /// The pod with this uid, if the watch has seen it.
    pub fn get(&self, uid: &str) -> Option<PodFacts> {
        self.index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(uid)
            .cloned()
    }

    /// The pods labelled as a pool's.
    pub fn of_pool(&self, namespace: &str, pool: &str) -> Vec<PodFacts> {
        self.index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .of_pool(namespace, pool)
    }

    /// What pools tell of their pods.
    pub fn standing(&self) -> watch::Receiver<Arc<Standing>> {
        self.standing.clone()
    }

    /// Like [`Pods::get`], but a worker may be faster than the watch: then the pod is read once by name.
    pub async fn find(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<Option<PodFacts>, kube::Error> {
        if let Some(pod) = self.get(uid) {
            return Ok(Some(pod));
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let read = tokio::time::timeout(GET_TIMEOUT, api.get_opt(name));
        let pod = read
            .await
            .map_err(|elapsed| kube::Error::Service(elapsed.into()))??;
        // Not put into the index: only the watch, which also sees the end, writes there.
        Ok(pod
            .as_ref()
            .and_then(index::facts)
            .filter(|pod| pod.uid == uid))
    }
}

/// Watches until the process ends. Every replica does: a standby's index is warm.
pub async fn run(watch: PodWatch) {
    let config = Config::default().labels(names::LABEL_POOL);
    let events = watches::watch(Api::<Pod>::all(watch.pods.client.clone()), config);
    let stream = watches::patient(events).modify(|pod| pod.metadata.managed_fields = None);
    let mut stream = std::pin::pin!(stream);
    loop {
        match stream.try_next().await {
            Ok(Some(event)) => watch.apply(event).await,
            Ok(None) => return,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "watch pods: trying again");
            }
        }
    }
}

impl PodWatch {
    pub(crate) async fn apply(&self, event: Event<Pod>) {
        let events = {
            let mut index = self
                .pods
                .index
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            let events = match event {
                Event::Init => {
                    index.begin();
                    Vec::new()
                }
                Event::InitApply(pod) | Event::Apply(pod) => {
                    let ours = index::attempt_of(&pod)
                        .is_some_and(|said| self.maker.made(&said.of, &said.proof));
                    let mut events = index.apply(&pod);
                    events.retain(|event| ours || !matches!(event, PodEvent::Attempt { .. }));
                    events
                }
                Event::InitDone => index.finish(),
                Event::Delete(pod) => pod
                    .metadata
                    .uid
                    .map(|uid| index.remove(&uid))
                    .unwrap_or_default(),
            };
            let known = self.standing.borrow().changes;
            if let Some(standing) = index.standing_since(known) {
                self.standing.send_replace(Arc::new(standing));
            }
            events
        };
        let send = futures::stream::iter(events).for_each(|event| async {
            // The core is gone only when the process ends.
            let _ = self.events.send(event).await;
        });
        send.await;
    }
}
