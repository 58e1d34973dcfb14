//! What the simulated workers saw: who is connected, which lease came when to whom, what was acknowledged.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kinora_protocol::dispatch as wire;
use tokio::sync::oneshot;

/// One lease that came.
#[derive(Clone, Debug)]
pub(crate) struct Leased {
    pub(crate) worker: usize,
    pub(crate) attempt: u32,
    pub(crate) at: Instant,
}

#[derive(Debug, Default)]
struct State {
    connected: HashSet<usize>,
    /// By uid of the job, in the order of their coming.
    leases: HashMap<String, Vec<Leased>>,
    /// Name of a job by its uid.
    names: HashMap<String, String>,
    /// By name of the job.
    waiting: HashMap<String, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    leased: Option<oneshot::Sender<Instant>>,
    acked: oneshot::Sender<Instant>,
}

/// What happens to one job.
pub(crate) struct Expected {
    /// Its first lease came.
    pub(crate) leased: oneshot::Receiver<Instant>,
    /// Its success was acknowledged.
    pub(crate) acked: oneshot::Receiver<Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Book(Mutex<State>);

impl Book {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be asked before the job is created.
    pub(crate) fn watch_for(&self, job: &str) -> Expected {
        let ((lease, leased), (ack, acked)) = (oneshot::channel(), oneshot::channel());
        let waiting = Waiting {
            leased: Some(lease),
            acked: ack,
        };
        self.state().waiting.insert(job.to_owned(), waiting);
        Expected { leased, acked }
    }

    /// A worker has a stream, or has it no more.
    pub(crate) fn connected(&self, worker: usize, is_it: bool) {
        let connected = &mut self.state().connected;
        if is_it {
            connected.insert(worker);
        } else {
            connected.remove(&worker);
        }
    }

    /// How many have a stream.
    pub(crate) fn connections(&self) -> usize {
        self.state().connected.len()
    }

    /// A lease came.
    pub(crate) fn leased(&self, worker: usize, lease: &wire::Lease) {
        let at = Instant::now();
        let Some(of) = &lease.attempt else { return };
        let mut state = self.state();
        let leased = Leased {
            worker,
            attempt: of.attempt,
            at,
        };
        let leases = state.leases.entry(of.job_uid.clone()).or_default();
        leases.push(leased);
        let name = lease.name.rsplit('/').next().unwrap_or_default();
        state.names.insert(of.job_uid.clone(), name.to_owned());
        if let Some(waiting) = state.waiting.get_mut(name)
            && let Some(tell) = waiting.leased.take()
        {
            let _ = tell.send(at);
        }
    }

    /// The operator took an outcome, or did not want it.
    pub(crate) fn acked(&self, ack: &wire::Ack) {
        let Some(of) = &ack.attempt else { return };
        let mut state = self.state();
        if ack.verdict() != wire::ack::Verdict::Accepted {
            return;
        }
        let name = state.names.get(&of.job_uid).cloned().unwrap_or_default();
        if let Some(waiting) = state.waiting.remove(&name) {
            let _ = waiting.acked.send(Instant::now());
        }
    }

    /// Every lease since `at`.
    pub(crate) fn since(&self, at: Instant) -> Vec<(String, Leased)> {
        let state = self.state();
        let mut found: Vec<_> = state
            .leases
            .iter()
            .flat_map(|(uid, all)| all.iter().map(|leased| (uid.clone(), leased.clone())))
            .filter(|(_, leased)| leased.at >= at)
            .collect();
        found.sort_by_key(|(_, leased)| leased.at);
        found
    }

    /// What was, counts no more.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.leases.clear();
        state.names.clear();
        state.waiting.clear();
    }
}
