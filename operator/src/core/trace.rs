//! Traces of attempts: from the annotation that the upload left on its job to the lease, and so to the worker and the service.
//!
//! A span begins when a lease is pushed and ends when the attempt's end is stored; what a worker reports is a span below it. Without
//! a collector nothing is kept, and the annotation's trace goes on as it is.

use std::collections::HashMap;

use kinora_crds::{VideoJob, names};
use kinora_engine::action::Cause;
use kinora_engine::outcome::Class;
use kinora_engine::{AttemptId, Uid};
use kinora_telemetry::Traceparent;
use tracing::{Span, field};

use super::run::Core;
use super::translate::{class_word, uid_text};

/// The spans of leased attempts.
#[derive(Debug, Default)]
pub(super) struct Traces {
    open: HashMap<Uid, Open>,
}

#[derive(Debug)]
struct Open {
    attempt: u32,
    span: Span,
    finish: Option<Span>,
}

impl Traces {
    /// A lease is about to be pushed; gives the `traceparent` that goes with it, empty for none.
    pub(super) fn begin(&mut self, job: &VideoJob, id: AttemptId, pool: &str) -> String {
        let annotations = job.metadata.annotations.as_ref();
        let asked = annotations
            .and_then(|all| all.get(names::ANNOTATION_TRACEPARENT))
            // Whoever declares a job writes what he likes.
            .and_then(|text| Traceparent::parse(text));
        let mut current = asked.clone();
        if kinora_telemetry::is_on() {
            let span = tracing::debug_span!(
                "attempt",
                otel.kind = "producer",
                otel.status_code = field::Empty,
                kinora.job.name = job.metadata.name,
                kinora.job.uid = uid_text(id.job),
                kinora.attempt = id.attempt,
                kinora.pool = pool,
                kinora.outcome = field::Empty,
            );
            if let Some(parent) = &asked {
                parent.adopt(&span);
            }
            current = Traceparent::of(&span).or(asked);
            let open = Open {
                attempt: id.attempt,
                span,
                finish: None,
            };
            self.open.insert(id.job, open);
        }
        current.map_or_else(String::new, |trace| trace.as_str().to_owned())
    }

    /// Its worker reported an outcome.
    pub(super) fn reported(&mut self, id: AttemptId) {
        if let Some(open) = self.open.get_mut(&id.job)
            && open.attempt == id.attempt
            && open.finish.is_none()
        {
            open.finish = Some(tracing::debug_span!(parent: &open.span, "finish"));
        }
    }

    /// The end of an attempt is stored.
    pub(super) fn ended(&mut self, job: Uid, class: Option<Class>) {
        let Some(Open { span, finish, .. }) = self.open.remove(&job) else {
            return;
        };
        drop(finish);
        let outcome = class.map_or("Ended", class_word);
        span.record("kinora.outcome", outcome);
        if class.is_some_and(|class| class != Class::Succeeded) {
            span.record("otel.status_code", "ERROR");
        }
    }
}

impl Core {
    /// The span of an attempt ends with the write that ends it.
    pub(super) fn trace_written(&mut self, job: Uid, cause: Cause) {
        match cause {
            Cause::Ended(class) | Cause::Reclaimed(class) => self.traces.ended(job, Some(class)),
            Cause::Cancelled | Cause::Expired | Cause::SourceGone => self.traces.ended(job, None),
            Cause::Observed
            | Cause::Blocked
            | Cause::Suspension
            | Cause::Claimed
            | Cause::Placed
            | Cause::Progress(_)
            | Cause::Redriven => {}
        }
    }
}
