//! What a simulated worker holds: the real worker's decisions, with a call in the place of the service that ends at once,
//! or when it is let go.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kinora_protocol::dispatch::{FromWorker, OutputResult, Succeeded, ToWorker, to_worker};
use kinora_worker::machine::{Action, AttemptKey, Event, Machine, Settings, Timings};
use kinora_worker::report::Report;
use tokio::sync::mpsc;

use super::book::Book;
use super::jobs::HELD;

const CRC: &str = "crc64nvme:b3l1S0pOWnM=";

/// See the module.
pub(super) struct Hands {
    worker: usize,
    machine: Machine,
    began: Instant,
    out: Option<mpsc::Sender<FromWorker>>,
    calls: HashMap<AttemptKey, Call>,
    let_go: bool,
    book: Arc<Book>,
}

/// A call of an attempt.
struct Call {
    /// It goes on until it is let go.
    held: bool,
    /// Names of what it makes.
    outputs: Vec<String>,
}

impl Hands {
    pub(super) fn new(worker: usize, slots: u32, book: Arc<Book>) -> Self {
        let settings = Settings {
            slots,
            instance: format!("{:032x}", rand::random::<u128>()),
            drain: Duration::ZERO,
            timings: Timings::default(),
        };
        Self {
            worker,
            machine: Machine::new(settings),
            began: Instant::now(),
            out: None,
            calls: HashMap::new(),
            let_go: false,
            book,
        }
    }

    /// A stream begins.
    pub(super) fn open(&mut self, out: mpsc::Sender<FromWorker>) {
        self.out = Some(out);
        self.step(Event::LinkOpened);
    }

    /// The stream is over.
    pub(super) fn close(&mut self) {
        self.out = None;
        self.step(Event::LinkClosed);
    }

    /// Whether the machine still wants the stream.
    pub(super) fn is_open(&self) -> bool {
        self.out.is_some()
    }

    /// When time alone changes something.
    pub(super) fn next_wake(&self) -> Instant {
        let wake = self.machine.next_wake().unwrap_or(Duration::from_mins(1));
        self.began + wake
    }

    /// Time passed.
    pub(super) fn tick(&mut self) {
        self.step(Event::Tick);
    }

    /// The operator said something.
    pub(super) fn receive(&mut self, message: ToWorker) {
        if let Some(to_worker::Message::Ack(ack)) = &message.message {
            self.book.acked(ack);
        }
        self.step(Event::Received(message));
    }

    /// Calls that are held end, and later ones end at once; or not any more.
    pub(super) fn let_go(&mut self, let_go: bool) {
        self.let_go = let_go;
        if !let_go {
            return;
        }
        let held = self.calls.iter_mut().filter(|(_, call)| call.held);
        let ending: Vec<_> = held
            .map(|(key, call)| {
                call.held = false;
                ended(key.clone(), &call.outputs)
            })
            .collect();
        for event in ending {
            self.step(event);
        }
    }

    fn step(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if let Event::CallEnded(key, _) | Event::CallStopped(key) = &event {
                self.calls.remove(key);
            }
            for action in self.machine.step(event, self.began.elapsed()) {
                events.extend(self.act(action));
            }
        }
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Send(message) => {
                let unread = |out: &mpsc::Sender<_>| out.try_send(message).is_err();
                if self.out.as_ref().is_some_and(unread) {
                    self.out = None;
                }
                None
            }
            Action::Prepare(lease) => {
                let key = AttemptKey::of(lease.attempt.as_ref())?;
                self.book.leased(self.worker, &lease);
                let held = lease.profile == HELD && !self.let_go;
                let outputs = lease.outputs.into_iter().map(|target| target.name);
                let outputs = outputs.collect();
                self.calls.insert(key.clone(), Call { held, outputs });
                Some(Event::CallReady(key))
            }
            Action::Begin(key) => {
                let call = self.calls.get(&key)?;
                (!call.held).then(|| ended(key, &call.outputs))
            }
            Action::Stop(key) => Some(Event::CallStopped(key)),
            Action::DropLink(_) => {
                self.out = None;
                None
            }
            Action::Exit { .. } => None,
        }
    }
}

/// The service has done it.
fn ended(key: AttemptKey, outputs: &[String]) -> Event {
    let output = |name: &String| OutputResult {
        name: name.clone(),
        size_bytes: 1 << 20,
        checksum: CRC.to_owned(),
        uri: String::new(),
    };
    let done = Succeeded {
        outputs: outputs.iter().map(output).collect(),
        result_json: String::new(),
    };
    Event::CallEnded(key, Report::succeeded(done))
}
