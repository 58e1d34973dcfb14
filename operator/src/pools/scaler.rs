//! From a desired number to the number of replicas: up at once, down only after a quiet window and only over idle workers.
//!
//! Pure; time is an argument. Level-triggered: what is asked for is asked again until the view shows it. A worker that is to
//! go is first cordoned (no new leases), then, once idle, marked with a deletion cost, and 2 s later, if still idle, told to
//! drain, and the number falls to that of the others.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// Between the mark and the scale patch: a lease that was on its way shows up in this time.
const SETTLE: Duration = Duration::from_secs(2);
/// After a scale patch the pods that go must get their deletionTimestamp within this, or they are used again.
const REMOVAL: Duration = Duration::from_secs(10);
/// How soon a scale-down in progress is looked at again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// One pod of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Uid of the pod.
    pub uid: String,
    /// Name of the pod.
    pub name: String,
    /// Leases held, if its stream is up.
    pub busy: Option<u32>,
    /// The core sends it no leases.
    pub cordoned: bool,
    /// The pod is ready: its process is up.
    pub ready: bool,
    /// It is being deleted or has ended.
    pub leaving: bool,
    /// It carries our deletion cost.
    pub marked: bool,
}

/// What the next step follows from.
#[derive(Clone, Debug)]
pub struct View {
    /// Replicas asked for now.
    pub current: i32,
    /// Replicas wanted.
    pub desired: i32,
    /// How long fewer must have been enough.
    pub window: Duration,
    /// The pool's pods.
    pub workers: Vec<Worker>,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// What the Deployment shall ask for.
    pub target: i32,
    /// Uids that get no new leases.
    pub cordon: Vec<String>,
    /// Uids that go with this number: they are told to take no more leases.
    pub drain: Vec<String>,
    /// Uids that get leases again.
    pub uncordon: Vec<String>,
    /// Pod names that get the deletion cost.
    pub mark: Vec<String>,
    /// Pod names that lose it.
    pub unmark: Vec<String>,
    /// When to look again although nothing changed.
    pub again: Option<Duration>,
}

/// What a leader remembers of one pool; a new leader starts with nothing, which only delays.
#[derive(Clone, Debug, Default)]
pub struct Scaler {
    /// What was wanted, falling, with the last time each was; the last entry is what is wanted now.
    wanted: VecDeque<(i32, Instant)>,
    /// Workers that are to go, and since when each was idle under its mark.
    picked: BTreeMap<String, Option<Instant>>,
    /// Until when the pods of the last scale-down may take to get their deletionTimestamp.
    removing: Option<Instant>,
}

impl Scaler {
    /// The next moves.
    pub fn step(&mut self, view: &View, now: Instant) -> Moves {
        let goal = self.goal(view, now);
        let mut moves = Moves {
            target: goal.max(view.current),
            ..Moves::default()
        };
        if goal < view.current {
            self.drain(view, goal, now, &mut moves);
        } else {
            self.picked.clear();
        }
        self.give_back(view, now, &mut moves);
        let peak = self.wanted.front().filter(|_| self.wanted.len() > 1);
        let waits = peak.map(|(_, at)| {
            (*at + view.window)
                .saturating_duration_since(now)
                .max(LOOK_AGAIN)
        });
        let busy = !self.picked.is_empty() || self.removing.is_some();
        moves.again = if busy { Some(LOOK_AGAIN) } else { waits };
        moves
    }

    /// The number to go to now: what is wanted when it is more, the most that was wanted within the window when it is less.
    fn goal(&mut self, view: &View, now: Instant) -> i32 {
        match self.wanted.back_mut() {
            Some((_, until)) => *until = now,
            // What was there before this process looked counts as wanted until now.
            None => self.wanted.push_back((view.current, now)),
        }
        while self
            .wanted
            .back()
            .is_some_and(|(wanted, _)| *wanted <= view.desired)
        {
            self.wanted.pop_back();
        }
        self.wanted.push_back((view.desired, now));
        while self.wanted.len() > 1
            && self
                .wanted
                .front()
                .is_some_and(|(_, until)| now.duration_since(*until) >= view.window)
        {
            self.wanted.pop_front();
        }
        let peak = self
            .wanted
            .front()
            .map_or(view.desired, |(wanted, _)| *wanted);
        if view.desired >= view.current {
            view.desired
        } else {
            peak.min(view.current)
        }
    }

