//! Starts what keeps control plane and store in step, and ends what is old: audit, redrives, cleaner. Each acts only while this
//! replica leads; a replica that is deposed ends with its process, as every other part of it does.

use std::sync::Arc;
use std::time::Duration;

use kinora_engine::event::History;
use tokio::sync::{Notify, mpsc, watch};

use super::Parts;
use crate::audit::past::WentBack;
use crate::audit::{self, AuditConfig};
use crate::cleaner::Cleaner;
use crate::core::Admission;
use crate::ports::{ForeignDeletion, Leadership, RedriveRequest};
use crate::redrive::{self, RedriveConfig};

/// The other ends of the core's channels, and what it publishes.
pub(super) struct Ends {
    pub(super) redrives: mpsc::Sender<RedriveRequest>,
    pub(super) history: watch::Sender<History>,
    pub(super) deletions: mpsc::Receiver<ForeignDeletion>,
    pub(super) losses: Arc<Notify>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) counted: watch::Receiver<Option<Admission>>,
    pub(super) went_back: WentBack,
}

impl Parts {
    pub(super) fn recover(&self, ends: Ends) {
        let upkeep = self.metrics.upkeep();
        tokio::spawn(audit::run(AuditConfig {
            client: self.client.clone(),
            store: self.store.clone(),
            cell: self.args.cell.clone(),
            jobs_namespace: self.args.jobs_namespace(),
            leadership: ends.leadership.clone(),
            admission: ends.counted,
            max_live_jobs: self.args.max_live_jobs,
            grace: Duration::from_secs(self.args.audit_grace_seconds),
            redrives: ends.redrives.clone(),
            deletions: ends.deletions,
            losses: ends.losses,
            history: ends.history,
            went_back: ends.went_back,
            upkeep: upkeep.clone(),
        }));
        tokio::spawn(redrive::run(RedriveConfig {
            client: self.client.clone(),
            store: self.store.clone(),
            requests: ends.redrives,
            leadership: ends.leadership.clone(),
            upkeep: upkeep.clone(),
        }));
        let cleaner = Cleaner {
            store: self.store.clone(),
            leadership: ends.leadership,
            days: self.args.retention_days,
            per_second: self.args.retention_deletes_per_second,
            ahead: jiff::SignedDuration::ZERO,
            upkeep,
        };
        tokio::spawn(cleaner.run());
    }
}
