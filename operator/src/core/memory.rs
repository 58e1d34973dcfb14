//! What the shell remembers for the engine: names behind numbers, texts of reports, URLs of leases, objects at hand.
//!
//! Nothing here decides anything, and nothing is needed after a restart: it is read again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kinora_crds::{Output, VideoJob, WorkerRef, conditions};
use kinora_engine::ids::SessionId;
use kinora_engine::{AttemptId, Job, PoolName, Uid};
use kinora_protocol::dispatch as wire;

use tokio::sync::oneshot;

use super::act::Address;
use super::attempt_pods::PodBook;
use super::dispatch::Line;
use super::outputs::torn;
use super::seams::{FoundOutput, LeaseUrls};
use super::translate::{FailureText, Names, Terms, facts, uid_of, uid_text};
use crate::ports::{ForeignDeletion, PoolFacts, Redrive, WorkerIdentity};

/// Reports whose texts are kept at once; beyond, a report counts without its texts.
const MAX_REPORTS: usize = 20_000;

/// Longest step of a job's progress, in bytes.
const MAX_STEP_BYTES: usize = 64;

/// The texts of an outcome.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// The code's name, or what was wrong with the answer.
    pub(crate) failure: FailureText,
    /// As the service named them.
    pub(crate) outputs: Vec<wire::OutputResult>,
    /// As the store has them.
    pub(crate) found: Vec<FoundOutput>,
    /// JSON for the record.
    pub(crate) result_json: Option<String>,
}

/// Everything the shell remembers.
pub(crate) struct Memory {
    /// Interned names.
    pub(crate) names: Names,
    /// Settings of pools that the engine does not need.
    pub(crate) pools: HashMap<PoolName, PoolFacts>,
    /// Pods that were made for one attempt.
    pub(crate) pods: PodBook,
    /// Uids of objects that could not be read when they were seen last.
    pub(crate) unreadable: HashSet<String>,
    /// Open streams.
    pub(crate) lines: HashMap<SessionId, Line>,
    terms: Terms,
    addresses: HashMap<Uid, Address>,
    workers: HashMap<Uid, Arc<WorkerIdentity>>,
    objects: HashMap<Uid, Arc<VideoJob>>,
    reports: HashMap<AttemptId, Report>,
    results: HashMap<Uid, String>,
    urls: HashMap<AttemptId, LeaseUrls>,
    steps: HashMap<Uid, (u32, String)>,
    /// Open jobs that a call found gone and whose deletion the watch is still to show.
    pub(crate) found_gone: HashMap<Uid, ForeignDeletion>,
    /// Who waits for a redrive, by job and request.
    pub(crate) redrives: HashMap<(Uid, Uid), oneshot::Sender<Redrive>>,
}

impl Memory {
    /// An empty one.
    pub(crate) fn new(terms: Terms) -> Memory {
        Memory {
            names: Names::default(),
            pools: HashMap::new(),
            pods: PodBook::new(),
            unreadable: HashSet::new(),
            lines: HashMap::new(),
            terms,
            addresses: HashMap::new(),
            workers: HashMap::new(),
            objects: HashMap::new(),
            reports: HashMap::new(),
            results: HashMap::new(),
            urls: HashMap::new(),
            steps: HashMap::new(),
            found_gone: HashMap::new(),
            redrives: HashMap::new(),
        }
    }

    /// The facts of an object, and where it is found from now on.
    pub(crate) fn learn(&mut self, job: &VideoJob) -> Option<Job> {
        let found = facts(job, &mut self.names, self.terms)?;
        if !self.addresses.contains_key(&found.uid) {
            let namespace = self.names.text(found.spec.namespace);
            let address = Address {
                namespace,
                name: job.metadata.name.clone().unwrap_or_default().into(),
                uid: job.metadata.uid.clone().unwrap_or_default().into(),
            };
            self.addresses.insert(found.uid, address);
        }
        Some(found)
    }

    /// Where a job is found.
    pub(crate) fn address(&self, job: Uid) -> Option<Address> {
        self.addresses.get(&job).cloned()
    }

    /// All known jobs.
    pub(crate) fn known(&self) -> impl Iterator<Item = (&Uid, &Address)> {
        self.addresses.iter()
    }

