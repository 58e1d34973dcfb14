//! Says what is being measured; on standard error, so that the figures on standard output stay clean.

use std::time::Instant;

/// The steps of a run.
#[derive(Debug)]
pub(crate) struct Progress {
    total: usize,
    at: usize,
    begun: Instant,
}

impl Progress {
    pub(crate) fn new(total: usize) -> Self {
        Self {
            total,
            at: 0,
            begun: Instant::now(),
        }
    }

    /// The next step begins.
    pub(crate) fn step(&mut self, what: &str) {
        self.at += 1;
        let (at, total) = (self.at, self.total);
        eprintln!("[{at:>2}/{total}] {:>4} s  {what}", self.seconds());
    }

    /// A figure on the way.
    pub(crate) fn note(&self, what: &str) {
        eprintln!("        {:>4} s    {what}", self.seconds());
    }

    /// Seconds since the beginning.
    pub(crate) fn seconds(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }
}
