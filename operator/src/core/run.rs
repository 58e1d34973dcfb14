//! The serial task: takes one input after the other, asks the engine, starts what it says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kinora_engine::action::Cause;
use kinora_engine::event::History;
use kinora_engine::{Action, Engine, Event, Mono, Now, Phase, Reason, Token, Wall};
use kinora_protocol::dispatch::dispatch_server::DispatchServer;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::act::{Actor, Done};
use super::dispatch::{DispatchService, Said};
use super::handle::{Admission, CoreConfig, CoreCounters, CoreHandle};
use super::memory::Memory;
use super::observe::{Seen, watch_jobs};
use super::stored::{self, StoreQueues};
use super::trace::Traces;
use super::translate::{Terms, uid_of};
use super::view;
use super::writes::WriteQueues;
use crate::ports::{
    Backlog, CoreCommand, ForeignDeletion, Leadership, PodEvent, PoolEvent, RedriveRequest,
};

/// How often time passes for the engine.
const TICK: Duration = Duration::from_millis(100);
/// How often counts are published at most.
const PUBLISH: Duration = Duration::from_millis(250);
/// Further apart than this, our clock and the store's must not sign together.
const MAX_SKEW_SECONDS: u64 = 60;
/// Once they were, they must be nearer than this before they do again: both are read in whole seconds, and differ by one in turn.
const TRUSTED_SKEW_SECONDS: u64 = 55;
/// Longest message of a worker, in bytes.
const MAX_MESSAGE: usize = 1024 * 1024;
/// Longest wait of the watch and of streams for the core.
const INPUTS: usize = 4096;

/// The serial task's state.
pub(super) struct Core {
    pub(super) engine: Engine,
    pub(super) memory: Memory,
    pub(super) actor: Actor,
    pub(super) counters: Arc<CoreCounters>,
    pub(super) traces: Traces,
    pub(super) leadership: Leadership,
    /// Writes under way, to be counted once they are confirmed.
    pub(super) writing: HashMap<Token, (Cause, Phase, Reason)>,
    pub(super) queues: StoreQueues,
    pub(super) writes: WriteQueues,
    started: Instant,
    backlog: watch::Sender<Backlog>,
    admission: watch::Sender<Admission>,
    synced: watch::Sender<bool>,
    published: Instant,
    clock_trusted: bool,
    pub(super) deletions: mpsc::Sender<ForeignDeletion>,
    pub(super) losses: Arc<Notify>,
    went_back: CancellationToken,
}

/// Whether a clock that was trusted, or was not, is to be now.
fn is_trusted(was: bool, skew_seconds: Option<i64>) -> bool {
    let most = if was {
        MAX_SKEW_SECONDS
    } else {
        TRUSTED_SKEW_SECONDS
    };
    skew_seconds.is_none_or(|skew| skew.unsigned_abs() <= most)
}

type Published = (
    watch::Sender<Backlog>,
    watch::Sender<Admission>,
    watch::Sender<bool>,
);

struct Inputs {
    seen: mpsc::Receiver<Seen>,
    said: mpsc::Receiver<Said>,
    done: mpsc::UnboundedReceiver<Done>,
    pods: mpsc::Receiver<PodEvent>,
    pools: mpsc::Receiver<PoolEvent>,
    commands: mpsc::Receiver<CoreCommand>,
    redrives: mpsc::Receiver<RedriveRequest>,
    history: watch::Receiver<History>,
    leadership: watch::Receiver<Leadership>,
    renewed: watch::Receiver<Instant>,
    stop: CancellationToken,
}

