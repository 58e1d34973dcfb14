//! A pool scaled up and down at random, whose pods come and go later than its number says.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::tests::{view, worker};
use super::*;

/// One pass and what happens until the next.
#[derive(Clone, Debug)]
struct Turn {
    pause: Duration,
    desired: i32,
    /// What each worker holds, if it may take leases, or whether it has finished.
    loads: [u32; 8],
    /// The ReplicaSet controller comes to it.
    removes: bool,
    /// This one's node is lost.
    lost: Option<usize>,
}

fn turn() -> impl Strategy<Value = Turn> {
    let lost = prop::option::weighted(0.05, 0..8usize);
    let loads = prop::array::uniform8(0..3u32);
    (100..3_000u64, 0..8i32, loads, any::<bool>(), lost).prop_map(
        |(pause, desired, loads, removes, lost)| Turn {
            pause: Duration::from_millis(pause),
            desired,
            loads,
            removes,
            lost,
        },
    )
}

/// A pool whose number follows the scaler's, and whose pods follow later.
#[derive(Debug)]
struct Pool {
    scaler: Scaler,
    view: View,
    now: Instant,
    controlled: Instant,
    born: usize,
    told: BTreeSet<String>,
    removed_busy: bool,
}

impl Pool {
    fn new(replicas: i32) -> Pool {
        let mut pool = Pool {
            scaler: Scaler::default(),
            view: View {
                window: Duration::ZERO,
                ..view(replicas, replicas, vec![])
            },
            now: Instant::now(),
            controlled: Instant::now(),
            born: 0,
            told: BTreeSet::new(),
            removed_busy: false,
        };
        pool.control();
        pool
    }

    fn live(&self) -> impl Iterator<Item = &Worker> {
        self.view.workers.iter().filter(|worker| !worker.leaving)
    }

    fn replicas(&self) -> usize {
        usize::try_from(self.view.current).unwrap()
    }

    fn pass(&mut self, turn: &Turn) {
        self.now += turn.pause;
        self.view.desired = turn.desired;
        let moves = self.scaler.step(&self.view, self.now);
        let workers = &mut self.view.workers;
        for (worker, load) in workers.iter_mut().zip(turn.loads.iter().cycle()) {
            if !worker.cordoned || *load == 0 {
                worker.busy = Some(*load);
            }
        }
        for worker in workers {
            let (uid, name) = (&worker.uid, &worker.name);
            worker.cordoned |= moves.cordon.contains(uid) || moves.drain.contains(uid);
            worker.cordoned &= !moves.uncordon.contains(uid);
            worker.marked |= moves.mark.contains(name);
            worker.marked &= !moves.unmark.contains(name);
        }
        self.told.extend(moves.drain);
        self.told.retain(|uid| !moves.uncordon.contains(uid));
        self.view.current = moves.target;
        let lost = turn.lost.and_then(|n| self.view.workers.get_mut(n));
        lost.into_iter().for_each(|worker| worker.leaving = true);
        if turn.removes || self.now.duration_since(self.controlled) > REMOVAL / 2 {
            self.control();
        }
    }

    /// As the ReplicaSet controller does it: by cost, and where that is equal as unluckily as can be.
    fn control(&mut self) {
        self.controlled = self.now;
        self.view.workers.retain(|worker| !worker.leaving);
        let workers = &mut self.view.workers;
        workers.sort_by_key(|worker| (!worker.marked, std::cmp::Reverse(worker.busy)));
        let replicas = usize::try_from(self.view.current).unwrap();
        let surplus = workers.len().saturating_sub(replicas);
        for worker in &mut workers[..surplus] {
            worker.leaving = true;
            self.removed_busy |= worker.busy != Some(0);
        }
        while workers.len() < replicas {
            workers.push(worker(&format!("w{}", self.born), 0));
            self.born += 1;
        }
    }
}

proptest! {
    /// covers: F34
    #[test]
    fn no_busy_worker_is_removed_however_late_the_pods_leave(
        turns in prop::collection::vec(turn(), 1..120),
    ) {
        let mut pool = Pool::new(5);
        for turn in turns {
            pool.pass(&turn);
            let live = pool.live().count();
            let paid = pool.live().filter(|w| pool.told.contains(&w.uid)).count();
            prop_assert!(live <= pool.replicas() + paid, "{pool:?}");
            prop_assert!(!pool.removed_busy, "{pool:?}");
        }
    }
}