    fn drain(&mut self, view: &View, goal: i32, now: Instant, moves: &mut Moves) {
        let live: Vec<&Worker> = view
            .workers
            .iter()
            .filter(|worker| !worker.leaving)
            .collect();
        let existing = i32::try_from(live.len()).unwrap_or(i32::MAX);
        self.pick(&live, existing.saturating_sub(goal));
        for worker in live {
            let Some(since) = self.picked.get_mut(&worker.uid) else {
                continue;
            };
            if !worker.cordoned && worker.busy.is_some() {
                moves.cordon.push(worker.uid.clone());
            }
            *since = if is_idle(worker) && worker.marked {
                Some(since.unwrap_or(now))
            } else {
                None
            };
            if !is_idle(worker) {
                if worker.marked {
                    moves.unmark.push(worker.name.clone());
                }
            } else if !worker.marked {
                moves.mark.push(worker.name.clone());
            } else if since.is_some_and(|since| now.duration_since(since) >= SETTLE) {
                moves.drain.push(worker.uid.clone());
            }
        }
        // Every pod that is not drained keeps its replica, also while one that is has yet to leave. Replicas that have no pod
        // yet are taken back without asking anybody.
        let drained = i32::try_from(moves.drain.len()).unwrap_or(i32::MAX);
        moves.target = existing.saturating_sub(drained).clamp(goal, view.current);
        if moves.target < view.current {
            self.removing = Some(now + REMOVAL);
        }
        if moves.target <= goal {
            self.picked.clear();
        }
    }

    /// Chooses whom to drain: whoever was chosen stays chosen, then the idlest.
    fn pick(&mut self, live: &[&Worker], count: i32) {
        let count = usize::try_from(count).unwrap_or(0);
        let mut order: Vec<&&Worker> = live.iter().collect();
        order.sort_by_key(|worker| {
            let chosen = self.picked.contains_key(&worker.uid);
            (!chosen, load(worker), worker.uid.clone())
        });
        let chosen = order.into_iter().take(count);
        let old = std::mem::take(&mut self.picked);
        self.picked = chosen
            .map(|w| (w.uid.clone(), old.get(&w.uid).copied().flatten()))
            .collect();
    }

    /// Workers that were to go and now stay get leases again, but not while the ReplicaSet may still be about to delete them.
    fn give_back(&mut self, view: &View, now: Instant, moves: &mut Moves) {
        let live = view.workers.iter().filter(|worker| !worker.leaving);
        let surplus = i32::try_from(live.clone().count()).unwrap_or(i32::MAX) > moves.target;
        if self
            .removing
            .is_some_and(|until| now >= until || (!surplus && moves.target == view.current))
        {
            self.removing = None;
        }
        if self.removing.is_some() {
            return;
        }
        for worker in live.filter(|worker| !self.picked.contains_key(&worker.uid)) {
            if worker.cordoned {
                moves.uncordon.push(worker.uid.clone());
            }
            if worker.marked {
                moves.unmark.push(worker.name.clone());
            }
        }
    }
}

/// Nothing held. A pod whose process is up but has no stream may hold leases all the same.
fn is_idle(worker: &Worker) -> bool {
    match worker.busy {
        Some(busy) => busy == 0 && worker.cordoned,
        None => !worker.ready,
    }
}

/// Order of picking: pods that never came up, then by load, then those that cannot be seen.
fn load(worker: &Worker) -> (u8, u32) {
    match worker.busy {
        None if !worker.ready => (0, 0),
        Some(busy) => (1, busy),
        None => (2, 0),
    }
}

#[cfg(test)]
#[path = "scaler_pods_tests.rs"]
mod pods_tests;
#[cfg(test)]
#[path = "scaler_tests.rs"]
mod tests;
