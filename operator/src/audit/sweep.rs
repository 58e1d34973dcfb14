//! One pass over `active/`: what has no VideoJob is made again, or its entry goes when it has ended.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kinora_crds::{VideoJob, names};
use kinora_engine::Mono;
use kinora_engine::audit::{CREATES_PER_SECOND, Entry, Facts, Step, next};
use kinora_engine::pace::Pace;
use kinora_engine::watermark::Gate;
use kinora_storage::documents::{Active, Decision, Document, Record, decode};
use kinora_storage::{Store, StoreErrorKind, UploadId, keys};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};

use super::judge::Waiting;
use super::{AuditError, call};
use crate::archive::revive;
use crate::core::Admission;
use crate::metrics::{self, Upkeep};
use crate::ports::{Leadership, RedriveRequest};

const PAGE: usize = 1000;
const JOBS_PAGE: u32 = 500;
/// While no job is admitted, so long between two looks.
const CLOSED: Duration = Duration::from_secs(5);
/// Dead letters, by the field that the definition makes selectable.
const DEAD: &str = "status.state=DeadLettered";

/// Whether jobs are admitted, by the watermark.
pub struct Admits {
    live: watch::Receiver<Option<Admission>>,
    gate: Mutex<Gate>,
}

impl Admits {
    /// By this count, under this watermark.
    pub fn new(live: watch::Receiver<Option<Admission>>, watermark: u64) -> Admits {
        Admits {
            live,
            gate: Mutex::new(Gate::new(watermark)),
        }
    }

    /// Before the jobs are counted, none is.
    pub fn now(&self) -> bool {
        let live = *self.live.borrow();
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        live.is_some_and(|admission| gate.admit(admission.live))
    }
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries.
    pub entries: u64,
    /// Jobs made again.
    pub created: u64,
    /// Entries of videos that have ended.
    pub removed: u64,
    /// Redrives finished that somebody had begun.
    pub redriven: u64,
    /// Entries that cannot be dealt with.
    pub unusable: u64,
}

/// See the module.
pub struct Sweep {
    /// Client of the API server.
    pub client: Client,
    /// The store.
    pub store: Store,
    /// Namespace of upload jobs.
    pub jobs_namespace: String,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
    /// Whether jobs are admitted.
    pub admits: Admits,
    /// Deleted jobs that are still judged.
    pub waiting: Waiting,
    /// The core.
    pub redrives: mpsc::Sender<RedriveRequest>,
    /// Added to every age; zero but in tests.
    pub ahead: Duration,
    /// What was done is counted here.
    pub upkeep: Upkeep,
}

/// One entry on its way to a verdict.
pub(super) struct Case {
    pub(super) id: UploadId,
    modified: Timestamp,
    pub(super) facts: Facts,
    active: Option<Active>,
}

/// What became of a job that was lost.
enum Made {
    /// It is there again.
    Again,
    /// Somebody else has made it meanwhile.
    Already,
    /// It cannot be made; it was said in the log.
    Refused,
}

impl Sweep {
    /// The whole of `active/`, once.
    ///
    /// # Errors
    /// At the first answer that does not come; what was done stays done.
    pub async fn pass(&self) -> Result<Report, AuditError> {
        let mut report = Report::default();
        let ended = self.all(&mut report).await;
        for (what, entries) in [
            (metrics::Entry::Created, report.created),
            (metrics::Entry::Removed, report.removed),
            (metrics::Entry::Unusable, report.unusable),
        ] {
            self.upkeep.settled(what, entries);
        }
        ended.map(|()| report)
    }

