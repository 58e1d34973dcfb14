//! What every request shares.

use std::time::Duration;

use kinora_storage::{Cell, Store, UploadId};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::auth::Auth;
use crate::budget::Budget;
use crate::drive::Turns;
use crate::erase::ErasePolicy;
use crate::hints::Hints;
use crate::http::interim::InterimResponses;
use crate::http::videos::wait::Waits;
use crate::janitor::Janitor;
use crate::jobs::Jobs;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::profiles::Profiles;
use crate::ready::Ready;
use crate::sweep::Pace;
use crate::writers::Writers;

/// One replica.
pub struct App {
    /// The object store.
    pub store: Store,
    /// The cell that new ids belong to.
    pub cell: Cell,
    /// Kubernetes.
    pub jobs: Jobs,
    /// Namespace of the jobs.
    pub jobs_namespace: String,
    /// Who is let in.
    pub auth: Auth,
    /// How much each may do.
    pub limits: Limits,
    /// What may be asked for.
    pub profiles: Profiles,
    /// What is done with wishes to erase.
    pub erase: ErasePolicy,
    /// Base of absolute Locations.
    pub public_url: Option<String>,
    /// When informational answers are sent.
    pub interim_responses: InterimResponses,
    /// A connection without a request is closed after this.
    pub idle: Duration,
    /// Who writes here.
    pub writers: Writers,
    /// States that were closed here last.
    pub hints: Hints,
    /// Who waits for news of a video.
    pub waits: Waits,
    /// Memory for bodies.
    pub budget: Budget,
    /// Memory for slices that are read back.
    pub turns: Turns,
    /// Memory for finished objects that are read back.
    pub object_turns: Turns,
    /// Who cleans up.
    pub janitor: Janitor,
    /// Whether the operator wants more.
    pub admission: Admission,
    /// How fast sweeps make jobs.
    pub pace: Pace,
    /// Counters.
    pub metrics: Metrics,
    /// Whether this replica is ready.
    pub ready: Ready,
    /// Cancelled when writers have to close, as the process ends.
    pub closing: CancellationToken,
    /// Work that outlives its connection: writing, finishing.
    pub tasks: TaskTracker,
}

impl App {
    /// The time by the store's clock, in milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.store.now().as_millisecond()).unwrap_or_default()
    }

    /// A new id, by the store's clock.
    #[must_use]
    pub fn mint(&self) -> UploadId {
        UploadId::from_parts(&self.cell, self.now_ms(), rand::random())
    }

    /// `path`, absolute if a public URL is configured.
    #[must_use]
    pub fn location(&self, path: &str) -> String {
        match &self.public_url {
            Some(base) => format!("{}{path}", base.trim_end_matches('/')),
            None => path.to_owned(),
        }
    }

    /// Runs work to its end even when the client's connection goes; an error when it panicked.
    pub fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        // Begun here, so that whoever waits does not have room for all of the work too.
        self.tasks.spawn(crate::trace::carried(work))
    }
}
