//! The wiring: events to facts, facts to decisions, decisions to actions.
//!
//! Every handler ends in `review`, which asks [`crate::job::decide`] what is next about a job; a claim is granted only by the
//! serial pass at the end of a step.

mod answers;
mod attempt_pods;
mod claims;
mod facts;
mod late;
mod lead;
mod leases;
mod live;
mod pods;
mod progress;
mod redrive;
mod review;
mod shared;
mod streams;

mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use rand::RngCore;

use crate::action::{Action, ToWorker};
use crate::event::{Event, History, Lead};
use crate::health::Health;
use crate::ids::{AttemptId, PoolName, Symbol, Token, Uid};
use crate::index::Index;
use crate::job::Status;
use crate::outcome::Class;
use crate::schedule::Pool;
use crate::time::{Mono, Now};
use crate::workers::Workers;

use attempt_pods::AttemptPods;
pub use claims::Candidate;
use live::Live;
pub use view::PoolView;

/// A lost attempt that may be claimed again in the write that says so.
#[derive(Clone, Debug, PartialEq, Hash)]
struct Lost {
    status: Box<Status>,
    class: Class,
    call_may_run: bool,
}

/// The number of the last request. Engines that differ in nothing else decide alike, so it does not count in their hash.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tokens(u64);

impl Hash for Tokens {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// All that one replica knows and has decided.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct Engine {
    lead: Lead,
    index: Index,
    jobs_known: bool,
    pools_known: bool,
    pools: BTreeMap<PoolName, Pool>,
    workers: Workers,
    attempt_pods: AttemptPods,
    health: Health,
    live: BTreeMap<Uid, Live>,
    lost: BTreeMap<Uid, Lost>,
    /// Attempts of jobs that are not known, and from when on they are nobody's.
    strangers: BTreeMap<AttemptId, Mono>,
    late: late::Late,
    history: History,
    /// A quorum read was older than what was known before it: the control plane went back.
    went_back: bool,
    /// This clock and the store's differ too much for signed URLs.
    clock_off: bool,
    dirty: BTreeSet<PoolName>,
    /// The pool that was granted a claim last.
    turn: Option<PoolName>,
    /// Claims whose writes are under way, with pool and tenant.
    claiming: BTreeMap<AttemptId, (PoolName, Symbol)>,
    tokens: Tokens,
    illegal: u64,
    out: Vec<Action>,
}

impl Engine {
    /// An engine that knows nothing and leads nobody.
    #[must_use]
    pub fn new() -> Engine {
        Engine::default()
    }

    /// Takes one event and answers with what is to be done. `rng` is drawn from for backoffs only.
    pub fn step(&mut self, event: Event, now: Now, rng: &mut dyn RngCore) -> Vec<Action> {
        self.observe(event, now, rng);
        self.grant(now);
        self.store_losses();
        std::mem::take(&mut self.out)
    }

    /// As [`Engine::step`], with `choose` in place of the scheduler: it picks from all claims that slots allow, again and
    /// again until it picks none. What holds under every choice holds under the scheduler's.
    pub fn step_choosing(
        &mut self,
        event: Event,
        now: Now,
        rng: &mut dyn RngCore,
        choose: &mut dyn FnMut(&[Candidate]) -> Option<Candidate>,
    ) -> Vec<Action> {
        self.observe(event, now, rng);
        self.dirty.clear();
        while let Some(candidate) = choose(&self.candidates())
            && self.claim_candidate(candidate, now)
        {}
        self.store_losses();
        std::mem::take(&mut self.out)
    }