    async fn all(&self, report: &mut Report) -> Result<(), AuditError> {
        let names = self.names(None).await?;
        let dead = self.names(Some(DEAD)).await?;
        let mut pace = Pace::new(CREATES_PER_SECOND);
        let began = Instant::now();
        for shard in keys::shards() {
            let prefix = format!("{}{shard}/", keys::ACTIVE);
            let mut after: Option<String> = None;
            loop {
                let page = self.store.list(&prefix, after.as_deref(), PAGE).await?;
                for entry in page.entries {
                    report.entries += 1;
                    let Some(id) = keys::upload_of(&entry.key) else {
                        tracing::warn!(key = entry.key, "no entry of an upload");
                        report.unusable += 1;
                        continue;
                    };
                    let name = names::job_name(id.as_str());
                    if names.contains(&name) && !dead.contains(&name) {
                        continue;
                    }
                    let age = self.store.now().duration_since(entry.last_modified);
                    let facts = Facts {
                        age: Duration::try_from(age).unwrap_or_default() + self.ahead,
                        ..Facts::default()
                    };
                    let case = Case {
                        id,
                        modified: entry.last_modified,
                        facts,
                        active: None,
                    };
                    if dead.contains(&name) {
                        report.redriven += u64::from(self.finish_redrive(case).await?);
                        continue;
                    }
                    self.settle(case, report, (&mut pace, began)).await?;
                }
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Names of all upload jobs there are, or of those with such fields; only names, page by page.
    async fn names(&self, fields: Option<&str>) -> Result<HashSet<String>, AuditError> {
        let jobs: Api<VideoJob> = Api::namespaced(self.client.clone(), &self.jobs_namespace);
        let mut names = HashSet::new();
        let mut params = ListParams::default().limit(JOBS_PAGE);
        params.field_selector = fields.map(str::to_owned);
        loop {
            let page = call(|| "list videojobs".into(), jobs.list_metadata(&params)).await?;
            let Some(page) = page else {
                return Err(AuditError::Unusable(
                    "videojobs are not known to the API server".into(),
                ));
            };
            names.extend(page.items.into_iter().filter_map(|job| job.metadata.name));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(names),
            }
        }
    }

    async fn settle(
        &self,
        mut case: Case,
        report: &mut Report,
        (pace, began): (&mut Pace, Instant),
    ) -> Result<(), AuditError> {
        loop {
            if *self.leadership.borrow() != Leadership::Leader {
                return Err(AuditError::Unusable("this replica leads no more".into()));
            }
            case.facts.admits = self.admits.now();
            match next(&case.facts) {
                Step::Leave => return Ok(()),
                Step::AskJob => case.facts.job = Some(self.has_job(&case.id).await?),
                Step::AskPending => {
                    let head = self.store.head(&keys::pending(&case.id)).await?;
                    case.facts.pending = Some(head.is_some());
                }
                Step::AskEntry => {
                    if !self.read_entry(&mut case).await? {
                        report.unusable += u64::from(case.facts.entry.is_none());
                        return Ok(());
                    }
                }
                Step::AskRecord => {
                    let key = keys::record_for_upload(&case.id);
                    let Some(found) = self.document::<Record>(&key).await? else {
                        report.unusable += 1;
                        return Ok(());
                    };
                    let redrives = |record: Record| u32::try_from(record.redrives).unwrap_or(0);
                    case.facts.record = Some(found.map(redrives));
                }
                Step::Remove => {
                    self.store.delete(&keys::active(&case.id)).await?;
                    report.removed += 1;
                    return Ok(());
                }
                // Perhaps a cancel; the next pass knows.
                Step::Create(_) if self.waiting.has(&names::job_name(case.id.as_str())) => {
                    return Ok(());
                }
                Step::Wait => tokio::time::sleep(CLOSED).await,
                Step::Create(redrives) => {
                    let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    tokio::time::sleep(pace.turn(Mono(now))).await;
                    match self.create(&case, redrives).await? {
                        Made::Again => report.created += 1,
                        Made::Already => {}
                        Made::Refused => report.unusable += 1,
                    }
                    return Ok(());
                }
            }
        }
    }

    async fn has_job(&self, id: &UploadId) -> Result<bool, AuditError> {
        let jobs: Api<VideoJob> = Api::namespaced(self.client.clone(), &self.jobs_namespace);
        let name = names::job_name(id.as_str());
        let found = call(|| format!("read videojob {name}"), jobs.get_metadata(&name));
        Ok(found.await?.is_some())
    }

    /// `Ok(None)`: not to be used; it was said in the log. `Ok(Some(None))`: not there.
    async fn document<T: Document>(&self, key: &str) -> Result<Option<Option<T>>, AuditError> {
        let problem = match self.store.get_document(key).await {
            Ok(None) => return Ok(Some(None)),
            Ok(Some(object)) => match decode(&object.bytes) {
                Ok(document) => return Ok(Some(Some(document))),
                Err(error) => error.to_string(),
            },
            Err(error) if error.kind == StoreErrorKind::TooLarge => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        tracing::error!(key, problem, "the audit leaves a document alone");
        Ok(None)
    }

    /// False: it is gone, or not to be used.
    pub(super) async fn read_entry(&self, case: &mut Case) -> Result<bool, AuditError> {
        let found = self.document::<Active>(&keys::active(&case.id)).await?;
        let Some(Some(active)) = found else {
            return Ok(false);
        };
        case.facts.entry = Some(Entry {
            accepted: active.decision == Decision::Accepted,
            redrives: u32::try_from(active.redrives).unwrap_or(0),
        });
        case.active = Some(active);
        Ok(true)
    }

    async fn create(&self, case: &Case, redrives: u32) -> Result<Made, AuditError> {
        let name = names::job_name(case.id.as_str());
        let manifest = case.active.as_ref().map(|active| active.job.clone());
        let job = manifest.and_then(|job| revive::with_redrives(job, redrives, ""));
        let Some(mut job) = job else {
            tracing::error!(job = name, "its active entry holds no VideoJob: left alone");
            return Ok(Made::Refused);
        };
        // Made long after its outbox entry, it is looked for in the records before its first claim.
        let annotations = job.metadata.annotations.get_or_insert_default();
        annotations
            .entry(names::ANNOTATION_OUTBOX_TIME.to_owned())
            .or_insert_with(|| case.modified.to_string());
        let namespace = job.metadata.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| self.jobs_namespace.clone());
        // Not where jobs are made today: what is wrong there, other entries do not meet.
        let is_elsewhere = namespace != self.jobs_namespace;
        let jobs: Api<VideoJob> = Api::namespaced(self.client.clone(), &namespace);
        let params = PostParams {
            field_manager: Some(names::MANAGER_OPERATOR.to_owned()),
            ..PostParams::default()
        };
        let created = call(
            || format!("create videojob {name}"),
            jobs.create(&params, &job),
        )
        .await;
        match created {
            Ok(Some(_)) => {
                tracing::warn!(
                    job = name,
                    redrives,
                    "the control plane had lost it: made again"
                );
                Ok(Made::Again)
            }
            Ok(None) if is_elsewhere => {
                tracing::error!(
                    job = name,
                    namespace,
                    "its namespace is not there: left alone"
                );
                Ok(Made::Refused)
            }
            Ok(None) => Err(AuditError::Unusable(format!(
                "namespace {namespace} is not there"
            ))),
            Err(AuditError::Api { source, .. }) if is_conflict(&source) => Ok(Made::Already),
            Err(AuditError::Api { source, .. }) if is_refusal(&source, is_elsewhere) => {
                tracing::error!(job = name, namespace, error = %source, "it is refused: left alone");
                Ok(Made::Refused)
            }
            Err(error) => Err(error),
        }
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Of this one job. Missing rights, a quota or a namespace that ends are 403, too, and would meet every other.
fn is_refusal(error: &kube::Error, is_elsewhere: bool) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    matches!(status.code, 400 | 413 | 422) || (is_elsewhere && status.code == 403)
}