/// Starts the core.
#[must_use]
pub fn spawn(config: CoreConfig) -> CoreHandle {
    let counters = Arc::new(CoreCounters::default());
    let (backlog, backlog_out) = watch::channel(Backlog::default());
    let (admission, admission_out) = watch::channel(Admission::default());
    let (synced, synced_out) = watch::channel(false);
    let (said_in, said) = mpsc::channel(INPUTS);
    let (done_in, done) = mpsc::unbounded_channel();
    let service = DispatchService::new(
        config.authenticate.clone(),
        config.leadership.clone(),
        said_in,
        counters.clone(),
    );
    let went_back = CancellationToken::new();
    let core = Core::new(
        &config,
        went_back.clone(),
        counters.clone(),
        done_in,
        (backlog, admission, synced),
    );
    let inputs = Inputs::new(config, said, done);
    CoreHandle {
        backlog: backlog_out,
        admission: admission_out,
        synced: synced_out,
        counters,
        went_back,
        dispatch: DispatchServer::new(service).max_decoding_message_size(MAX_MESSAGE),
        task: tokio::spawn(core.run(inputs)),
    }
}

impl Inputs {
    /// Starts the watch; takes over every other input.
    fn new(
        config: CoreConfig,
        said: mpsc::Receiver<Said>,
        done: mpsc::UnboundedReceiver<Done>,
    ) -> Inputs {
        let (seen_in, seen) = mpsc::channel(INPUTS);
        tokio::spawn(watch_jobs(
            config.client,
            config.namespace,
            seen_in,
            config.stop.clone(),
        ));
        Inputs {
            seen,
            said,
            done,
            pods: config.pods,
            pools: config.pools,
            commands: config.commands,
            redrives: config.redrives,
            history: config.history,
            leadership: config.leadership,
            renewed: config.renewed,
            stop: config.stop,
        }
    }
}

impl Core {
    fn new(
        config: &CoreConfig,
        went_back: CancellationToken,
        counters: Arc<CoreCounters>,
        done: mpsc::UnboundedSender<Done>,
        (backlog, admission, synced): Published,
    ) -> Core {
        let terms = Terms {
            upload_ttl_floor: Duration::from_secs(config.upload_ttl_floor_seconds.into()),
        };
        let actor = Actor::new(
            config.client.clone(),
            (config.store.clone(), config.attempt_pods.clone()),
            config.renewed.clone(),
            counters.clone(),
            done,
        );
        Core {
            engine: Engine::new(),
            memory: Memory::new(terms),
            actor,
            counters,
            traces: Traces::default(),
            leadership: Leadership::Standby {
                leader_address: None,
            },
            writing: HashMap::new(),
            queues: stored::queues(),
            writes: WriteQueues::new(),
            started: Instant::now(),
            backlog,
            admission,
            synced,
            published: Instant::now(),
            clock_trusted: true,
            deletions: config.deletions.clone(),
            losses: config.losses.clone(),
            went_back,
        }
    }
}

