//! Where dead letters come from: first the VideoJobs in their end state, page by page, then the `dead/` markers in the store.

use kinora_crds::{VideoJob, state};
use kinora_storage::Store;
use kube::api::ListParams;
use kube::core::Selector;
use kube::{Api, Client};

use crate::audit::{AuditError, call};

/// VideoJobs are listed so many at a time.
pub(super) const JOBS_PAGE: u32 = 200;
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
                let page = call(|| "list dead letters".into(), self.jobs.list(&params)).await?;
                let (jobs, token) = page.map_or((Vec::new(), None), |page| {
                    (page.items, page.metadata.continue_)
                });
                let token = token.filter(|token| !token.is_empty());
                self.phase = match token {
                    Some(token) => Phase::Jobs { token: Some(token) },
                    None => Phase::Markers { after: None },
                };
                jobs.into_iter()
                    .map(|job| Found::Job(Box::new(job)))
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