    fn observe(&mut self, event: Event, now: Now, rng: &mut dyn RngCore) {
        match event {
            Event::Job(job) => self.on_job(*job, now, rng),
            Event::JobDeleted(uid) => self.on_deleted(uid, now),
            Event::JobsSynced => self.on_jobs_synced(),
            Event::Pool(name, policy) => self.on_pool(name, Some(*policy), now, rng),
            Event::PoolGone(name) => self.on_pool(name, None, now, rng),
            Event::PoolsSynced => self.on_pools_synced(now, rng),
            Event::Lead(lead) => self.on_lead(lead, now, rng),
            Event::Alive => self.health.wrote(now.mono),
            Event::Tick => self.on_tick(now, rng),
            Event::Hello {
                session,
                worker,
                pool,
                slots,
                instance,
                held,
                unacked,
            } => {
                let hello = streams::Hello {
                    pool,
                    slots,
                    instance,
                    held,
                    unacked,
                };
                self.on_hello(session, worker, &hello, now, rng);
            }
            Event::Heartbeat {
                session,
                seq,
                received,
                held,
                unacked,
            } => self.on_heartbeat(session, (seq, received), &held, &unacked, now, rng),
            Event::Outcome {
                session,
                attempt,
                fact,
                retry_after,
            } => self.on_outcome(session, attempt, (fact, retry_after), now, rng),
            Event::Progress {
                session,
                attempt,
                percent,
            } => self.on_progress(session, attempt, percent, now),
            Event::Redrive { job, by } => self.on_redrive(job, by, now, rng),
            Event::History(history) => self.on_history(history, now, rng),
            Event::ClockTrusted(trusted) => self.on_clock(trusted, now, rng),
            Event::Draining(session) => self.on_draining(session),
            Event::Slots(session, slots) => self.on_slots(session, slots),
            Event::Closed(session) => self.on_closed(session, now),
            Event::AttemptPod { worker, attempt } => self.on_attempt_pod(worker, attempt),
            Event::AttemptPodDeleted(worker) => self.on_attempt_pod_deleted(worker),
            Event::PodDraining(worker) => self.on_pod_draining(worker),
            Event::PodStays(worker) => self.on_pod_stays(worker, now),
            Event::PodGone { worker, by_itself } => self.on_pod_gone(worker, by_itself, now, rng),
            Event::ContainerEnded {
                worker,
                finished,
                by_itself,
            } => self.on_container_ended(worker, finished, by_itself, now, rng),
            Event::Cordon { worker, on } => self.on_cordon(worker, on, now),
            Event::Drain(worker) => self.on_drain(worker),
            Event::Answer { job, token, answer } => self.on_answer(job, token, answer, now, rng),
        }
    }

    fn token(&mut self) -> Token {
        self.tokens.0 = self.tokens.0.saturating_add(1);
        Token(self.tokens.0)
    }

    fn live(&mut self, job: Uid) -> &mut Live {
        self.live.entry(job).or_default()
    }

    fn send(&mut self, worker: Uid, message: ToWorker) -> Option<u64> {
        let (session, seq) = self.workers.take_seq(worker)?;
        self.out.push(Action::Send {
            session,
            seq,
            message,
        });
        Some(seq)
    }

    /// Tells a worker that its report is settled, which frees its slot.
    fn acknowledge(&mut self, worker: Uid, attempt: AttemptId, accepted: bool) {
        if let Some(seq) = self.send(worker, ToWorker::Ack(attempt, accepted)) {
            self.workers.acknowledged(worker, attempt, seq);
            self.call_is_over(worker, attempt);
            self.late.survived(worker, attempt);
        }
    }

    /// No call of this attempt runs any more: its ghost, if it left one, gives its permit back.
    fn call_is_over(&mut self, worker: Uid, attempt: AttemptId) {
        let pool = self.workers.get(worker).and_then(|w| w.pool);
        for (name, known) in &mut self.pools {
            if known.ghosts.clear(attempt, worker) {
                self.dirty.insert(*name);
            }
        }
        self.dirty.extend(pool);
    }

    /// The pool a waiting job would be claimed from.
    fn resolve(&self, namespace: Symbol, named: Option<Symbol>) -> Option<PoolName> {
        if let Some(name) = named {
            let name = PoolName { namespace, name };
            let exists = self.pools.get(&name).is_some_and(|p| p.policy.is_some());
            return exists.then_some(name);
        }
        self.pools
            .iter()
            .filter(|(name, _)| name.namespace == namespace)
            .filter_map(|(name, pool)| pool.policy.as_ref().map(|policy| (name, policy)))
            .filter(|(_, policy)| policy.is_default)
            .min_by_key(|(name, policy)| (policy.created, **name))
            .map(|(name, _)| *name)
    }
}
