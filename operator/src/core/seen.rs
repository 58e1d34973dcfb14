//! What is told to the core (by the watches, the lease, the pools and the pods), as events for the engine.

use kinora_crds::VideoJob;
use kinora_engine::action::CloseReason;
use kinora_engine::event::Lead;
use kinora_engine::ids::SessionId;
use kinora_engine::{Event, Uid, Wall};

use super::observe::Seen;
use super::run::Core;
use super::translate::{policy, uid_of};
use crate::ports::{CoreCommand, Leadership, PodEvent, PoolEvent, PoolKey};

impl Core {
    pub(super) fn on_seen(&mut self, seen: Seen) {
        match seen {
            Seen::Job(job) => {
                if let Some(uid) = &job.metadata.uid {
                    self.memory.unreadable.remove(uid);
                }
                self.on_job(&job);
            }
            Seen::Unreadable(uid) => {
                self.memory.unreadable.insert(uid);
            }
            Seen::Deleted(uid) => {
                self.memory.unreadable.remove(&uid);
                self.note_deletion(uid_of(&uid));
                self.on_gone(uid_of(&uid));
            }
            Seen::Listed(uids) => {
                self.memory.unreadable.retain(|uid| uids.contains(uid));
                let gone: Vec<Uid> = self
                    .memory
                    .known()
                    .filter(|(_, address)| !uids.contains(&*address.uid))
                    .map(|(uid, _)| *uid)
                    .collect();
                for uid in gone {
                    self.note_missing(uid);
                    self.on_gone(uid);
                }
                if !self.memory.found_gone.is_empty() {
                    self.losses.notify_one();
                }
                self.memory.found_gone.clear();
                self.step(Event::JobsSynced);
                tracing::info!(jobs = self.engine.jobs(), "videojobs are listed");
            }
        }
    }

    fn on_job(&mut self, job: &VideoJob) {
        if let Some(facts) = self.memory.learn(job) {
            self.take_back(facts.uid, facts.rv);
            self.step(Event::Job(Box::new(facts)));
        }
    }

    fn on_gone(&mut self, uid: Uid) {
        self.step(Event::JobDeleted(uid));
        self.writes.forget(uid);
        self.memory.forget(uid);
        self.traces.ended(uid, None);
    }

    pub(super) fn on_leadership(&mut self, leadership: Leadership) {
        if leadership == self.leadership {
            return;
        }
        tracing::info!(?leadership, "leadership changed");
        let lead = match &leadership {
            Leadership::Standby { .. } => Lead::Standby,
            Leadership::Leader => Lead::Leader,
            Leadership::Doubtful | Leadership::CutOff => Lead::Doubtful,
        };
        if lead == Lead::Standby {
            self.memory.redrives.clear();
            self.queues.clear();
            self.writes.clear();
        }
        self.leadership = leadership;
        self.step(Event::Lead(lead));
        if self.leadership == Leadership::CutOff {
            let sessions: Vec<SessionId> = self.memory.lines.keys().copied().collect();
            for session in sessions {
                self.close(session, CloseReason::NotLeader);
            }
        }
    }

    pub(super) fn on_pool(&mut self, event: PoolEvent) {
        match event {
            PoolEvent::Changed(key, facts) => {
                let name = self.memory.names.pool(&key);
                let policy = Box::new(policy(&facts, &mut self.memory.names));
                let slots = facts.slots;
                let before = self.memory.pools.insert(name, *facts);
                self.step(Event::Pool(name, policy));
                if before.is_none_or(|before| before.slots != slots) {
                    self.give_slots(&key, slots);
                }
            }
            PoolEvent::Gone(key) => {
                let name = self.memory.names.pool(&key);
                self.memory.pools.remove(&name);
                self.step(Event::PoolGone(name));
            }
            PoolEvent::Synced => self.step(Event::PoolsSynced),
        }
    }

    /// Workers whose streams began when the pool gave more slots, or fewer, have what it gives now.
    fn give_slots(&mut self, pool: &PoolKey, slots: u32) {
        let lines = self.memory.lines.iter();
        let of_pool: Vec<_> = lines
            .filter(|(session, _)| {
                let worker = self.engine.worker_of(**session);
                let known = worker.and_then(|worker| self.memory.worker(worker));
                known.is_some_and(|known| known.pool == *pool)
            })
            .map(|(session, line)| (*session, line.slots.min(slots)))
            .collect();
        for (session, slots) in of_pool {
            self.step(Event::Slots(session, slots));
        }
    }

    pub(super) fn on_pod(&mut self, event: PodEvent) {
        match event {
            PodEvent::Attempt { pod, of } => self.on_attempt_pod(&pod, &of),
            PodEvent::AttemptDeleted { pod_uid } => {
                let worker = uid_of(&pod_uid);
                self.step(Event::AttemptPodDeleted(worker));
                self.memory.pods.remove(&worker);
            }
            PodEvent::Draining { pod_uid } => self.step(Event::PodDraining(uid_of(&pod_uid))),
            PodEvent::Stays { pod_uid } => self.step(Event::PodStays(uid_of(&pod_uid))),
            PodEvent::Gone { pod_uid, by_itself } => {
                let worker = uid_of(&pod_uid);
                self.step(Event::PodGone { worker, by_itself });
                self.memory.forget_worker(worker);
            }
            PodEvent::ContainerEnded {
                pod_uid,
                finished_at_ms,
                by_itself,
            } => self.step(Event::ContainerEnded {
                worker: uid_of(&pod_uid),
                finished: Wall(finished_at_ms),
                by_itself,
            }),
        }
    }

    pub(super) fn on_command(&mut self, command: &CoreCommand) {
        let (pod_uid, on) = match command {
            CoreCommand::Cordon { pod_uid } => (pod_uid, true),
            CoreCommand::Uncordon { pod_uid } => (pod_uid, false),
            CoreCommand::Drain { pod_uid } => return self.step(Event::Drain(uid_of(pod_uid))),
        };
        self.step(Event::Cordon {
            worker: uid_of(pod_uid),
            on,
        });
    }
}
