//! What a replica counts; docs/metrics.md lists all of it, and a test compares the two. Labels come from enums, never from
//! text of errors or ids.

mod labels;
mod tables;

use std::time::Duration;

use kinora_storage::StoreErrorKind;
use kinora_storage::observe::{Observer, StoreCall};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

pub use labels::{
    Call, CallEnd, Class, FinishEnd, Limit, Rejection, Route, SweepEnd, Verb, Wait, WriterEnd,
    Written,
};

use crate::http::problem::Kind as Refusal;

/// A histogram for each set of labels.
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

macro_rules! label_sets {
    ($($(#[$meta:meta])* $name:ident { $($label:ident: $value:ty),+ })+) => {
        $($(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $name { $(#[allow(missing_docs, reason = "its type says it")] pub $label: $value),+ })+
    };
}

label_sets! {
    /// Labels of requests.
    Request { route: Route, method: Verb, status: Class }
    /// Label of refusals: the kind of the problem.
    Refused { reason: Refusal }
    /// Label of limits that were reached.
    Limited { limit: Limit }
    /// Label of rejected videos.
    Rejected { reason: Rejection }
    /// Label of finish sequences.
    Finish { outcome: FinishEnd }
    /// Label of passes of the sweeper.
    Sweep { outcome: SweepEnd }
    /// Label of what was written.
    Kind { kind: Written }
    /// Label of waits.
    On { on: Wait }
    /// Labels of calls to the store.
    StoreLabels { call: Call, outcome: CallEnd }
    /// Label of ends of writers.
    Writer { outcome: WriterEnd }
}

/// The uploader's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) requests: Family<Request, Counter>,
    pub(crate) refusals: Family<Refused, Counter>,
    pub(crate) limits_reached: Family<Limited, Counter>,
    pub(crate) videos_rejected: Family<Rejected, Counter>,
    pub(crate) finishes: Family<Finish, Counter>,
    pub(crate) writers: Family<Writer, Counter>,
    pub(crate) sweeps: Family<Sweep, Counter>,
    /// Body bytes received.
    pub received_bytes: Counter,
    pub(crate) stored_bytes: Family<Kind, Counter>,
    pub(crate) stored: Family<Kind, Counter>,
    pub(crate) waits: Histograms<On>,
    pub(crate) store_calls: Histograms<StoreLabels>,
    pub(crate) active_uploads: Gauge,
    pub(crate) active_writers: Gauge,
    pub(crate) unfinished_uploads: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) waiters: Gauge,
    pub(crate) budget_bytes: Gauge,
    pub(crate) budget_used_bytes: Gauge,
    pub(crate) budget_waiting: Gauge,
    pub(crate) pending: Gauge,
    pub(crate) stale_pending: Gauge,
    pub(crate) oldest_pending_seconds: Gauge,
    pub(crate) ready: Gauge,
    pub(crate) clock_skew_seconds: Gauge,
}

/// Counts one of what there is now, until it goes.
#[derive(Debug)]
pub struct Present(Gauge);

impl Present {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Counts an answered request.
    pub fn answered(&self, route: Route, method: Verb, status: Class) {
        let labels = Request {
            route,
            method,
            status,
        };
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts a refusal.
    pub fn refused(&self, reason: Refusal) {
        self.refusals.get_or_create(&Refused { reason }).inc();
    }

    /// Counts a request or a connection that a limit stops.
    pub fn limited(&self, limit: Limit) {
        self.limits_reached.get_or_create(&Limited { limit }).inc();
    }

    /// Counts the end of a finish sequence.
    pub fn finished(&self, finished: &kinora_upload_engine::finish::Finished) {
        let outcome = FinishEnd::from(finished);
        self.finishes.get_or_create(&Finish { outcome }).inc();
        if let kinora_upload_engine::finish::Finished::Rejected(reason) = finished {
            let reason = Rejection::of(reason);
            self.videos_rejected
                .get_or_create(&Rejected { reason })
                .inc();
        }
    }

    /// Counts the end of a writer.
    pub fn wrote(&self, outcome: WriterEnd) {
        self.writers.get_or_create(&Writer { outcome }).inc();
    }

    /// Counts a pass of the sweeper.
    pub fn swept(&self, outcome: SweepEnd) {
        self.sweeps.get_or_create(&Sweep { outcome }).inc();
    }

    /// Counts what was written for an upload.
    pub fn stored(&self, kind: Written, bytes: u64) {
        self.stored.get_or_create(&Kind { kind }).inc();
        self.stored_bytes
            .get_or_create(&Kind { kind })
            .inc_by(bytes);
    }

    /// Tells how long a request waited for something that is not its client.
    pub fn waited(&self, on: Wait, took: Duration) {
        self.waits
            .get_or_create(&On { on })
            .observe(took.as_secs_f64());
    }

    /// A request that brings bytes, until its end.
    #[must_use]
    pub fn uploading(&self) -> Present {
        Present::new(&self.active_uploads)
    }

    /// A connection, until it closes.
    #[must_use]
    pub fn connected(&self) -> Present {
        Present::new(&self.connections)
    }

    /// A request that waits for a video, until it is answered.
    #[must_use]
    pub fn waiting(&self) -> Present {
        Present::new(&self.waiters)
    }
}

impl Observer for Metrics {
    fn observed(&self, call: StoreCall, ended: Result<(), StoreErrorKind>, took: Duration) {
        let labels = StoreLabels {
            call: Call(call),
            outcome: ended.into(),
        };
        self.store_calls
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests;
