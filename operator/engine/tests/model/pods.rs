//! Pods that are made for one attempt each: made, started, lost, removed. Their workers speak as all do.

use std::sync::Arc;

use kinora_engine::action::PodAction;
use kinora_engine::event::Answer;
use kinora_engine::*;

use crate::properties::Invariant;
use crate::state::{Hand, Pod, Seen, Stage};
use crate::world::World;

/// How long the engine waits for a pod's Hello.
pub(crate) const START: std::time::Duration = std::time::Duration::from_secs(10);

impl World<'_> {
    /// What the API server does about pods.
    pub(crate) fn pod_action(&mut self, action: PodAction) -> Option<(Uid, Token, Answer)> {
        match action {
            PodAction::Make { token, attempt, .. } => {
                self.make_pod(attempt);
                Some((attempt.job, token, Answer::Yes))
            }
            PodAction::Find { token, attempt } => {
                let found = |pod: &Pod| pod.id == attempt && pod.stage != Stage::Gone;
                let there = self.s.pods.iter().any(found);
                let answer = if there { Answer::Yes } else { Answer::No };
                Some((attempt.job, token, answer))
            }
            PodAction::Remove { worker } => {
                let there = |pod: &Pod| pod.uid() == worker && pod.stage != Stage::Gone;
                if let Some(n) = self.s.pods.iter().position(there) {
                    self.lose_pod(n, false);
                }
                None
            }
        }
    }

    fn make_pod(&mut self, id: AttemptId) {
        if !self.s.truth.claims.contains_key(&id) {
            self.s.broken.note(Invariant::Pods);
        }
        match self.s.pods.iter().find(|pod| pod.id == id) {
            // Its name is taken: ours, as good as new.
            Some(pod) if pod.stage != Stage::Gone => {}
            Some(_) => self.s.broken.note(Invariant::Pods),
            None => {
                let stage = Stage::Pending;
                self.s.pods.push(Pod { id, stage });
                self.tell(&Seen::Pod(id));
            }
        }
    }

    /// The kubelet starts it, where there is room.
    pub(crate) fn start_pod(&mut self, n: usize, h: usize) {
        self.s.pods[n].stage = Stage::Runs(h);
        let uid = self.s.pods[n].uid().0;
        self.s.hands[h] = Arc::new(Hand {
            uid,
            instance: 1000 * uid,
            ..Hand::default()
        });
    }

    /// What is over says no Hello: a silent watch is replaced in the end, and lists it.
    pub(crate) fn list_ended_pods(&mut self) {
        let ended = |pod: &&Pod| pod.stage == Stage::Ended;
        let listed: Vec<Pod> = self.s.pods.iter().filter(ended).copied().collect();
        for replica in self.s.replicas.iter_mut().filter(|r| r.get().deaf) {
            for pod in &listed {
                let seen = [Seen::Pod(pod.id), Seen::PodGone(pod.uid(), true)];
                replica.edit().watch.extend(seen);
            }
        }
    }

    pub(crate) fn pod_of(&self, h: usize) -> Option<usize> {
        let runs = |pod: &Pod| pod.stage == Stage::Runs(h);
        self.s.pods.iter().position(runs)
    }

    /// It ends, with whatever runs in it. Its object stays if nobody deleted it.
    pub(crate) fn lose_pod(&mut self, n: usize, by_itself: bool) {
        let pod = self.s.pods[n];
        let ended_before = pod.stage == Stage::Ended;
        if let Stage::Runs(h) = pod.stage {
            if by_itself {
                self.truth().died.insert(pod.id);
            }
            self.break_stream(h);
            self.s.hands[h] = Arc::new(Hand::default());
        }
        if !ended_before {
            self.tell(&Seen::PodGone(pod.uid(), by_itself));
        }
        if by_itself {
            self.s.pods[n].stage = Stage::Ended;
        } else {
            self.s.pods[n].stage = Stage::Gone;
            self.tell(&Seen::PodDeleted(pod.uid()));
        }
    }
}
