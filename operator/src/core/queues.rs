//! Calls that wait for the store. One becomes a task only once it may run: after a fail-over every ended job has one.

use std::collections::VecDeque;
use std::sync::Arc;

use kinora_engine::Action;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Where a call waits: only behind others of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// An attempt that ended waits for it, or a redrive.
    Pressing,
    /// Records of jobs that can go on only then.
    Open,
    /// Records to write, and what they make superfluous.
    Filing,
    /// Records of ended jobs, that nobody waits for.
    Ended,
}

impl Line {
    const ALL: [Line; 4] = [Line::Pressing, Line::Open, Line::Filing, Line::Ended];

    /// How many of its calls run at once.
    const fn at_once(self) -> usize {
        match self {
            Line::Pressing | Line::Filing => 16,
            Line::Open | Line::Ended => 8,
        }
    }
}

struct Queue {
    free: Arc<Semaphore>,
    waiting: VecDeque<Action>,
}

/// One queue for each [`Line`].
pub(super) struct StoreQueues([Queue; Line::ALL.len()]);

impl StoreQueues {
    pub(super) fn new() -> StoreQueues {
        StoreQueues(Line::ALL.map(|line| Queue {
            free: Arc::new(Semaphore::new(line.at_once())),
            waiting: VecDeque::new(),
        }))
    }

    /// It is the last of its line from now on.
    pub(super) fn push(&mut self, line: Line, call: Action) {
        self.0[line as usize].waiting.push_back(call);
    }

    /// A call that may run now, as long as its permit is held.
    pub(super) fn next(&mut self) -> Option<(Action, OwnedSemaphorePermit)> {
        self.0.iter_mut().find_map(|queue| {
            let call = queue.waiting.pop_front()?;
            if let Ok(permit) = queue.free.clone().try_acquire_owned() {
                return Some((call, permit));
            }
            queue.waiting.push_front(call);
            None
        })
    }

    /// What did not run yet never does.
    pub(super) fn clear(&mut self) {
        for queue in &mut self.0 {
            queue.waiting = VecDeque::new();
        }
    }
}
