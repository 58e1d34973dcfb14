//! Says what is being done, how far it is, and how long it took. Writes to standard error only, so that answers on
//! standard output (`--json`, kubectl) stay clean.

use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Result;

/// A long step says every so often that it is still at it.
const TICK: Duration = Duration::from_secs(20);

/// A row of steps with a known length.
#[derive(Debug)]
pub struct Progress {
    title: String,
    total: usize,
    at: usize,
    started: Instant,
    quiet: bool,
}

impl Progress {
    /// `total` steps of something called `title`.
    #[must_use]
    pub fn new(title: &str, total: usize) -> Self {
        Self {
            title: title.to_owned(),
            total,
            at: 0,
            started: Instant::now(),
            quiet: false,
        }
    }

    /// Steps that print nothing.
    #[must_use]
    pub fn quiet() -> Self {
        Self {
            quiet: true,
            ..Self::new("", 0)
        }
    }

    /// Does one step and prints `[n/m] what … seconds`.
    ///
    /// # Errors
    /// Those of `work`, unchanged.
    pub fn step<T>(&mut self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.quiet {
            return work();
        }
        self.at += 1;
        eprint!("[{:>2}/{}] {what} … ", self.at, self.total);
        let _ = std::io::stderr().flush();
        let started = Instant::now();
        let outcome = ticking(started, work);
        let word = if outcome.is_ok() { "" } else { "FAILED after " };
        eprintln!("{word}{}", seconds(started.elapsed()));
        outcome
    }

    /// Prints the time of the whole row.
    pub fn done(&self) {
        eprintln!(
            "{}: done in {}",
            self.title,
            seconds(self.started.elapsed())
        );
    }
}

/// One remark between steps.
pub fn note(text: &str) {
    eprintln!("        {text}");
}

/// A duration as people say it.
#[must_use]
pub fn seconds(elapsed: Duration) -> String {
    if elapsed.as_secs() >= 120 {
        return format!(
            "{} min {} s",
            elapsed.as_secs() / 60,
            elapsed.as_secs() % 60
        );
    }
    format!("{:.1} s", elapsed.as_secs_f64())
}

fn ticking<T>(started: Instant, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let (finished, rest) = mpsc::channel::<()>();
        scope.spawn(move || {
            while rest.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprint!("{} … ", seconds(started.elapsed()));
                let _ = std::io::stderr().flush();
            }
        });
        let outcome = work();
        drop(finished);
        outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        for (millis, want) in [
            (0, "0.0 s"),
            (1_250, "1.2 s"),
            (119_000, "119.0 s"),
            (125_000, "2 min 5 s"),
        ] {
            assert_eq!(seconds(Duration::from_millis(millis)), want);
        }
    }

    #[test]
    fn a_step_hands_its_result_through() {
        let mut progress = Progress::new("test", 1);
        assert_eq!(progress.step("answer", || Ok(42)).unwrap(), 42);
    }
}
