//! One state of the modelled world: what etcd and the store hold, two replicas with their engines, two workers, the wires
//! between them, and what really happened (which no replica can see).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use kinora_engine::action::ToWorker;
use kinora_engine::event::Answer;
use kinora_engine::ids::SessionId;
use kinora_engine::outcome::Fact;
use kinora_engine::*;

use crate::properties::Broken;

/// A wall second at which every world begins.
pub(crate) const START: Wall = Wall(1_700_000_000_000);
pub(crate) const NAMESPACE: Symbol = Symbol(1);
pub(crate) const POOL: PoolName = PoolName {
    namespace: NAMESPACE,
    name: Symbol(2),
};

#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct State {
    /// Seconds since the start, on every clock.
    pub(crate) now: u32,
    /// The VideoJobs, by uid − 1.
    pub(crate) etcd: Vec<Option<Arc<Job>>>,
    /// Their documents in the store.
    pub(crate) store: Vec<Documents>,
    pub(crate) replicas: [Shared; 2],
    pub(crate) hands: [Arc<Hand>; 2],
    /// Pods that were ever made for an attempt.
    pub(crate) pods: Vec<Pod>,
    /// Writes that left, were given up by their senders, and may still arrive.
    pub(crate) late: Vec<Action>,
    pub(crate) truth: Arc<Truth>,
    pub(crate) left: Budget,
    pub(crate) broken: Broken,
}

/// What the object store holds of one video.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct Documents {
    /// Redrives that the final record covers.
    pub(crate) record: Option<u32>,
    /// The `active/` entry.
    pub(crate) active: bool,
}

/// One operator process.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub(crate) struct Replica {
    pub(crate) engine: Engine,
    pub(crate) watch: VecDeque<Seen>,
    /// Its watch is silent for good.
    pub(crate) deaf: bool,
    /// It is stopped since then: nothing reaches it, nothing leaves it.
    pub(crate) paused: Option<u32>,
    pub(crate) requests: Vec<Action>,
    /// Answers on their way back.
    pub(crate) answers: Vec<(Uid, Token, Answer)>,
}

/// What a watch says.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) enum Seen {
    Job(Arc<Job>),
    Gone(Uid),
    Pod(AttemptId),
    PodGone(Uid, bool),
    PodDeleted(Uid),
}

/// A pod that was made for one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
pub(crate) struct Pod {
    pub(crate) id: AttemptId,
    pub(crate) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Made; no process yet.
    Pending,
    /// Its process is this worker.
    Runs(usize),
    /// Its process is over, and the object is there.
    Ended,
    Gone,
}

impl Pod {
    /// Its uid follows from its name, because it is made once.
    pub(crate) fn uid(&self) -> Uid {
        pod_uid(self.id)
    }
}

pub(crate) fn pod_uid(id: AttemptId) -> Uid {
    Uid(100 * id.job.0 + u128::from(id.attempt))
}

/// One worker pod.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub(crate) struct Hand {
    pub(crate) uid: u128,
    /// Its process.
    pub(crate) instance: u128,
    /// Streams it has had.
    pub(crate) streams: u64,
    pub(crate) line: Option<Line>,
    /// Calls it makes.
    pub(crate) held: BTreeSet<AttemptId>,
    /// Attempts that were sent down its streams which ended.
    pub(crate) sent: BTreeSet<AttemptId>,
    /// Outcomes that nobody acknowledged.
    pub(crate) unacked: BTreeMap<AttemptId, Fact>,
    /// Its pod is being deleted.
    pub(crate) drained: bool,
}

/// The worker's end of a stream, with what is under way in both directions.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct Line {
    pub(crate) replica: usize,
    pub(crate) session: SessionId,
    pub(crate) inbox: VecDeque<(u64, ToWorker)>,
    /// Last message received.
    pub(crate) received: u64,
    pub(crate) up: VecDeque<Up>,
    /// Nothing from it arrived for a while.
    pub(crate) mute: bool,
    /// Attempts that came, or were presented, over this very stream.
    pub(crate) sure: BTreeSet<AttemptId>,
}

/// Worker to operator.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) enum Up {
    Beat {
        received: u64,
        held: Vec<AttemptId>,
        unacked: Vec<AttemptId>,
    },
    Outcome(AttemptId, Fact),
}

