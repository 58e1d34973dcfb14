//! The global budget of body bytes in memory. Bytes are taken for what was received, never while
//! waiting for a client, and given back when they are stored. When it is used up, the part nearest
//! to full goes on and the emptiest wait; whoever waited for 5 s flushes what it holds.

mod ledger;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::metrics::{Metrics, Wait};
use ledger::{HolderId, Ledger, Since, Ticket, Wish};

/// An upload that gets no memory for this long flushes what it holds and frees it.
pub const PRESSURE: Duration = Duration::from_secs(5);

/// The bytes that may be held; clones share them.
#[derive(Clone, Debug)]
pub struct Budget {
    book: Arc<Mutex<Book>>,
    patience: Duration,
    all: u64,
    metrics: Option<Arc<Metrics>>,
}

#[derive(Debug)]
struct Book {
    ledger: Ledger,
    calls: HashMap<u64, oneshot::Sender<()>>,
}

/// Bytes that are held, and the place in the line for more.
#[derive(Debug, Default)]
pub struct Held {
    share: Option<Share>,
    /// Since when it waits for memory, over wishes that were in vain.
    since: Option<Since>,
}

#[derive(Debug)]
struct Share {
    budget: Budget,
    holder: HolderId,
    bytes: u64,
}

impl Budget {
    /// A budget of so many bytes, of which `reserve` (one part) are kept for the part nearest to full.
    #[must_use]
    pub fn new(bytes: u64, reserve: u64) -> Self {
        Self {
            book: Arc::new(Mutex::new(Book {
                ledger: Ledger::new(bytes, reserve),
                calls: HashMap::new(),
            })),
            patience: PRESSURE,
            all: bytes,
            metrics: None,
        }
    }

    /// The same budget, its waits counted.
    #[must_use]
    pub fn counted(self, metrics: &Metrics) -> Self {
        let metrics = Some(Arc::new(metrics.clone()));
        Self { metrics, ..self }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `bytes` for a chunk that was received; false after 5 s without room.
    pub async fn take(&self, held: &mut Held, bytes: usize) -> bool {
        let more = bytes as u64;
        let share = held.share.get_or_insert_with(|| Share {
            budget: self.clone(),
            holder: self.book().ledger.number(),
            bytes: 0,
        });
        let (ticket, called) = {
            let mut book = self.book();
            let (holder, bytes) = (share.holder, share.bytes);
            match book.ledger.wish(holder, bytes, more, held.since) {
                Wish::Granted => {
                    share.bytes += more;
                    held.since = None;
                    return true;
                }
                Wish::Waits(ticket) => {
                    held.since.get_or_insert(ticket.number());
                    let (sender, receiver) = oneshot::channel();
                    book.calls.insert(ticket.number(), sender);
                    (ticket, receiver)
                }
            }
        };
        let mut waiting = Waiting {
            share,
            ticket,
            more,
            settled: false,
        };
        let begun = Instant::now();
        let _ = tokio::time::timeout(self.patience, called).await;
        if let Some(metrics) = &self.metrics {
            metrics.waited(Wait::Budget, begun.elapsed());
        }
        let granted = waiting.settle();
        if granted {
            held.since = None;
        }
        granted
    }

    /// Bytes there are, free or not.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.all
    }

    /// Bytes still free.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.book().ledger.free()
    }

    /// Requests that wait for memory.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.book().ledger.waiting()
    }

    /// Whether somebody waits for memory.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.book().ledger.is_pressed()
    }
}

impl Book {
    /// Calls those for whom there is room now.
    fn call(&mut self) {
        for ticket in self.ledger.serve() {
            if let Some(sender) = self.calls.remove(&ticket.number()) {
                // One that has just given up finds its bytes taken, and keeps them.
                let _ = sender.send(());
            }
        }
    }
}

/// A wish that waits; it is settled also when the one who waits is gone.
struct Waiting<'a> {
    share: &'a mut Share,
    ticket: Ticket,
    more: u64,
    settled: bool,
}

impl Waiting<'_> {
    fn settle(&mut self) -> bool {
        self.settled = true;
        let budget = self.share.budget.clone();
        let mut book = budget.book();
        if book.ledger.give_up(self.ticket) {
            book.calls.remove(&self.ticket.number());
            // The next in line may fit where this one did not.
            book.call();
            return false;
        }
        self.share.bytes += self.more;
        true
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.settle();
        }
    }
}