    /// The job is gone.
    pub(crate) fn forget(&mut self, job: Uid) {
        self.addresses.remove(&job);
        self.drop_object(job);
        self.results.remove(&job);
        self.steps.remove(&job);
        self.reports.retain(|attempt, _| attempt.job != job);
    }

    /// Keeps an object that came back from a write while it is needed: while it runs, and until it is archived.
    pub(crate) fn keep_object(&mut self, uid: Uid, job: VideoJob) {
        self.objects.insert(uid, Arc::new(job));
    }

    /// What the service does in an attempt, for the next write of its progress.
    pub(crate) fn note_step(&mut self, attempt: AttemptId, step: &str) {
        let step = conditions::cut(step, MAX_STEP_BYTES).to_owned();
        self.steps.insert(attempt.job, (attempt.attempt, step));
    }

    /// As it was said last.
    pub(crate) fn step(&self, attempt: AttemptId) -> String {
        let said = self.steps.get(&attempt.job);
        said.filter(|(of, _)| *of == attempt.attempt)
            .map(|(_, step)| step.clone())
            .unwrap_or_default()
    }

    /// The object is not needed any more.
    pub(crate) fn drop_object(&mut self, uid: Uid) {
        self.objects.remove(&uid);
        self.steps.remove(&uid);
    }

    /// The object, if it is at hand in just this version.
    pub(crate) fn object(&self, facts: &Job) -> Option<Arc<VideoJob>> {
        let object = self.objects.get(&facts.uid)?;
        let version = object.metadata.resource_version.as_deref();
        (version == Some(facts.rv.0.to_string().as_str())).then(|| object.clone())
    }

    /// The object in whatever version it is at hand: metadata and most of the spec never change.
    pub(crate) fn any_object(&self, uid: Uid) -> Option<Arc<VideoJob>> {
        self.objects.get(&uid).cloned()
    }

    /// A worker has come.
    pub(crate) fn meet(&mut self, who: &Arc<WorkerIdentity>) -> Uid {
        let uid = uid_of(&who.pod_uid);
        self.workers.insert(uid, who.clone());
        uid
    }

    /// No process of its pod is left.
    pub(crate) fn forget_worker(&mut self, worker: Uid) {
        self.workers.remove(&worker);
    }

    /// Who a worker is.
    pub(crate) fn worker(&self, worker: Uid) -> Option<&Arc<WorkerIdentity>> {
        self.workers.get(&worker)
    }

    /// A worker as a status names it.
    pub(crate) fn worker_ref(&self, worker: Uid) -> WorkerRef {
        match self.workers.get(&worker) {
            Some(who) => WorkerRef {
                pod_name: who.pod_name.clone(),
                pod_uid: who.pod_uid.clone(),
                node_name: who.node_name.clone(),
            },
            None => WorkerRef {
                pod_uid: uid_text(worker),
                ..WorkerRef::default()
            },
        }
    }

    /// A worker's uid as the API server writes it.
    pub(crate) fn pod_uid(&self, worker: Uid) -> String {
        self.worker_ref(worker).pod_uid
    }

    /// Keeps the texts of an outcome until it is acknowledged.
    pub(crate) fn note_report(&mut self, attempt: AttemptId, outcome: wire::Outcome) {
        if self.reports.len() >= MAX_REPORTS || self.reports.contains_key(&attempt) {
            return;
        }
        let mut report = Report {
            failure: FailureText {
                reason: code_name(outcome.fact.as_ref()),
                message: outcome.message,
            },
            ..Report::default()
        };
        if let Some(wire::outcome::Fact::Succeeded(done)) = outcome.fact {
            report.outputs = done.outputs;
            report.result_json = Some(done.result_json).filter(|json| !json.is_empty());
        }
        self.reports.insert(attempt, report);
    }

    /// The texts of an outcome.
    pub(crate) fn report(&self, attempt: AttemptId) -> Option<&Report> {
        self.reports.get(&attempt)
    }