/// What really happened.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub(crate) struct Truth {
    /// Stored claims.
    pub(crate) claims: BTreeMap<AttemptId, u128>,
    /// Attempts whose end was stored as this worker's.
    pub(crate) accepted: BTreeSet<(AttemptId, u128)>,
    /// Outcomes that workers came to.
    pub(crate) reported: BTreeMap<(AttemptId, u128), Fact>,
    /// Jobs with a stored success.
    pub(crate) results: BTreeSet<Uid>,
    /// Attempts whose process ended by itself.
    pub(crate) died: BTreeSet<AttemptId>,
    /// Attempts of a process which then died: nobody knows whether it had read their leases.
    pub(crate) unread: BTreeSet<AttemptId>,
    /// Jobs that were brought back, and by which request.
    pub(crate) redriven: BTreeSet<(Uid, Uid)>,
}

/// What may still go wrong, and how often what is no fault may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
pub(crate) struct Budget {
    pub(crate) faults: u8,
    pub(crate) leads: u8,
    pub(crate) passes: u8,
    pub(crate) beats: u8,
    pub(crate) edits: u8,
}

impl State {
    pub(crate) fn job(&self, uid: Uid) -> Option<&Arc<Job>> {
        self.etcd.get(slot(uid)).and_then(Option::as_ref)
    }

    pub(crate) fn runs(&self, id: AttemptId, worker: u128) -> bool {
        self.job(id.job)
            .is_some_and(|job| job.runs(id.attempt, Uid(worker)))
    }

    pub(crate) fn hand(&self, uid: u128) -> Option<&Arc<Hand>> {
        self.hands.iter().find(|hand| hand.uid == uid)
    }
}

/// Index of a job in the vectors of a state.
pub(crate) fn slot(uid: Uid) -> usize {
    usize::try_from(uid.0).map_or(usize::MAX, |n| n.wrapping_sub(1))
}

impl Hand {
    /// There is a pod behind it.
    pub(crate) fn exists(&self) -> bool {
        self.uid != 0
    }

    pub(crate) fn is_first_process(&self) -> bool {
        self.instance == 1000 * self.uid
    }

    /// Whether it has this attempt, in any way, on its present stream.
    pub(crate) fn has(&self, id: AttemptId) -> bool {
        let in_flight = self.line.as_ref().is_some_and(|line| {
            let lease = |(_, m): &(u64, ToWorker)| *m == ToWorker::Lease(id);
            line.inbox.iter().any(lease)
        });
        in_flight || self.held.contains(&id) || self.unacked.contains_key(&id)
    }
}

/// A replica that many states have in common, with its hash made once.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    digest: u64,
    value: Arc<Replica>,
}

impl Shared {
    pub(crate) fn new(replica: Replica) -> Shared {
        Shared {
            digest: 0,
            value: Arc::new(replica),
        }
    }

    pub(crate) fn get(&self) -> &Replica {
        &self.value
    }

    pub(crate) fn edit(&mut self) -> &mut Replica {
        self.digest = 0;
        Arc::make_mut(&mut self.value)
    }
}

impl PartialEq for Shared {
    fn eq(&self, other: &Shared) -> bool {
        Arc::ptr_eq(&self.value, &other.value) || self.value == other.value
    }
}

impl Hash for Shared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert_ne!(self.digest, 0, "hashed before it was sealed");
        self.digest.hash(state);
    }
}

/// Keeps one copy of every replica that was ever reached.
#[derive(Default)]
pub(crate) struct Interner {
    hasher: std::hash::BuildHasherDefault<std::collections::hash_map::DefaultHasher>,
    known: Mutex<std::collections::HashMap<u64, Arc<Replica>>>,
}

impl Interner {
    pub(crate) fn seal(&self, shared: &mut Shared) {
        if shared.digest != 0 {
            return;
        }
        let digest = self.hasher.hash_one(&*shared.value).max(1);
        let mut known = self.known.lock().expect("no panic while it is held");
        let copy = known
            .entry(digest)
            .or_insert_with(|| Arc::clone(&shared.value));
        shared.value = Arc::clone(copy);
        shared.digest = digest;
    }
}