impl Held {
    /// Hands over all that is held: the bytes are gathered no more, but stay in memory. Whoever got
    /// no more keeps its place in the line.
    #[must_use]
    pub fn take(&mut self) -> Self {
        if let Some(share) = &self.share {
            let mut book = share.budget.book();
            book.ledger.hand_over(share.holder, share.bytes);
            // Another part is the fullest now.
            book.call();
        }
        Self {
            share: self.share.take(),
            ..Self::default()
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut book = self.budget.book();
        book.ledger.give_back(self.holder, self.bytes);
        book.call();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn memory_is_counted_until_it_is_given_back() {
        let budget = Budget::new(10, 0);
        let mut first = Held::default();
        let mut second = Held::default();
        assert!(budget.take(&mut first, 6).await);
        assert!(budget.take(&mut first, 2).await);
        assert!(
            budget.take(&mut second, 3).now_or_never().is_none(),
            "no room: it waits"
        );
        assert!(!budget.is_pressed(), "whoever went away waits no more");
        drop(first.take());
        assert!(budget.take(&mut second, 3).await, "room again");
        assert_eq!(budget.free(), 7);
    }

    #[tokio::test]
    async fn whoever_flushes_because_it_got_nothing_keeps_its_place() {
        let mut budget = Budget::new(10, 0);
        budget.patience = Duration::from_millis(1);
        let (mut full, mut held) = (Held::default(), Held::default());
        assert!(budget.take(&mut full, 10).await);
        assert!(!budget.take(&mut held, 1).await);
        let place = held.since;
        assert!(place.is_some());
        drop(held.take());
        assert!(!budget.take(&mut held, 1).await);
        assert_eq!(held.since, place, "a flush costs no place");
        drop(full);
        assert!(budget.take(&mut held, 1).await);
        assert_eq!(held.since, None, "the next wish has not waited");
    }

    #[tokio::test]
    async fn whoever_waits_too_long_is_told_to_flush() {
        let mut budget = Budget::new(10, 0);
        budget.patience = Duration::from_millis(20);
        let (mut first, mut second) = (Held::default(), Held::default());
        assert!(budget.take(&mut first, 9).await);
        assert!(!budget.take(&mut second, 2).await);
        assert!(budget.take(&mut second, 1).await, "what fits is given");
        budget.patience = Duration::from_secs(60);
        let (mut third, mut fourth) = (Held::default(), Held::default());
        let (a, b) = tokio::join!(budget.take(&mut third, 2), async {
            tokio::task::yield_now().await;
            drop(first);
            budget.take(&mut fourth, 3).await
        });
        assert!(a && b, "memory that is given back wakes who waits");
        assert_eq!(budget.free(), 4);
        drop((second, third, fourth));
        assert_eq!(budget.free(), 10);
    }

    /// A client's life with the budget: bytes come in chunks up to `length`; a whole part is stored, and so is what a
    /// client holds when it gets no room, or stops.
    async fn send(budget: &Budget, length: usize) -> usize {
        const PART: usize = 8 << 20;
        const CHUNK: usize = 64 << 10;
        let mut held = Held::default();
        let (mut sent, mut part) = (0, 0);
        while sent < length {
            let chunk = CHUNK.min(length - sent).min(PART - part);
            if !budget.take(&mut held, chunk).await {
                // Flushed and freed; the chunk goes on later.
                drop(held.take());
                tokio::task::yield_now().await;
                continue;
            }
            (sent, part) = (sent + chunk, part + chunk);
            if part == PART {
                let stored = held.take();
                tokio::time::sleep(Duration::from_millis(1)).await;
                drop(stored);
                part = 0;
            }
        }
        // It stops here, and is flushed when that is noticed.
        tokio::time::sleep(Duration::from_millis(5)).await;
        sent
    }

    /// Eight times the memory there is, in clients that stop just before the end of a part: each is flushed or goes on,
    /// and one that is well is done among them.
    /// covers: F6, F7
    #[tokio::test]
    async fn two_hundred_clients_parked_just_before_a_full_part_stop_nobody() {
        const MEMORY: u64 = 192 << 20;
        let mut budget = Budget::new(MEMORY, 8 << 20);
        budget.patience = Duration::from_millis(50);
        let parked = 79 * (1 << 20) / 10;
        let all = futures::future::join_all((0..200).map(|_| send(&budget, parked)));
        let healthy = send(&budget, 21 << 20);
        let both = async { tokio::join!(all, healthy) };
        let done = tokio::time::timeout(Duration::from_secs(120), both).await;
        let (all, healthy) = done.expect("somebody starves");
        assert!(all.iter().all(|sent| *sent == parked));
        assert_eq!(healthy, 21 << 20);
        assert_eq!(budget.free(), MEMORY, "all memory came back");
    }
}
