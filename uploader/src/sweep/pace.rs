//! At most 20 creates a second, by all sweeps of a replica together and evenly; what they find may be many thousands.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(50);

/// Gives out turns; unused ones are not saved up.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// Takes a turn at `now`; or says when there is the next.
    fn take(&self, now: Instant) -> Result<(), Instant> {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *next {
            Some(at) if now < at => Err(at),
            Some(_) | None => {
                *next = Some(now + EVERY);
                Ok(())
            }
        }
    }

    /// Waits for a turn and takes it; who stops waiting has taken none.
    pub(super) async fn turn(&self) {
        while let Err(at) = self.take(Instant::now()) {
            tokio::time::sleep_until(at.into()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_turn_in_50_ms_whoever_takes_it() {
        let pace = Pace::default();
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        for (ms, want) in [
            (0, Ok(())),
            (0, Err(at(50))),
            (49, Err(at(50))),
            (50, Ok(())),
            (70, Err(at(100))),
            (1000, Ok(())),
            (1000, Err(at(1050))),
        ] {
            assert_eq!(pace.take(at(ms)), want, "{ms} ms");
        }
    }
}
