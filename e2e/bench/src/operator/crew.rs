//! All simulated workers: they come, are cut off, fall silent, and go.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::pool::Seat;
use super::replica::ADDRESSES;
use super::worker::Simulated;

const ALL_WITHIN: Duration = Duration::from_secs(90);

struct Member {
    task: JoinHandle<()>,
    frozen: CancellationToken,
}

/// See the module.
pub(crate) struct Crew {
    members: Vec<Member>,
    seats: Vec<Seat>,
    slots: u32,
    pub(crate) book: Arc<Book>,
    let_go: watch::Sender<bool>,
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &self.members {
            member.task.abort();
        }
    }
}

impl Crew {
    /// One worker on each seat.
    pub(crate) fn start(seats: Vec<Seat>, slots: u32) -> Self {
        let mut crew = Self {
            members: Vec::new(),
            slots,
            book: Arc::default(),
            let_go: watch::Sender::new(false),
            seats,
        };
        crew.members = (0..crew.seats.len()).map(|at| crew.member(at)).collect();
        crew
    }

    fn member(&self, number: usize) -> Member {
        let frozen = CancellationToken::new();
        let worker = Simulated {
            number,
            slots: self.slots,
            target: self.seats[number].target.clone(),
            addresses: ADDRESSES.map(str::to_owned).into(),
            book: self.book.clone(),
            let_go: self.let_go.subscribe(),
            frozen: frozen.clone(),
        };
        Member {
            task: tokio::spawn(worker.run()),
            frozen,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Cuts a worker off for good, as the kernel does with a killed one.
    pub(crate) fn cut(&mut self, number: usize) {
        self.members[number].task.abort();
        self.book.connected(number, false);
    }

    /// The worker says nothing any more; its connection stays.
    pub(crate) fn freeze(&mut self, number: usize) {
        self.members[number].frozen.cancel();
    }

    /// A new process in the pod of one that was cut off or froze.
    pub(crate) fn replace(&mut self, number: usize) {
        self.cut(number);
        self.members[number] = self.member(number);
    }

    /// Calls that are held end, and so do later ones at once; or not any more.
    pub(crate) fn let_go(&self, let_go: bool) {
        self.let_go.send_replace(let_go);
    }

    /// Waits until everybody has a stream.
    pub(crate) async fn all_connected(&self) -> Result<()> {
        let deadline = Instant::now() + ALL_WITHIN;
        while self.book.connections() < self.len() {
            let (there, all) = (self.book.connections(), self.len());
            ensure!(
                Instant::now() < deadline,
                "only {there} of {all} workers reached the operator"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}
