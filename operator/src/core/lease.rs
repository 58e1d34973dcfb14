//! The lease as it goes over the wire, and what workers say in the engine's words.

use std::time::Duration;

use kinora_crds::VideoJob;
use kinora_engine::action::CloseReason;
use kinora_engine::outcome::Fact;
use kinora_engine::{AttemptId, Event, Uid};
use kinora_protocol::dispatch as wire;
use wire::from_worker::Message;

use super::dispatch::{Said, attempt_id};
use super::run::Core;
use super::seams::LeaseUrls;
use super::translate::{uid_of, uid_text};
use crate::archive::keys::upload_of;
use crate::ports::{Leadership, PodAddress};

pub(super) fn attempt_ref(id: AttemptId) -> wire::AttemptRef {
    wire::AttemptRef {
        job_uid: uid_text(id.job),
        attempt: id.attempt,
    }
}

impl Core {
    /// The lease of an attempt whose claim is stored; `None` when its parts are not at hand.
    pub(super) fn lease(&mut self, id: AttemptId) -> Option<wire::Lease> {
        let urls = self.memory.take_urls(id)?;
        let facts = self.engine.job(id.job)?;
        let redrives = facts.status.redrives;
        let pool = facts.claimed_pool()?;
        let timeout_ms = self.memory.pools.get(&pool)?.timeout_ms;
        let job = self.memory.any_object(id.job)?;
        let pool = self.memory.names.text(pool.name);
        let traceparent = self.traces.begin(&job, id, &pool);
        Some(build(&job, id, redrives, timeout_ms, urls, traceparent))
    }

    pub(super) fn on_said(&mut self, said: Said) {
        match said {
            Said::Hello {
                session,
                who,
                line,
                hello,
                known,
            } => {
                let worker = self.memory.meet(&who);
                self.memory.lines.insert(session, line);
                let pool = self.memory.names.pool(&who.pool);
                // Whoever claims more than its pool gives would draw the jobs of all others to itself.
                let most = self.memory.pools.get(&pool).map_or(u32::MAX, |p| p.slots);
                let slots = hello.slots.min(most);
                if let Some(of) = &who.attempt {
                    // The watch may be behind its pod's Hello.
                    let pod = PodAddress {
                        namespace: who.pool.namespace.clone(),
                        name: who.pod_name.clone(),
                        uid: who.pod_uid.clone(),
                    };
                    self.on_attempt_pod(&pod, of);
                }
                self.step(Event::Hello {
                    session,
                    worker,
                    pool,
                    slots,
                    instance: uid_of(&hello.instance),
                    held: attempts(&hello.held),
                    unacked: attempts(&hello.unacked),
                });
                tracing::info!(pod = %who.pod_name, pool = %who.pool.name, slots, "a worker says hello");
                if self.leadership == Leadership::CutOff {
                    self.close(session, CloseReason::NotLeader);
                }
                let _ = known.send(());
            }
            Said::Message { session, message } => self.on_message(session, message),
            Said::Closed(session) => {
                self.memory.lines.remove(&session);
                self.step(Event::Closed(session));
            }
        }
    }

    fn on_message(&mut self, session: kinora_engine::ids::SessionId, message: Message) {
        match message {
            Message::Hello(_) => {}
            Message::Heartbeat(beat) => self.step(Event::Heartbeat {
                session,
                seq: beat.seq,
                received: beat.received_seq,
                held: attempts(&beat.held),
                unacked: attempts(&beat.unacked),
            }),
            Message::Outcome(outcome) => self.on_outcome(session, outcome),
            Message::Draining(_) => self.step(Event::Draining(session)),
            Message::Progress(progress) => self.on_progress(session, &progress),
        }
    }

    fn on_progress(&mut self, session: kinora_engine::ids::SessionId, progress: &wire::Progress) {
        let Some(attempt) = progress.attempt.as_ref().map(attempt_id) else {
            return;
        };
        let asked = self
            .engine
            .job(attempt.job)
            .as_ref()
            .and_then(kinora_engine::Job::claimed_pool)
            .and_then(|pool| self.memory.pools.get(&pool))
            .is_some_and(|pool| pool.report_progress);
        let worker = self.engine.worker_of(session);
        if asked && worker.is_some_and(|worker| self.engine.holds(worker, attempt)) {
            self.memory.note_step(attempt, &progress.step);
        }
        self.step(Event::Progress {
            session,
            attempt,
            percent: progress.percent,
        });
    }

