//! Keeps control plane and store in step: notices a control plane that was lost or restored ([`past`]), makes jobs again that
//! it lost ([`sweep`]), finishes redrives that were begun (`halfway`), and tells cancels from losses ([`judge`]).
//!
//! What to do is decided in the engine; here it is asked and done. Only the leader writes.

mod halfway;
pub mod judge;
pub mod past;
pub mod sweep;

use std::sync::Arc;
use std::time::Duration;

use kinora_engine::audit::YOUNG;
use kinora_engine::event::History;
use kinora_storage::{Cell, Store, StoreError};
use kube::Client;
use tokio::sync::{Notify, mpsc, watch};

use crate::core::Admission;
use crate::metrics::{PassEnd, Upkeep};
use crate::ports::{ForeignDeletion, Leadership, RedriveRequest};

/// Between two audits, unless something was lost.
const EVERY: Duration = Duration::from_secs(3600);
/// Longest wait for one answer of the API server.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What the audit needs.
pub struct AuditConfig {
    /// Client of the API server.
    pub client: Client,
    /// The store.
    pub store: Store,
    /// This cell.
    pub cell: Cell,
    /// Namespace of upload jobs.
    pub jobs_namespace: String,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
    /// Live jobs; `None` until they are counted.
    pub admission: watch::Receiver<Option<Admission>>,
    /// Above so many the audit creates nothing.
    pub max_live_jobs: u64,
    /// Younger entries are left alone. After half of it comes the first audit of a leader whose control plane has only moved
    /// forward, and one after a deletion that was no cancel.
    pub grace: Duration,
    /// The core, for redrives that somebody began.
    pub redrives: mpsc::Sender<RedriveRequest>,
    /// Deletions to judge.
    pub deletions: mpsc::Receiver<ForeignDeletion>,
    /// Notified when jobs were lost.
    pub losses: Arc<Notify>,
    /// Told what was found out about the past.
    pub history: watch::Sender<History>,
    /// The control plane went back under this process.
    pub went_back: past::WentBack,
    /// What was found is counted here.
    pub upkeep: Upkeep,
}

/// Why a step could not be done; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The API server.
    #[error("{action}")]
    Api {
        /// What was tried.
        action: String,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("{action}: no answer in time")]
    Timeout {
        /// What was tried.
        action: String,
    },
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A document in the store, or an answer, is not what it should be.
    #[error("{0}")]
    Unusable(String),
}

/// One call to the API server, with a time limit; `None`: 404.
pub(crate) async fn call<T>(
    action: impl Fn() -> String,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<Option<T>, AuditError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, call).await {
        Err(_) => Err(AuditError::Timeout { action: action() }),
        Ok(Ok(answer)) => Ok(Some(answer)),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(None),
        Ok(Err(source)) => Err(AuditError::Api {
            action: action(),
            source: Box::new(source),
        }),
    }
}

/// Runs until the process ends.
pub async fn run(config: AuditConfig) {
    let AuditConfig {
        client,
        store,
        cell,
        jobs_namespace,
        leadership,
        admission,
        max_live_jobs,
        grace,
        redrives,
        deletions,
        losses,
        history,
        went_back,
        upkeep,
    } = config;
    let known = history.subscribe();
    let past = past::Past {
        client: client.clone(),
        store: store.clone(),
        cell,
        jobs_namespace: jobs_namespace.clone(),
        upkeep: upkeep.clone(),
    };
    let waiting = judge::Waiting::default();
    let judge = judge::Judge {
        client: client.clone(),
        store: store.clone(),
        waiting: waiting.clone(),
        clock: judge::clock(),
        upkeep: upkeep.clone(),
        losses: losses.clone(),
    };
    let sweep = sweep::Sweep {
        client,
        store,
        jobs_namespace,
        leadership: leadership.clone(),
        admits: sweep::Admits::new(admission, max_live_jobs),
        waiting,
        redrives,
        upkeep,
        ahead: YOUNG.saturating_sub(grace),
    };
    tokio::join!(
        past.watch(leadership.clone(), history, went_back),
        judge.run(deletions, leadership.clone()),
        audits(sweep, leadership, known, (grace, losses)),
    );
}

/// When the next audit is due.
#[derive(Debug)]
struct Pauses {
    grace: Duration,
    /// What was lost may have been too young for the pass before.
    once_more: bool,
}

impl Pauses {
    /// After this replica began to lead: at once if the control plane went back.
    fn first(grace: Duration, is_rewound: bool) -> (Self, Duration) {
        let pauses = Self {
            grace,
            once_more: true,
        };
        let soon = pauses.soon();
        (pauses, if is_rewound { Duration::ZERO } else { soon })
    }

    fn soon(&self) -> Duration {
        self.grace / 2
    }

    fn after_loss(&mut self) -> Duration {
        self.once_more = true;
        self.soon()
    }

    fn after_pass(&mut self, is_done: bool) -> Duration {
        match is_done {
            false => self.soon(),
            true if std::mem::take(&mut self.once_more) => self.grace,
            true => EVERY,
        }
    }
}

/// An audit soon after this replica began to lead, at once if the control plane went back, soon after a loss, and else every
/// hour; after the first three a second one, for what was too young.
async fn audits(
    sweep: sweep::Sweep,
    mut leadership: watch::Receiver<Leadership>,
    mut history: watch::Receiver<History>,
    (grace, losses): (Duration, Arc<Notify>),
) {
    loop {
        let leads = leadership.wait_for(|l| *l == Leadership::Leader);
        if leads.await.is_err() {
            return;
        }
        let known = history.wait_for(|h| *h != History::Unknown);
        let Ok(rewound) = known
            .await
            .map(|history| matches!(*history, History::Rewound(_)))
        else {
            return;
        };
        let (mut pauses, mut pause) = Pauses::first(grace, rewound);
        while *leadership.borrow() == Leadership::Leader {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = losses.notified(), if pause > pauses.soon() => {
                    pause = pauses.after_loss();
                    continue;
                }
                changed = leadership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    continue;
                }
            }
            let pass = sweep.pass().await;
            pause = pauses.after_pass(pass.is_ok());
            match pass {
                Ok(report) => {
                    sweep.upkeep.audited(PassEnd::Done);
                    tracing::info!(?report, "audit of active/ is done");
                }
                Err(error) => {
                    sweep.upkeep.audited(PassEnd::Failed);
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "audit of active/ broke off, it begins again");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry is judged when it is older than the grace; a deletion is known for a loss after a minute.
    #[test]
    fn what_was_too_young_for_one_audit_is_judged_by_the_next() {
        let minutes = Duration::from_mins;
        for (is_rewound, first) in [(true, 0), (false, 5)] {
            let (mut pauses, pause) = Pauses::first(minutes(10), is_rewound);
            assert_eq!(pause, minutes(first), "the first");
            assert_eq!(pauses.after_pass(false), minutes(5), "it broke off");
            assert_eq!(
                pauses.after_pass(true),
                minutes(10),
                "for what was too young"
            );
            assert_eq!(pauses.after_pass(true), EVERY);
            assert_eq!(pauses.after_loss(), minutes(5), "a loss");
            assert_eq!(pauses.after_pass(true), minutes(10), "was it too young?");
            assert_eq!(pauses.after_pass(true), EVERY);
        }
    }
}
