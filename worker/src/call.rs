//! One lease's call as a task: connect, ask for leave, send, follow, report. I/O; every ending becomes one event.

use std::time::Duration;

use kinora_protocol::dispatch::Lease;
use kinora_protocol::processing::Progress;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tracing::Instrument as _;

use crate::config::ServiceTarget;
use crate::machine::{AttemptKey, Event};
use crate::report::Report;
use crate::service;
use crate::trace;

/// Longer timeouts are cut to this, so that no arithmetic on time can overflow.
const MAX_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 3600);

/// A running call, as the driver holds it. Dropping it ends the call.
#[derive(Debug)]
pub struct Call {
    begin: Option<oneshot::Sender<()>>,
    stop: CancellationToken,
}

impl Call {
    /// Starts the task, as one of `tasks`. `received` is when the lease came: its timeout counts from there.
    #[must_use]
    pub fn spawn(
        service: ServiceTarget,
        key: AttemptKey,
        mut lease: Lease,
        received: Instant,
        events: mpsc::Sender<Event>,
        tasks: &TaskTracker,
    ) -> Self {
        let span = trace::begin(&mut lease);
        let (begin, begun) = oneshot::channel();
        let stop = CancellationToken::new();
        let token = stop.clone();
        let afterwards = tasks.clone();
        tasks.spawn(async move {
            let call = follow(
                service,
                key.clone(),
                lease,
                received,
                begun,
                events.clone(),
                afterwards,
            );
            let mut work = tokio::spawn(call.instrument(span.clone()));
            let event = tokio::select! {
                biased;
                () = token.cancelled() => {
                    work.abort();
                    // It is over, and what is to be told of it is among the tasks.
                    let _ = work.await;
                    Event::CallStopped(key)
                }
                ended = &mut work => {
                    let report = ended.unwrap_or_else(|_| {
                        // A panic of ours must not leave a slot taken for ever.
                        Report::found(Code::Internal, "the worker's call task failed")
                    });
                    trace::end(&span, &report);
                    Event::CallEnded(key, report)
                }
            };
            let _ = events.send(event).await;
        });
        Self {
            begin: Some(begin),
            stop,
        }
    }

    /// Lets the request go out.
    pub fn begin(&mut self) {
        if let Some(begin) = self.begin.take() {
            let _ = begin.send(());
        }
    }

    /// Ends the call; the stream to the service is reset.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn follow(
    service: ServiceTarget,
    key: AttemptKey,
    lease: Lease,
    received: Instant,
    begun: oneshot::Receiver<()>,
    events: mpsc::Sender<Event>,
    afterwards: TaskTracker,
) -> Report {
    let limit = Duration::from_millis(lease.timeout_ms).min(MAX_TIMEOUT);
    let deadline = received + limit;
    let seconds = limit.as_secs_f64();
    let beginning = async {
        let prepared = service::prepare(&service, lease, &afterwards).await?;
        let _ = events.send(Event::CallReady(key.clone())).await;
        if begun.await.is_err() {
            let message = "the worker gave the call up";
            return Err(Report::found(Code::Internal, message));
        }
        Ok(prepared)
    };
    // A service that nothing was sent to took no time: the video is not to blame.
    let begun = timeout_at(deadline, beginning).await.unwrap_or_else(|_| {
        let message = format!("the call could not begin within {seconds} s");
        Err(Report::found(Code::Unavailable, &message))
    });
    let prepared = match begun {
        Ok(prepared) => prepared,
        Err(report) => return report,
    };
    let remaining = deadline.saturating_duration_since(Instant::now());
    let running = prepared.run(remaining, |progress| {
        report_progress(&events, &key, progress);
    });
    timeout_at(deadline, running).await.unwrap_or_else(|_| {
        let message = format!("the call did not end within {seconds} s");
        Report::found(Code::DeadlineExceeded, &message)
    })
}

/// Progress is worth nothing once newer progress exists: a full queue drops it instead of slowing the stream down.
fn report_progress(events: &mpsc::Sender<Event>, key: &AttemptKey, progress: Progress) {
    let _ = events.try_send(Event::CallProgress {
        key: key.clone(),
        percent: progress.percent,
        step: progress.step,
    });
}