    fn on_outcome(&mut self, session: kinora_engine::ids::SessionId, outcome: wire::Outcome) {
        let Some(attempt) = outcome.attempt.as_ref().map(attempt_id) else {
            return;
        };
        // A stream that was given up: the worker says it again on its next one.
        let Some(most) = self.memory.lines.get(&session).map(|line| line.most) else {
            return;
        };
        let fact = fact(outcome.fact.as_ref());
        let retry_after = outcome.retry_after_ms.map(Duration::from_millis);
        let worker = self.engine.worker_of(session);
        if let Some(worker) = worker.filter(|w| self.engine.takes_report(*w, attempt)) {
            self.traces.reported(attempt);
            let known = self.engine.holds(worker, attempt);
            self.memory
                .note_report((worker, attempt), outcome, most, known);
        }
        self.step(Event::Outcome {
            session,
            attempt,
            fact,
            retry_after,
        });
    }
}

fn attempts(list: &[wire::AttemptRef]) -> Vec<AttemptId> {
    list.iter().map(attempt_id).collect()
}

fn fact(fact: Option<&wire::outcome::Fact>) -> Fact {
    match fact {
        Some(wire::outcome::Fact::Succeeded(_)) => Fact::Succeeded,
        Some(wire::outcome::Fact::Grpc(status)) => Fact::Grpc(status.code),
        Some(wire::outcome::Fact::Http(status)) => Fact::Http(status.status),
        Some(wire::outcome::Fact::Released(_)) => Fact::Released,
        None => Fact::Nothing,
    }
}

/// Upload id (a declared job: its uid), `.`, redrives: the same for every attempt, another after a redrive.
fn idempotency_key(job: &VideoJob, uid: Uid, redrives: u32) -> String {
    // Not by its annotation, which whoever may edit the job may change: a service answers a known key with what it found then.
    match upload_of(job) {
        Some(id) => format!("{id}.{redrives}"),
        None => format!("{}.{redrives}", uid_text(uid)),
    }
}

fn build(
    job: &VideoJob,
    id: AttemptId,
    redrives: u32,
    timeout_ms: u64,
    urls: LeaseUrls,
    traceparent: String,
) -> wire::Lease {
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let outputs = urls.outputs.into_iter().map(|output| wire::OutputTarget {
        name: output.name,
        put_url: output.put_url,
        headers: output.headers.into_iter().collect(),
    });
    wire::Lease {
        attempt: Some(attempt_ref(id)),
        name: format!("{namespace}/{name}"),
        idempotency_key: idempotency_key(job, id.job, redrives),
        source_url: urls.source_url,
        outputs: outputs.collect(),
        profile: job.spec.profile.clone().unwrap_or_default(),
        parameters: job.spec.parameters.clone().into_iter().collect(),
        timeout_ms,
        traceparent,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const UID: &str = "7d1f0e6c-3f7a-4b0c-9d53-0a1b2c3d4e5f";

    /// Whoever may edit a job in its namespace must not get another's result for it.
    #[test]
    fn a_call_is_named_by_what_nobody_can_change() {
        let id = "a-01arz3ndektsv4rrffq69g5fav";
        let upload = format!("vj-{id}");
        let other = Some("a-01arz3ndektsv4rrffq69g5faw");
        let table = [
            ("an upload", upload.as_str(), "upload", None, id),
            ("with another's annotation", &upload, "upload", other, id),
            ("a declared job", "films-7", "git", None, UID),
            ("with an upload's annotation", "films-7", "git", other, UID),
            (
                "with an upload's label too",
                "films-7",
                "upload",
                other,
                UID,
            ),
        ];
        for (what, name, origin, annotation, want) in table {
            let job = json!({
                "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob",
                "metadata": {
                    "name": name, "namespace": "videos", "uid": UID, "labels": {"kinora.dev/origin": origin},
                    "annotations": annotation.map(|id| json!({"kinora.dev/upload-id": id})),
                },
                "spec": {"source": {"key": "videos/k"}},
            });
            let job: VideoJob = serde_json::from_value(job).unwrap();
            let key = idempotency_key(&job, uid_of(UID), 2);
            assert_eq!(key, format!("{want}.2"), "{what}");
        }
    }
}
