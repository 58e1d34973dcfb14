//! Calls that wait. One becomes a task only once it may run: after a fail-over every ended job has one to the store, and when a
//! pool goes, every job of its backlog has one to the API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

struct Queue<T> {
    free: Arc<Semaphore>,
    waiting: BTreeMap<u64, T>,
    last: u64,
}

impl<T> Queue<T> {
    fn next(&mut self) -> Option<(T, OwnedSemaphorePermit)> {
        let first = self.waiting.first_entry()?;
        let permit = self.free.clone().try_acquire_owned().ok()?;
        Some((first.remove(), permit))
    }
}

/// Lines of calls: each waits only behind others of its kind.
pub(super) struct Queues<T, const LINES: usize>([Queue<T>; LINES]);

impl<T, const LINES: usize> Queues<T, LINES> {
    /// Of each line so many calls run at once.
    pub(super) fn new(at_once: [usize; LINES]) -> Queues<T, LINES> {
        Queues(at_once.map(|permits| Queue {
            free: Arc::new(Semaphore::new(permits)),
            waiting: BTreeMap::new(),
            last: 0,
        }))
    }

    /// It is the last of its line from now on; gives its number there.
    pub(super) fn push(&mut self, line: usize, call: T) -> u64 {
        let queue = &mut self.0[line];
        queue.last += 1;
        queue.waiting.insert(queue.last, call);
        queue.last
    }

    /// A call that may run now, as long as its permit is held.
    pub(super) fn next(&mut self) -> Option<(T, OwnedSemaphorePermit)> {
        self.0.iter_mut().find_map(Queue::next)
    }

    /// It will not run, if it did not yet.
    pub(super) fn remove(&mut self, line: usize, number: u64) {
        self.0[line].waiting.remove(&number);
    }

    /// What did not run yet never does.
    pub(super) fn clear(&mut self) {
        for queue in &mut self.0 {
            queue.waiting = BTreeMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_run_than_their_line_allows_and_no_line_waits_for_another() {
        let mut queues = Queues::new([2, 1]);
        for call in 0..4 {
            queues.push(0, call);
        }
        queues.push(1, 10);
        let running: Vec<_> = std::iter::from_fn(|| queues.next()).collect();
        let calls: Vec<_> = running.iter().map(|(call, _)| *call).collect();
        assert_eq!(calls, [0, 1, 10]);
        drop(running);
        let (call, _permit) = queues.next().unwrap();
        assert_eq!(call, 2);
    }

    #[test]
    fn one_that_is_removed_takes_no_permit() {
        let mut queues = Queues::new([1]);
        let first = queues.push(0, 1);
        queues.push(0, 2);
        queues.remove(0, first);
        let (call, permit) = queues.next().unwrap();
        assert_eq!(call, 2);
        queues.push(0, 3);
        queues.clear();
        drop(permit);
        assert!(queues.next().is_none());
    }
}
