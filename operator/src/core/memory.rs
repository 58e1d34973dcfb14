//! What the shell remembers for the engine: names behind numbers, URLs of leases, objects at hand.
//!
//! Nothing here decides anything, and nothing is needed after a restart: it is read again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kinora_crds::{VideoJob, WorkerRef, conditions, state};
use kinora_engine::ids::SessionId;
use kinora_engine::{AttemptId, Job, PoolName, Uid};
use kinora_protocol::dispatch as wire;

use tokio::sync::oneshot;

use super::act::Address;
use super::attempt_pods::PodBook;
use super::dispatch::Line;
use super::reports::Reports;
use super::results::{MOST_BYTES, Results};
use super::seams::LeaseUrls;
use super::translate::{Names, Terms, facts, uid_of, uid_text};
use crate::ports::{ForeignDeletion, PoolFacts, Redrive, WorkerIdentity};

/// Longest step of a job's progress, in bytes.
const MAX_STEP_BYTES: usize = 64;
/// So many objects of ended jobs are at hand; whoever needs another one reads it again.
const MOST_ENDED: usize = 2000;

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
    /// What workers reported; noted with [`Memory::note_report`].
    pub(crate) reports: Reports,
    terms: Terms,
    addresses: HashMap<Uid, Address>,
    workers: HashMap<Uid, Arc<WorkerIdentity>>,
    objects: HashMap<Uid, Arc<VideoJob>>,
    /// Those of them whose jobs have ended.
    ended: HashSet<Uid>,
    results: Results,
    urls: HashMap<AttemptId, LeaseUrls>,
    steps: HashMap<Uid, (u32, String)>,
    leased: HashMap<Uid, (u32, Vec<String>)>,
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
            reports: Reports::default(),
            terms,
            addresses: HashMap::new(),
            workers: HashMap::new(),
            objects: HashMap::new(),
            ended: HashSet::new(),
            results: Results::default(),
            urls: HashMap::new(),
            steps: HashMap::new(),
            leased: HashMap::new(),
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
        self.results.drop(job);
        self.steps.remove(&job);
        self.leased.remove(&job);
        self.reports.retain(job, |_, _| false);
    }

    /// Keeps an object that came back from a write while it is needed: while it runs, and until it is archived, which may take
    /// as long as the store is away.
    pub(crate) fn keep_object(&mut self, uid: Uid, mut job: VideoJob) {
        self.objects.remove(&uid);
        self.ended.remove(&uid);
        if state::is_final(job.state()) {
            if self.ended.len() >= MOST_ENDED {
                return;
            }
            self.ended.insert(uid);
        }
        job.metadata.managed_fields = None;
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
        self.ended.remove(&uid);
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
            // Its process ended while a write that names it waited.
            None => WorkerRef {
                pod_name: self
                    .pods
                    .get(&worker)
                    .map(|pod| pod.name.clone())
                    .unwrap_or_default(),
                pod_uid: uid_text(worker),
                ..WorkerRef::default()
            },
        }
    }

    /// A worker's uid as the API server writes it.
    pub(crate) fn pod_uid(&self, worker: Uid) -> String {
        self.worker_ref(worker).pod_uid
    }

    /// Keeps the texts of an outcome until it is settled. `most`: of this worker. `known`: by the facts at hand the attempt is
    /// its; if it is not, it may be of a liar, and leaves half of the room to others.
    pub(crate) fn note_report(
        &mut self,
        (worker, attempt): (Uid, AttemptId),
        outcome: wire::Outcome,
        most: usize,
        known: bool,
    ) {
        let taken = self.results.bytes() + self.reports.result_bytes();
        let all = if known { MOST_BYTES } else { MOST_BYTES / 2 };
        let room = all.saturating_sub(taken);
        self.reports.note(worker, attempt, outcome, most, room);
    }

    /// The outcome is settled. Of a success, what goes into the record is kept until the record is written; false if there was
    /// no room for it.
    #[must_use]
    pub(crate) fn settle_report(
        &mut self,
        worker: Uid,
        attempt: AttemptId,
        succeeded: bool,
    ) -> bool {
        let report = self.reports.take(worker, attempt).filter(|_| succeeded);
        let Some(report) = report else {
            return true;
        };
        if let Some(result) = report.result_json {
            self.results.keep(attempt.job, result);
        }
        !report.lacks_result
    }

    /// What the service returned beside the outputs.
    pub(crate) fn result(&self, job: Uid) -> Option<String> {
        self.results.get(job).cloned()
    }

    /// Its record is written.
    pub(crate) fn drop_result(&mut self, job: Uid) {
        self.results.drop(job);
    }

    /// Keeps the URLs of a lease until it is pushed.
    pub(crate) fn keep_urls(&mut self, attempt: AttemptId, urls: LeaseUrls) {
        self.urls.insert(attempt, urls);
    }

    /// The URLs, once.
    pub(crate) fn take_urls(&mut self, attempt: AttemptId) -> Option<LeaseUrls> {
        self.urls.remove(&attempt)
    }

    /// Names of the outputs that a lease offers URLs for: its pool may have others, or be gone, when the attempt ends.
    pub(crate) fn note_leased(&mut self, attempt: AttemptId, names: Vec<String>) {
        self.leased.insert(attempt.job, (attempt.attempt, names));
    }

    /// The job does not run.
    pub(crate) fn drop_leased(&mut self, job: Uid) {
        self.leased.remove(&job);
    }

    /// Names of the outputs that must be in the store: those of the lease that the service does not keep itself. Of a lease that
    /// another leader gave, those of its pool; where that is gone, those that the report names.
    pub(crate) fn wanted_outputs(
        &self,
        worker: Uid,
        attempt: AttemptId,
        pool: PoolName,
    ) -> Vec<String> {
        let leased = self.leased.get(&attempt.job);
        let leased = leased.filter(|(of, _)| *of == attempt.attempt);
        let known = leased
            .map(|(_, names)| names)
            .or_else(|| self.pools.get(&pool).map(|p| &p.outputs));
        let report = self.reports.of(worker, attempt);
        match (known, report) {
            (Some(names), Some(report)) => {
                let wanted = names.iter().filter(|name| !report.is_own(name));
                wanted.cloned().collect()
            }
            (Some(names), None) => names.clone(),
            (None, Some(report)) => report.stored_names(),
            (None, None) => Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