impl Core {
    async fn run(mut self, mut inputs: Inputs) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // Before leadership: whoever leads must know what it may touch.
        let history = *inputs.history.borrow_and_update();
        self.step(Event::History(history));
        inputs.leadership.mark_changed();
        loop {
            tokio::select! {
                () = inputs.stop.cancelled() => return self.end(),
                _ = tick.tick() => self.on_tick(),
                Some(done) = inputs.done.recv() => self.on_done(done),
                Some(said) = inputs.said.recv() => self.on_said(said),
                Some(seen) = inputs.seen.recv() => self.on_seen(seen),
                Some(event) = inputs.pods.recv() => self.on_pod(event),
                Some(event) = inputs.pools.recv() => self.on_pool(event),
                Some(command) = inputs.commands.recv() => self.on_command(&command),
                Some(request) = inputs.redrives.recv() => self.on_redrive(request),
                Ok(()) = inputs.history.changed() => {
                    let history = *inputs.history.borrow_and_update();
                    self.step(Event::History(history));
                }
                Ok(()) = inputs.leadership.changed() => {
                    let leadership = inputs.leadership.borrow_and_update().clone();
                    self.on_leadership(leadership);
                }
                Ok(()) = inputs.renewed.changed() => {
                    self.step(Event::Alive);
                }
            }
        }
    }

    /// Workers go to whoever leads next; what is under way is judged there.
    fn end(&mut self) {
        for (_, line) in self.memory.lines.drain() {
            let _ = line.out.try_send(Err(tonic::Status::unavailable(
                "the operator is shutting down",
            )));
            line.hang_up.cancel();
        }
    }

    fn now(&self) -> Now {
        let mono = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now {
            mono: Mono(mono),
            wall: Wall(Timestamp::now().as_millisecond()),
        }
    }

    /// One event: decided, then acted upon. Nothing is decided by a clock that jumped before that was told.
    pub(super) fn step(&mut self, event: Event) {
        self.check_clock();
        self.decide(event);
    }

    /// Nothing once the control plane went back: what is known is of a past that is gone, and this process ends.
    fn decide(&mut self, event: Event) {
        if self.went_back.is_cancelled() {
            return;
        }
        let now = self.now();
        let actions = self.engine.step(event, now, &mut rand::rng());
        if self.engine.history_went_back() {
            tracing::error!(
                "the API server answers with a past that was already left: starting afresh"
            );
            return self.went_back.cancel();
        }
        for action in actions {
            self.act(action, now);
        }
    }

    /// URLs signed by a clock that is off are refused by the store, or valid for too long.
    fn check_clock(&mut self) {
        let skew = self.actor.clock_skew_seconds();
        let trusted = is_trusted(self.clock_trusted, skew);
        if trusted != self.clock_trusted {
            self.clock_trusted = trusted;
            tracing::error!(
                skew,
                trusted,
                "clock against the store's; without trust nothing is leased"
            );
            self.decide(Event::ClockTrusted(trusted));
        }
    }

    fn on_redrive(&mut self, request: RedriveRequest) {
        let (job, by) = (uid_of(&request.job_uid), uid_of(&request.by));
        self.memory.redrives.insert((job, by), request.reply);
        self.step(Event::Redrive { job, by });
    }

    fn on_tick(&mut self) {
        self.step(Event::Tick);
        if self.published.elapsed() >= PUBLISH {
            self.published = Instant::now();
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.publish_gauges();
        let backlog = view::backlog(&self.engine, &self.memory, self.now());
        let admission = Admission {
            live: self.engine.live_uploads(),
        };
        self.backlog.send_if_modified(|known| {
            let changed = **known != backlog;
            if changed {
                *known = Arc::new(backlog);
            }
            changed
        });
        self.admission.send_if_modified(|known| {
            let changed = *known != admission;
            *known = admission;
            changed
        });
        let is_synced = self.engine.is_synced();
        self.synced
            .send_if_modified(|known| std::mem::replace(known, is_synced) != is_synced);
    }

    fn act(&mut self, action: Action, now: Now) {
        match action {
            Action::Write { .. } | Action::Read { .. } | Action::Delete { .. } | Action::Pod(_) => {
                self.act_on_api(action, now.wall);
            }
            Action::Prepare { .. }
            | Action::CheckOutputs { .. }
            | Action::CheckSource { .. }
            | Action::ReadRecord { .. }
            | Action::WriteRecord { .. }
            | Action::Reactivate { .. }
            | Action::Clean { .. } => self.act_on_store(action),
            Action::Redriven { job, by, outcome } => {
                if let Some(reply) = self.memory.redrives.remove(&(job, by)) {
                    let _ = reply.send(outcome);
                }
            }
            Action::Send {
                session,
                seq,
                message,
            } => self.send(session, seq, message),
            Action::Close { session, why } => self.close(session, why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_at_the_border_is_not_trusted_and_distrusted_in_turn() {
        let mut trusted = true;
        let mut changes = 0;
        for skew in [0, 60, 61, 60, 61, -60, -61, 56, 55, 60, -60] {
            let next = is_trusted(trusted, Some(skew));
            changes += u32::from(next != trusted);
            trusted = next;
        }
        assert_eq!((trusted, changes), (true, 2));
        assert!(is_trusted(false, None));
    }
}
