//! The engine's counts in the words of the ports.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use kinora_engine::schedule::breaker::State;
use kinora_engine::{Engine, Now};

use super::memory::Memory;
use super::run::Core;
use super::translate::uid_text;
use crate::ports::{BreakerState, PoolBacklog, PoolKey, WorkerLoad};

impl Core {
    /// For `/metrics`: what only the engine and the store's client know.
    pub(super) fn publish_gauges(&self) {
        let counters = &self.counters;
        let archive = self.engine.archive_backlog();
        let oldest = archive.oldest.map_or(0, |at| at.0);
        counters
            .archive_pending
            .store(archive.pending, Ordering::Relaxed);
        counters.archive_oldest_ms.store(oldest, Ordering::Relaxed);
        counters
            .illegal_writes
            .store(self.engine.illegal_writes(), Ordering::Relaxed);
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let pods = count(self.memory.pods.len());
        counters.attempt_pods.store(pods, Ordering::Relaxed);
        let unreadable = count(self.memory.unreadable.len());
        counters
            .unreadable_jobs
            .store(unreadable, Ordering::Relaxed);
        let without_pool = self.engine.jobs_without_pool();
        counters
            .jobs_without_pool
            .store(without_pool, Ordering::Relaxed);
        let skew = self.actor.clock_skew_seconds().unwrap_or(0);
        counters.clock_skew_seconds.store(skew, Ordering::Relaxed);
    }
}

/// Counts of every pool, with its workers.
pub(super) fn backlog(
    engine: &Engine,
    memory: &Memory,
    now: Now,
) -> BTreeMap<PoolKey, PoolBacklog> {
    let mut all: BTreeMap<PoolKey, PoolBacklog> = engine
        .pools(now.wall)
        .into_iter()
        .map(|(name, view)| {
            let backlog = PoolBacklog {
                queued: view.queued,
                claimable: view.claimable,
                running: view.running,
                unfinished: view.unfinished,
                oldest_queued_ms: view.oldest.map(|at| at.0),
                call_seconds: view.call_seconds,
                effective_limit: view.effective_limit,
                paused: view.paused_until.is_some_and(|until| until > now.mono),
                breaker: match view.breaker {
                    State::Closed => BreakerState::Closed,
                    State::Open if view.refused => BreakerState::Refused,
                    State::Open => BreakerState::Open,
                    State::HalfOpen => BreakerState::HalfOpen,
                },
                workers: BTreeMap::new(),
            };
            (memory.names.pool_key(name), backlog)
        })
        .collect();
    for (uid, worker) in engine.workers() {
        let (Some(pool), Some(_)) = (worker.pool, &worker.session) else {
            continue;
        };
        let who = memory.worker(*uid);
        let pod_uid = who.map_or_else(|| uid_text(*uid), |who| who.pod_uid.clone());
        let load = WorkerLoad {
            pod_name: who.map(|who| who.pod_name.clone()).unwrap_or_default(),
            slots: worker.slots,
            busy: worker.busy(),
            cordoned: !worker.is_open(),
        };
        let pool = all.entry(memory.names.pool_key(pool)).or_default();
        pool.workers.insert(pod_uid, load);
    }
    all
}
