//! `retention/<day>`: the period that was configured on each day. It is noted by the hour, whatever else the cleaner may or may
//! not do then, and a day that nobody noted has that of its neighbours.

use std::time::Duration;

use kinora_engine::retention::period;
use kinora_storage::documents::{VERSION, encode};
use kinora_storage::{Condition, Day, PutOptions, keys};
use serde_json::Map;
use tokio::time::Instant;

use super::documents::Period;
use super::{CleanError, Cleaner, Read};

const HOUR: Duration = Duration::from_secs(3600);
/// Days without a leader that are looked across.
const ACROSS: i64 = 31;

impl Cleaner {
    /// Until the next pass; meanwhile the days are noted.
    pub(super) async fn rest(&self, pause: Duration) {
        let end = Instant::now() + pause;
        while Instant::now() + HOUR < end {
            tokio::time::sleep(HOUR).await;
            if let Err(error) = self.note_periods().await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "retention: the period of today is not noted");
            }
        }
        tokio::time::sleep_until(end).await;
    }

    /// The period of today, once; of both days where clocks differ.
    pub(super) async fn note_periods(&self) -> Result<(), CleanError> {
        self.ask().await?;
        let (clocks, _) = self.both_clocks()?;
        for now in [clocks.local, clocks.store] {
            let ms = u64::try_from(now.0).unwrap_or(0);
            let key = keys::retention(Day::from_unix_ms(ms));
            let period = Period {
                v: VERSION,
                days: self.days,
                extra: Map::new(),
            };
            let body = encode(&period).map_err(|error| CleanError::Unusable(error.to_string()))?;
            let options = PutOptions::json(Condition::IfAbsent);
            self.store.put(&key, body.into(), options).await?;
        }
        Ok(())
    }

    /// The period that counts for a day; `None`: its note cannot be read, and nothing of that day may go.
    pub(super) async fn period_of(&self, day: Day) -> Result<Option<Duration>, CleanError> {
        let mut written = match self.written(day).await? {
            Read::There(days) => Some(days),
            Read::Missing => None,
            Read::Unusable => return Ok(None),
        };
        if written.is_none() {
            for step in [-1, 1] {
                written = written.max(self.neighbour(day, step).await?);
            }
        }
        Ok(Some(period(self.days, written)))
    }

    /// What is noted of the nearest day on one side.
    async fn neighbour(&self, day: Day, step: i64) -> Result<Option<u32>, CleanError> {
        for n in 1..=ACROSS {
            let Some(day) = day.plus(n * step) else {
                break;
            };
            if let Read::There(days) = self.written(day).await? {
                return Ok(Some(days));
            }
        }
        Ok(None)
    }

    async fn written(&self, day: Day) -> Result<Read<u32>, CleanError> {
        let read = self.document::<Period>(&keys::retention(day)).await?;
        Ok(match read {
            Read::There(period) => Read::There(period.days),
            Read::Missing => Read::Missing,
            Read::Unusable => Read::Unusable,
        })
    }
}
