//! `control/<cell>`: what a leader saw of the control plane, noted every minute and compared at its start. A replica under
//! which the control plane goes back must start afresh; everything it knows is from a past that is gone.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kinora_crds::VideoJob;
use kinora_engine::Wall;
use kinora_engine::control::{Note, WENT_BACK, compare, is_found_now, went_on};
use kinora_engine::event::History;
use kinora_storage::documents::{Document, VERSION, decode, encode};
use kinora_storage::{CasOutcome, Cell, Condition, PutOptions, Store, keys};
use kube::api::ListParams;
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{AuditError, call};
use crate::metrics::Upkeep;
use crate::ports::Leadership;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(60);
/// While a leader waits for what it may touch.
const SOON: Duration = Duration::from_secs(1);
/// The process ends so long after a rewind was found, noted or not; it decides nothing meanwhile.
const NOTING: Duration = Duration::from_secs(15);
/// The note is smaller than this.
const MAX_NOTE: u64 = 64 * 1024;

/// The note as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    v: u32,
    cluster: String,
    resource_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rewound_at: Option<Timestamp>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl Document for Stored {
    const WHAT: &'static str = "note about the control plane";
}

/// What is said about a control plane that went back under this process.
#[derive(Clone, Debug, Default)]
pub struct WentBack {
    /// By whoever finds it out.
    pub found: CancellationToken,
    /// Once it is noted for whoever leads next, or cannot be.
    pub noted: CancellationToken,
}

impl WentBack {
    /// When this process has nothing more to do.
    pub async fn left(&self) {
        self.found.cancelled().await;
        let _ = tokio::time::timeout(NOTING, self.noted.cancelled()).await;
    }
}

/// See the module.
pub struct Past {
    /// Client of the API server.
    pub client: Client,
    /// The store.
    pub store: Store,
    /// This cell.
    pub cell: Cell,
    /// Namespace of upload jobs.
    pub jobs_namespace: String,
    /// Rewinds are counted here.
    pub upkeep: Upkeep,
}

impl Past {
    /// Looks every minute, tells a leader what it may touch, and ends once it is noted that the control plane went back.
    pub async fn watch(
        self,
        mut leadership: watch::Receiver<Leadership>,
        history: watch::Sender<History>,
        went_back: WentBack,
    ) {
        let mut seen: Option<(String, u64)> = None;
        let mut looked = Instant::now();
        while !went_back.found.is_cancelled() {
            let leads = *leadership.borrow_and_update() == Leadership::Leader;
            match self.look().await {
                Ok(now) => {
                    let back = seen.as_ref().is_some_and(|(cluster, version)| {
                        *cluster != now.0 || !went_on(*version, now.1, looked.elapsed())
                    });
                    if back {
                        tracing::error!(was = ?seen, is = ?now, "the control plane went back in time");
                        went_back.found.cancel();
                        seen = Some(now);
                        break;
                    }
                    if leads {
                        self.tell(&now, &history).await;
                    }
                    seen = Some(now);
                    looked = Instant::now();
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the control plane's version is not known");
                }
            }
            let waits = leads && *history.borrow() == History::Unknown;
            let pause = if waits { SOON } else { EVERY };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = went_back.found.cancelled() => {}
                changed = leadership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
        self.remember(seen).await;
        went_back.noted.cancel();
    }

    /// Whoever leads next must know, though by then versions may have climbed past the one that was noted: so a version below
    /// every other is noted.
    async fn remember(&self, seen: Option<(String, u64)>) {
        let note = async {
            let (cluster, _) = match seen {
                Some(seen) => seen,
                None => self.look().await?,
            };
            self.note(&cluster, WENT_BACK, Timestamp::now()).await
        };
        if let Err(error) = note.await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "that the control plane went back is not noted");
        }
    }

    async fn tell(&self, (cluster, version): &(String, u64), history: &watch::Sender<History>) {
        match self.note(cluster, *version, Timestamp::now()).await {
            Ok(found) => {
                history.send_if_modified(|known| std::mem::replace(known, found) != found);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the control plane's past is not compared yet");
            }
        }
    }

    /// Identity and version of the control plane, from etcd itself.
    ///
    /// # Errors
    /// When the API server does not answer, or not with what it promises.
    pub async fn look(&self) -> Result<(String, u64), AuditError> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let system = call(
            || "read namespace kube-system".into(),
            namespaces.get("kube-system"),
        );
        let system = system.await?;
        let cluster = system.and_then(|namespace| namespace.metadata.uid);
        let jobs: Api<VideoJob> = Api::namespaced(self.client.clone(), &self.jobs_namespace);
        // Without a resourceVersion the answer is as of now, and says so.
        let params = ListParams::default().limit(1);
        let list = call(|| "list videojobs".into(), jobs.list_metadata(&params)).await?;
        let version = list
            .and_then(|list| list.metadata.resource_version)
            .and_then(|version| version.parse().ok());
        match (cluster, version) {
            (Some(cluster), Some(version)) => Ok((cluster, version)),
            _ => Err(AuditError::Unusable(
                "the API server names no uid of kube-system, or no resourceVersion of a list"
                    .into(),
            )),
        }
    }

    /// Compares with the note and replaces it. A rewind is counted by the leader that finds it.
    ///
    /// # Errors
    /// When the store cannot be asked, or holds a note of a newer version.
    pub async fn note(
        &self,
        cluster: &str,
        version: u64,
        now: Timestamp,
    ) -> Result<History, AuditError> {
        let key = keys::control(self.cell.as_str());
        let unusable =
            |error: &dyn std::fmt::Display| AuditError::Unusable(format!("{key}: {error}"));
        let object = self.store.get_bounded(&key, MAX_NOTE).await?;
        let wall = |at: Timestamp| Wall(at.as_millisecond());
        let now = wall(now);
        let (noted, ago, condition) = match object {
            Some(object) => {
                let stored: Stored = decode(&object.bytes).map_err(|error| unusable(&error))?;
                let ago = now - wall(object.last_modified);
                (Some(stored), ago, Condition::IfMatch(object.etag))
            }
            None => (None, Duration::ZERO, Condition::IfAbsent),
        };
        let known = noted.as_ref().map(|stored| Note {
            cluster: stored.cluster.clone(),
            version: stored.resource_version,
            rewound: stored.rewound_at.map(wall),
        });
        let (note, history) = compare(known.as_ref(), ago, cluster, version, now);
        if known.as_ref() == Some(&note) {
            return Ok(history);
        }
        let is_found_now = is_found_now(known.as_ref(), &note);
        let rewound = note.rewound.map(|at| Timestamp::from_millisecond(at.0));
        let stored = Stored {
            v: VERSION,
            cluster: note.cluster,
            resource_version: note.version,
            rewound_at: rewound.transpose().map_err(|error| unusable(&error))?,
            extra: noted.map(|stored| stored.extra).unwrap_or_default(),
        };
        let body = encode(&stored).map_err(|error| unusable(&error))?;
        let put = self
            .store
            .cas(&key, body.into(), PutOptions::json(condition));
        match put.await? {
            CasOutcome::Won { .. } => {
                if is_found_now {
                    self.upkeep.rewound();
                }
                Ok(history)
            }
            CasOutcome::Lost(_) | CasOutcome::Gone => Err(AuditError::Unusable(format!(
                "{key}: another replica writes it"
            ))),
        }
    }
}
