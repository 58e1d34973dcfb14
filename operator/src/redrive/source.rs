//! Where dead letters come from: first the VideoJobs in their end state, page by page, then the `dead/` markers in the store.

use kinora_crds::{VideoJob, names, state};
use kinora_storage::Store;
use kube::api::ListParams;
use kube::core::{ObjectList, Selector};
use kube::{Api, Client};
use tokio::sync::Semaphore;

use crate::audit::{AuditError, call};

/// VideoJobs are listed so many at a time: each may be as large as its author likes.
pub(super) const JOBS_PAGE: u32 = 50;
/// So many pages are read at a time, of all requests.
static LISTS: Semaphore = Semaphore::const_new(2);
const MARKERS_PAGE: usize = 500;
/// Prefix of the markers.
pub(super) const DEAD: &str = "dead/";

/// One dead letter.
#[derive(Debug)]
pub(super) enum Found {
    /// There is a VideoJob.
    Job(Box<VideoJob>),
    /// There is a marker; its key.
    Marker(String),
}

/// One page.
pub(super) async fn list(
    jobs: &Api<VideoJob>,
    params: &ListParams,
) -> Result<Option<ObjectList<VideoJob>>, AuditError> {
    let _turn = LISTS.acquire().await;
    call(|| "list videojobs".into(), jobs.list(params)).await
}

/// What a request looks at; the rest would be kept for as long as its page lasts.
fn slim(mut job: VideoJob) -> VideoJob {
    job.metadata.managed_fields = None;
    job.metadata.labels = None;
    if let Some(annotations) = &mut job.metadata.annotations {
        annotations.retain(|name, _| name == names::ANNOTATION_REDRIVEN_BY);
    }
    job
}

enum Phase {
    Jobs { token: Option<String> },
    Markers { after: Option<String> },
    Exhausted,
}

/// See the module.
pub(super) struct Source {
    jobs: Api<VideoJob>,
    params: ListParams,
    store: Store,
    phase: Phase,
    waiting: std::vec::IntoIter<Found>,
}

impl Source {
    /// From the beginning, or from a cursor that was stored.
    pub(super) fn new(
        client: Client,
        store: Store,
        namespace: &str,
        selector: &Selector,
        cursor: Option<&str>,
    ) -> Source {
        let params = ListParams::default()
            .limit(JOBS_PAGE)
            .labels_from(selector)
            .fields(&format!("status.state={}", state::DEAD_LETTERED));
        let phase = match cursor.filter(|cursor| cursor.starts_with(DEAD)) {
            Some(cursor) => Phase::Markers {
                after: Some(cursor.to_owned()),
            },
            None => Phase::Jobs { token: None },
        };
        Source {
            jobs: Api::namespaced(client, namespace),
            params,
            store,
            phase,
            waiting: Vec::new().into_iter(),
        }
    }

    /// Whether there is none left.
    pub(super) fn is_exhausted(&self) -> bool {
        matches!(self.phase, Phase::Exhausted) && self.waiting.len() == 0
    }

    /// The next one; `None`: this page is over, or there is none left.
    pub(super) async fn next(&mut self) -> Result<Option<Found>, AuditError> {
        if let Some(found) = self.waiting.next() {
            return Ok(Some(found));
        }
        let found = match &self.phase {
            Phase::Jobs { token } => {
                let params = match token {
                    Some(token) => self.params.clone().continue_token(token),
                    None => self.params.clone(),
                };
                let page = list(&self.jobs, &params).await?;
                let (jobs, token) = page.map_or((Vec::new(), None), |page| {
                    (page.items, page.metadata.continue_)
                });
                let token = token.filter(|token| !token.is_empty());
                self.phase = match token {
                    Some(token) => Phase::Jobs { token: Some(token) },
                    None => Phase::Markers { after: None },
                };
                jobs.into_iter()
                    .map(|job| Found::Job(Box::new(slim(job))))
                    .collect()
            }
            Phase::Markers { after } => {
                let page = self
                    .store
                    .list(DEAD, after.as_deref(), MARKERS_PAGE)
                    .await?;
                self.phase = match page.next {
                    Some(next) => Phase::Markers { after: Some(next) },
                    None => Phase::Exhausted,
                };
                let keys = page.entries.into_iter().map(|entry| entry.key);
                keys.map(Found::Marker).collect::<Vec<_>>()
            }
            Phase::Exhausted => Vec::new(),
        };
        self.waiting = found.into_iter();
        Ok(self.waiting.next())
    }
}
