//! A few of the videos that must still be there are looked for, others every day: what deletes behind Kinora's back, a lifecycle
//! rule or a person, shows within days and not when somebody wants his video.

use kinora_engine::retention::is_due;
use kinora_storage::documents::{Record, RecordState, STORE_LOST};
use kinora_storage::{Day, UploadId, keys};
use rand::Rng;
use rand::seq::IteratorRandom;

use super::report::{CleanError, Report};
use super::{Cleaner, PAGE, Read, begin_of};

/// Days of one sample.
const DAYS: usize = 10;
/// Records of one day.
const RECORDS: usize = 20;
/// Where days are noted.
const NOTED: &str = "retention/";

/// The upload whose video must be there; `None`: nothing was kept, or not for the whole period.
fn promised(record: &Record) -> Option<UploadId> {
    let is_kept = record.state != RecordState::Rejected
        && record.reason != STORE_LOST
        && !record.is_tombstone();
    let id: UploadId = record.id.parse().ok()?;
    (is_kept && record.key == keys::video(&id)).then_some(id)
}

impl Cleaner {
    /// Looks for videos of a few random days that are not due.
    pub(super) async fn sample(&self, report: &mut Report) -> Result<(), CleanError> {
        let days = self.noted_days().await?;
        let chosen = days.into_iter().choose_multiple(&mut rand::rng(), DAYS);
        for day in chosen {
            let Some(period) = self.period_of(day).await? else {
                continue;
            };
            if !is_due(begin_of(day)?, period, self.clocks().await?) {
                self.look_at(day, report).await?;
            }
        }
        Ok(())
    }

    /// The days that a pass has seen: each has its period noted.
    async fn noted_days(&self) -> Result<Vec<Day>, CleanError> {
        let mut days = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(NOTED, after.as_deref(), PAGE).await?;
            let noted = page
                .entries
                .iter()
                .map(|entry| entry.key[NOTED.len()..].parse::<Day>());
            let before = days.len();
            days.extend(noted.filter_map(Result::ok));
            match page.next {
                // Notes of batches follow the days.
                Some(next) if days.len() > before => after = Some(next),
                Some(_) | None => return Ok(days),
            }
        }
    }

    /// Records of a day from a random place on, and from its start where those are few.
    async fn look_at(&self, day: Day, report: &mut Report) -> Result<(), CleanError> {
        let prefix = format!("{}{day}/", keys::RECORDS);
        let place: u8 = rand::rng().random();
        let from = format!("{prefix}{place:02x}");
        let mut chosen = self
            .store
            .list(&prefix, Some(&from), RECORDS)
            .await?
            .entries;
        if chosen.len() < RECORDS {
            let page = self.store.list(&prefix, None, RECORDS).await?;
            // By what came, not by the place: stores with directories pass over all in one that is named like it.
            for entry in page.entries {
                if chosen.len() < RECORDS && chosen.iter().all(|known| known.key != entry.key) {
                    chosen.push(entry);
                }
            }
        }
        for entry in chosen {
            let Some(video) = self.video_of(&entry.key).await? else {
                continue;
            };
            // Gone with its record, erased since the record was read: the record tells, read again.
            if self.store.head(&video).await?.is_some() {
                report.whole += 1;
            } else if self.video_of(&entry.key).await?.is_some() {
                report.missing += 1;
                tracing::error!(record = %entry.key, %video, "retention: a video is gone before its time");
            }
        }
        Ok(())
    }

    async fn video_of(&self, record_key: &str) -> Result<Option<String>, CleanError> {
        let record = self.document::<Record>(record_key).await?;
        Ok(match record {
            Read::There(record) => promised(&record).map(|id| keys::video(&id)),
            Read::Missing | Read::Unusable => None,
        })
    }
}
