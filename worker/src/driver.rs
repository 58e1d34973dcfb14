//! Feeds the machine and does what it says, in order. The only place of this crate that asks the clock for decisions.

use std::collections::HashMap;
use std::time::Duration;

use kinora_protocol::dispatch::{FromWorker, Lease, from_worker};
use rand::Rng;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::call::Call;
use crate::config::Config;
use crate::link::{Link, LinkEvent};
use crate::machine::{Action, AttemptKey, DropReason, Event, Machine, Settings};
use crate::metrics::Metrics;
use crate::report::Report;

/// For what is told to the service at the end.
const PARTING: Duration = Duration::from_secs(4);

/// How the worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Outcomes that no operator acknowledged; the operator finds out by silence.
    pub unacknowledged: usize,
}

/// Runs until a termination is through. Each message of `terminate` is one SIGTERM.
pub async fn run(config: Config, metrics: Metrics, mut terminate: mpsc::Receiver<()>) -> Exit {
    let slots = config.slots as usize;
    let (link_events, mut from_link) = mpsc::channel(256);
    let (call_events, mut from_calls) = mpsc::channel(64 + 4 * slots);
    let link = Link::new(
        config.operator.clone(),
        config.reconnect,
        1024 + 4 * slots,
        link_events,
    );
    tokio::spawn(link.run());
    let mut driver = Driver::new(config, metrics, call_events);
    let mut terminations = true;
    loop {
        let wake = driver.machine.next_wake().map(|at| driver.started + at);
        let event = tokio::select! {
            signal = terminate.recv(), if terminations => {
                terminations = signal.is_some();
                signal.map(|()| Event::Terminate)
            }
            Some(event) = from_calls.recv() => Some(driver.of_call(event)),
            Some(event) = from_link.recv() => driver.of_link(event),
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => Some(Event::Tick),
        };
        if let Some(event) = event
            && let Some(exit) = driver.step(event)
        {
            // Nobody reads the events of calls any more: none of them waits to send one.
            drop(from_calls);
            driver.part().await;
            return exit;
        }
    }
}

struct Present {
    generation: u64,
    outbound: mpsc::Sender<FromWorker>,
    close: CancellationToken,
}

struct Driver {
    config: Config,
    metrics: Metrics,
    machine: Machine,
    started: Instant,
    present: Option<Present>,
    calls: HashMap<AttemptKey, (Call, Instant)>,
    call_events: mpsc::Sender<Event>,
    /// Calls, and what is still to be told about them.
    tasks: TaskTracker,
}

impl Driver {
    fn new(config: Config, metrics: Metrics, call_events: mpsc::Sender<Event>) -> Self {
        let settings = Settings {
            slots: config.slots,
            instance: format!("{:032x}", rand::rng().random::<u128>()),
            drain: config.drain,
            timings: config.timings.clone(),
        };
        info!(
            instance = settings.instance,
            slots = settings.slots,
            "worker starts"
        );
        Self {
            config,
            metrics,
            machine: Machine::new(settings),
            started: Instant::now(),
            present: None,
            calls: HashMap::new(),
            call_events,
            tasks: TaskTracker::new(),
        }
    }

    /// Services are told of calls that are given up; one that does not listen is not waited for.
    async fn part(&mut self) {
        self.calls.clear();
        self.tasks.close();
        // Each has a limit of its own, a little below this one.
        let _ = timeout(PARTING, self.tasks.wait()).await;
    }

    fn of_link(&mut self, event: LinkEvent) -> Option<Event> {
        let present = self.present.as_ref().map(|p| p.generation);
        match event {
            LinkEvent::Opened {
                generation,
                outbound,
                close,
            } => {
                self.present = Some(Present {
                    generation,
                    outbound,
                    close,
                });
                self.metrics.opened();
                Some(Event::LinkOpened)
            }
            LinkEvent::Received {
                generation,
                message,
            } => (present == Some(generation)).then_some(Event::Received(*message)),
            LinkEvent::Closed { generation } => (present == Some(generation)).then(|| {
                self.forget_link();
                Event::LinkClosed
            }),
        }
    }

    fn of_call(&mut self, event: Event) -> Event {
        match &event {
            Event::CallEnded(key, report) => {
                if let Some((_, since)) = self.calls.remove(key) {
                    self.metrics.called(since.elapsed().as_secs_f64());
                }
                log_end(key, report);
            }
            Event::CallStopped(key) => {
                self.calls.remove(key);
                info!(job_uid = key.job_uid, attempt = key.attempt, "call stopped");
            }
            _ => {}
        }
        event
    }

    fn step(&mut self, event: Event) -> Option<Exit> {
        let now: Duration = self.started.elapsed();
        let before = self.machine.counts();
        for action in self.machine.step(event, now) {
            match action {
                Action::Send(message) => self.send(message),
                Action::Prepare(lease) => self.prepare(lease),
                Action::Begin(key) => {
                    if let Some((call, _)) = self.calls.get_mut(&key) {
                        call.begin();
                    }
                }
                Action::Stop(key) => self.stop(&key),
                Action::DropLink(reason) => self.drop_link(reason),
                Action::Exit { unacknowledged } => return Some(Exit { unacknowledged }),
            }
        }
        let after = self.machine.counts();
        if before != after {
            self.metrics.in_hand(after.held, after.unacked);
        }
        None
    }

    fn prepare(&mut self, lease: Lease) {
        let Some(key) = AttemptKey::of(lease.attempt.as_ref()) else {
            return;
        };
        info!(
            job = lease.name,
            job_uid = key.job_uid,
            attempt = key.attempt,
            timeout_ms = lease.timeout_ms,
            "lease taken"
        );
        self.metrics.leased();
        let received = Instant::now();
        let call = Call::spawn(
            self.config.service.clone(),
            key.clone(),
            lease,
            received,
            self.call_events.clone(),
            &self.tasks,
        );
        self.calls.insert(key, (call, received));
    }

    fn stop(&mut self, key: &AttemptKey) {
        if let Some((call, _)) = self.calls.get(key) {
            call.stop();
        }
    }

    /// Never waits: an operator that does not read is as good as gone.
    fn send(&mut self, message: FromWorker) {
        if let Some(from_worker::Message::Outcome(outcome)) = &message.message
            && let Some(fact) = &outcome.fact
        {
            self.metrics.ended(fact);
        }
        let Some(present) = &self.present else {
            return;
        };
        if present.outbound.try_send(message).is_err() {
            warn!("the operator does not read; giving the stream up");
            present.close.cancel();
        }
    }

    fn drop_link(&mut self, reason: DropReason) {
        match reason {
            DropReason::Silence => warn!("the operator is silent; making a new stream"),
            DropReason::Gap => warn!("a message of the operator is missing; making a new stream"),
        }
        if let Some(present) = &self.present {
            present.close.cancel();
        }
        self.forget_link();
    }

    fn forget_link(&mut self) {
        self.present = None;
        self.metrics.closed();
    }
}

fn log_end(key: &AttemptKey, report: &Report) {
    info!(
        job_uid = key.job_uid,
        attempt = key.attempt,
        fact = report.summary(),
        message = report.message,
        "call ended"
    );
}
