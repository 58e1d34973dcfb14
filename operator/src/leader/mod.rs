//! The leader lease: a `coordination.k8s.io/Lease` kept, watched and released by this thin shell around [`decide`].
//!
//! Leadership only saves work; safety never rests on it (invariant I6). May touch that one Lease and nothing else.

pub mod decide;

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kinora_crds::names;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::decide::{Elector, Record, Standing, Step, Timing};
use crate::ports::Leadership;

/// Who this replica is, for the lease.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Namespace of the lease: the release's own.
    pub namespace: String,
    /// `<pod>_<uid>`.
    pub identity: String,
    /// `ip:port` of this replica's dispatch server.
    pub address: String,
}

/// What the rest of the process sees of the election.
#[derive(Clone, Debug)]
pub struct Election {
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
    /// Start of the last successful write of the lease by this replica; means nothing before it ever led.
    pub renewed: watch::Receiver<std::time::Instant>,
}

/// Why the election ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Asked to stop; the lease was released if it was held.
    Stopped,
    /// This replica led and another holder was seen.
    Deposed,
}

#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("{action} lease {}: no answer in time", names::OPERATOR_SERVICE)]
    Timeout { action: &'static str },
    #[error("{action} lease {}", names::OPERATOR_SERVICE)]
    Api {
        action: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
}

struct Shell {
    api: Api<Lease>,
    candidate: Candidate,
    timing: Timing,
    elector: Elector,
    leadership: watch::Sender<Leadership>,
    renewed: watch::Sender<std::time::Instant>,
    /// The last write had no clear answer, so the lease must be read before the next one.
    must_read: bool,
}

/// Starts the election; the future must be driven until it ends and says why.
pub fn run(
    client: Client,
    candidate: Candidate,
    timing: Timing,
    stop: CancellationToken,
) -> (Election, impl Future<Output = End> + Send) {
    let (leadership, leadership_seen) = watch::channel(Leadership::Standby {
        leader_address: None,
    });
    let (renewed, renewed_seen) = watch::channel(std::time::Instant::now());
    let shell = Shell {
        api: Api::namespaced(client, &candidate.namespace),
        elector: Elector::new(candidate.identity.clone(), timing),
        candidate,
        timing,
        leadership,
        renewed,
        must_read: true,
    };
    let election = Election {
        leadership: leadership_seen,
        renewed: renewed_seen,
    };
    (election, shell.campaign(stop))
}

impl Shell {
    async fn campaign(mut self, stop: CancellationToken) -> End {
        while !stop.is_cancelled() {
            let started = Instant::now();
            if let Err(error) = self.round().await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "leader election: trying again");
            }
            self.publish();
            if self.elector.standing(Instant::now()) == Standing::Deposed {
                return End::Deposed;
            }
            let pause = self.pause(started);
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wait(pause) => {}
            }
        }
        self.release().await;
        End::Stopped
    }

    /// One look, if needed, and one write, if due.
    async fn round(&mut self) -> Result<(), LeaseError> {
        if self.must_read || !matches!(self.elector.step(Instant::now()), Step::Renew) {
            let record = self.read().await?;
            self.elector.observed(record, Instant::now());
            self.must_read = false;
        }
        match self.elector.step(Instant::now()) {
            Step::Wait { .. } => Ok(()),
            Step::Create | Step::Renew | Step::TakeOver => self.write().await,
        }
    }

    async fn read(&self) -> Result<Option<Record>, LeaseError> {
        let lease = self
            .bounded("read", self.api.get_opt(names::OPERATOR_SERVICE))
            .await?;
        Ok(lease.map(|lease| record_of(&lease)))
    }

    /// Writes this replica as holder, fenced by the resourceVersion that was seen; a lost race is found by the next read.
    async fn write(&mut self) -> Result<(), LeaseError> {
        let started = Instant::now();
        let lease = self.lease(Some(&self.candidate.identity));
        let result = self.put(&lease).await;
        match result {
            Ok(stored) => {
                self.elector.written(record_of(&stored), started);
                Ok(())
            }
            Err(error) => {
                self.must_read = true;
                if is_lost_race(&error) {
                    Ok(())
                } else {
                    Err(error)
                }
            }
        }
    }

    async fn put(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        let params = PostParams {
            field_manager: Some(names::MANAGER_OPERATOR.to_owned()),
            ..PostParams::default()
        };
        if lease.metadata.resource_version.is_none() {
            self.bounded("create", self.api.create(&params, lease))
                .await
        } else {
            let name = names::OPERATOR_SERVICE;
            self.bounded("write", self.api.replace(name, &params, lease))
                .await
        }
    }

    /// Waits for an answer, at most the request timeout, and says in time when the renew deadline passes meanwhile.
    async fn bounded<T>(
        &self,
        action: &'static str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, LeaseError> {
        let call = tokio::time::timeout(self.timing.request_timeout, call);
        tokio::pin!(call);
        let answer = tokio::select! {
            answer = &mut call => answer,
            () = self.deadline() => { self.publish(); call.await }
        };
        match answer {
            Err(_) => Err(LeaseError::Timeout { action }),
            Ok(Err(source)) => Err(LeaseError::Api {
                action,
                source: Box::new(source),
            }),
            Ok(Ok(value)) => Ok(value),
        }
    }

    async fn wait(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.deadline() => self.publish(),
        }
    }

    /// Ends when a leader's renew deadline passes; never for others.
    async fn deadline(&self) {
        match self.elector.renewed_at() {
            Some(renewed) if renewed + self.timing.renew_deadline > Instant::now() => {
                tokio::time::sleep_until(renewed + self.timing.renew_deadline).await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Until the next round: the retry period, or less when another's lease expires sooner.
    fn pause(&self, started: Instant) -> Duration {
        let now = Instant::now();
        let next = started + self.timing.retry;
        let next = match self.elector.step(now) {
            Step::Wait { until } => next.min(until),
            Step::Create | Step::Renew | Step::TakeOver => next,
        };
        // A refused or failing API server must not be asked in a hot loop.
        next.saturating_duration_since(now)
            .max(Duration::from_millis(50))
    }

    fn publish(&self) {
        let now = Instant::now();
        let next = match self.elector.standing(now) {
            Standing::Leading => Leadership::Leader,
            Standing::Doubtful => Leadership::Doubtful,
            Standing::CutOff => Leadership::CutOff,
            Standing::Standby | Standing::Deposed => Leadership::Standby {
                leader_address: self.elector.other_address(),
            },
        };
        if let Some(renewed) = self.elector.renewed_at().map(Instant::into_std) {
            self.renewed
                .send_if_modified(|seen| std::mem::replace(seen, renewed) != renewed);
        }
        self.leadership.send_if_modified(|seen| {
            let changed = *seen != next;
            if changed {
                tracing::info!(from = ?seen, to = ?next, "leadership");
            }
            *seen = next;
            changed
        });
    }

    /// Gives the lease back, so that a standby need not wait for it to expire.
    async fn release(&mut self) {
        let holds = self.elector.renewed_at().is_some()
            && matches!(self.elector.step(Instant::now()), Step::Renew);
        if !holds {
            return;
        }
        let lease = self.lease(None);
        self.leadership.send_replace(Leadership::Standby {
            leader_address: None,
        });
        match self.put(&lease).await {
            Ok(_) => tracing::info!("leader lease released"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "leader lease not released: it expires by itself");
            }
        }
    }

    /// The lease as it shall be stored; without a holder it is released.
    fn lease(&self, holder: Option<&str>) -> Lease {
        let seen = self.elector.record();
        let changed = seen.and_then(|r| r.holder.as_deref()) != holder;
        let transitions =
            seen.map_or(0, |r| r.transitions) + i32::from(changed && holder.is_some());
        let annotation = (
            names::ANNOTATION_LEADER_ADDRESS.to_owned(),
            self.candidate.address.clone(),
        );
        Lease {
            metadata: ObjectMeta {
                name: Some(names::OPERATOR_SERVICE.to_owned()),
                namespace: Some(self.candidate.namespace.clone()),
                resource_version: seen.and_then(|r| r.resource_version.clone()),
                annotations: holder.map(|_| [annotation].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds: Some(seconds(self.timing.duration)),
                lease_transitions: Some(transitions),
                renew_time: Some(MicroTime(Timestamp::now())),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

fn is_lost_race(error: &LeaseError) -> bool {
    match error {
        LeaseError::Timeout { .. } => false,
        LeaseError::Api { source, .. } => {
            matches!(source.as_ref(), kube::Error::Api(status) if status.is_conflict() || status.is_already_exists())
        }
    }
}

fn record_of(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let address = lease
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(names::ANNOTATION_LEADER_ADDRESS));
    Record {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        address: address.cloned(),
        renew_time: spec.renew_time.map(|time| time.0.to_string()),
        duration: spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
        transitions: spec.lease_transitions.unwrap_or_default(),
        resource_version: lease.metadata.resource_version.clone(),
    }
}