    /// What the store has of an attempt's outputs. True: they are all there, and what the service says it made.
    pub(crate) fn note_found(
        &mut self,
        attempt: AttemptId,
        found: Vec<FoundOutput>,
        complete: bool,
    ) -> bool {
        let report = self.reports.entry(attempt).or_default();
        let torn = torn(&report.outputs, &found);
        let failure = match torn {
            _ if !complete => Some((
                "OutputsMissing",
                "the service said done, but not all outputs are in the store".to_owned(),
            )),
            Some(torn) => Some((
                "OutputsDiffer",
                format!(
                    "output {} in the store, {} bytes, is not what the service said it made",
                    torn.name, torn.size_bytes
                ),
            )),
            None => None,
        };
        let is_whole = failure.is_none();
        if let Some((reason, message)) = failure {
            let reason = reason.to_owned();
            report.failure = FailureText { reason, message };
        }
        report.found = found;
        is_whole
    }

    /// The outcome is settled. What goes into the record is kept until the record is written.
    pub(crate) fn settle_report(&mut self, attempt: AttemptId, accepted: bool) {
        let report = self.reports.remove(&attempt);
        if let (true, Some(result)) = (accepted, report.and_then(|r| r.result_json)) {
            self.results.insert(attempt.job, result);
        }
    }

    /// What the service returned beside the outputs.
    pub(crate) fn result(&self, job: Uid) -> Option<String> {
        self.results.get(&job).cloned()
    }

    /// Its record is written.
    pub(crate) fn drop_result(&mut self, job: Uid) {
        self.results.remove(&job);
    }

    /// Keeps the URLs of a lease until it is pushed.
    pub(crate) fn keep_urls(&mut self, attempt: AttemptId, urls: LeaseUrls) {
        self.urls.insert(attempt, urls);
    }

    /// The URLs, once.
    pub(crate) fn take_urls(&mut self, attempt: AttemptId) -> Option<LeaseUrls> {
        self.urls.remove(&attempt)
    }

    /// The outputs of the accepted attempt: those the store has, and those the service keeps itself.
    pub(crate) fn outputs(&self, attempt: AttemptId) -> Vec<Output> {
        let Some(report) = self.reports.get(&attempt) else {
            return Vec::new();
        };
        let said = |name: &str| report.outputs.iter().find(|o| o.name == name);
        let stored = report.found.iter().map(|found| Output {
            name: found.name.clone(),
            uri: found.uri.clone(),
            size_bytes: Some(found.size_bytes),
            checksum: said(&found.name)
                .map(|o| o.checksum.clone())
                .filter(|c| !c.is_empty())
                .or_else(|| found.checksum.clone())
                .map(|c| conditions::cut(&c, 128).to_owned()),
        });
        let own = report.outputs.iter().filter(|o| !o.uri.is_empty());
        let own = own.map(|output| Output {
            name: conditions::cut(&output.name, 63).to_owned(),
            uri: conditions::cut(&output.uri, 2048).to_owned(),
            size_bytes: i64::try_from(output.size_bytes).ok(),
            checksum: Some(conditions::cut(&output.checksum, 128).to_owned())
                .filter(|c| !c.is_empty()),
        });
        let own = own.filter(|output| !output.name.is_empty());
        // What the schema allows.
        stored.chain(own).take(16).collect()
    }

    /// Names of the outputs that must be in the store: those of the pool that the service does not keep itself.
    pub(crate) fn wanted_outputs(&self, attempt: AttemptId, pool: PoolName) -> Vec<String> {
        let named = self.pools.get(&pool).map(|p| p.outputs.clone());
        let report = self.reports.get(&attempt);
        let is_own = |name: &str| {
            report.is_some_and(|r| {
                r.outputs
                    .iter()
                    .any(|o| o.name == name && !o.uri.is_empty())
            })
        };
        let mut names = named.unwrap_or_default();
        names.retain(|name| !is_own(name));
        names
    }
}

/// The code of an outcome, for people.
fn code_name(fact: Option<&wire::outcome::Fact>) -> String {
    match fact {
        Some(wire::outcome::Fact::Succeeded(_)) => "OutputsMissing".to_owned(),
        Some(wire::outcome::Fact::Grpc(status)) => grpc_name(status.code).to_owned(),
        Some(wire::outcome::Fact::Http(status)) => format!("HTTP {}", status.status),
        Some(wire::outcome::Fact::Released(released)) => {
            conditions::cut(&released.reason, 128).to_owned()
        }
        None => "NoFact".to_owned(),
    }
}

fn grpc_name(code: i32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    usize::try_from(code)
        .ok()
        .and_then(|index| NAMES.get(index))
        .unwrap_or(&"UNKNOWN")
}
