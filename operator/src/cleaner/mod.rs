//! The retention cleaner: once a day the leader deletes what is past its period, day by day, and leaves a note of every batch.
//!
//! What may go is decided in the engine by two dates, two clocks and holds. The note is written before anything is deleted; the
//! record of a video goes last, because it names everything else. At the end of a pass a few of the videos that must stay are
//! looked for.

mod batch;
mod documents;
mod judged;
mod periods;
mod report;
mod sample;
mod turns;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use kinora_engine::Wall;
use kinora_engine::retention::{Clocks, is_due};
use kinora_storage::documents::{Document, decode};
use kinora_storage::{Day, Store, StoreErrorKind, keys};
use tokio::sync::watch;

use self::batch::BATCH;
pub use self::report::{CleanError, Report};
use self::turns::Turns;
use crate::metrics::{Cleaned, PassEnd, Sampled, Upkeep};
use crate::ports::Leadership;

const EVERY: Duration = Duration::from_secs(86_400);
/// A pass that broke off begins again after this.
const AGAIN: Duration = Duration::from_secs(900);
const PAGE: usize = 1000;
/// Prefixes that are filed by day. Outputs go with the record that names their job: their keys do not say of which video they
/// are, and so not whether somebody holds it. Those of a job that was lost and made again under another uid are named by no
/// record: they come last, and go once their day has neither a record nor a video.
const BY_DAY: [&str; 4] = [keys::RECORDS, keys::VIDEOS, "dead/", keys::OUTPUTS];

/// See the module.
pub struct Cleaner {
    /// The store.
    pub store: Store,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
    /// The period that is configured.
    pub days: u32,
    /// Objects deleted a second, at most.
    pub per_second: u32,
    /// Added to both clocks; zero but in tests.
    pub ahead: SignedDuration,
    /// What was done is counted here.
    pub upkeep: Upkeep,
}

/// What was found under a key.
enum Read<T> {
    There(T),
    Missing,
    /// Damaged, or of a newer version; it was said in the log.
    Unusable,
}

fn wall(time: Timestamp) -> Wall {
    Wall(time.as_millisecond())
}

fn begin_of(day: Day) -> Result<Wall, CleanError> {
    let begin = day.date().to_zoned(TimeZone::UTC);
    let begin = begin.map_err(|error| CleanError::Unusable(format!("day {day}: {error}")))?;
    Ok(wall(begin.timestamp()))
}

impl Cleaner {
    /// Once a day while this replica leads.
    pub async fn run(mut self) {
        loop {
            let leads = self.leadership.wait_for(|l| *l == Leadership::Leader);
            if leads.await.is_err() {
                return;
            }
            let pause = match self.pass().await {
                Ok(report) => {
                    self.upkeep.cleaned(PassEnd::Done);
                    tracing::info!(?report, "retention: a pass is done");
                    EVERY
                }
                Err(error) => {
                    self.upkeep.cleaned(match error {
                        CleanError::Clocks(_) => PassEnd::Clocks,
                        CleanError::Store(_) | CleanError::Unusable(_) | CleanError::NotLeader => {
                            PassEnd::Failed
                        }
                    });
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "retention: a pass broke off");
                    AGAIN
                }
            };
            let mut leadership = self.leadership.clone();
            tokio::select! {
                () = self.rest(pause) => {}
                changed = leadership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Everything that is due now.
    ///
    /// # Errors
    /// [`CleanError`]; what was deleted until then was due.
    pub async fn pass(&self) -> Result<Report, CleanError> {
        let mut report = Report::default();
        let mut ended = self.all(&mut report).await;
        if ended.is_ok() {
            ended = self.sample(&mut report).await;
        }
        self.upkeep.items(Cleaned::Deleted, report.deleted);
        self.upkeep.items(Cleaned::Held, report.held);
        self.upkeep.items(Cleaned::Left, report.left);
        self.upkeep.items(Cleaned::Unusable, report.unusable);
        self.upkeep.deleted(report.objects);
        self.upkeep.sampled(Sampled::Whole, report.whole);
        self.upkeep.sampled(Sampled::Missing, report.missing);
        ended.map(|()| report)
    }

    async fn all(&self, report: &mut Report) -> Result<(), CleanError> {
        self.note_periods().await?;
        self.clocks().await?;
        let mut turns = Turns::new(self.per_second);
        for prefix in BY_DAY {
            let mut after: Option<String> = None;
            while let Some(day) = self.next_day(prefix, after.as_deref()).await? {
                // Past every key of that day.
                after = Some(format!("{prefix}{day}0"));
                let Some(period) = self.period_of(day).await? else {
                    report.unusable += 1;
                    continue;
                };
                if prefix == keys::OUTPUTS && self.is_kept(day).await? {
                    continue;
                }
                if is_due(begin_of(day)?, period, self.clocks().await?) {
                    let so_far = (&mut turns, &mut *report);
                    self.clean(prefix, day, period, so_far).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether a record or a video of this day is left.
    async fn is_kept(&self, day: Day) -> Result<bool, CleanError> {
        for prefix in [keys::RECORDS, keys::VIDEOS] {
            let prefix = format!("{prefix}{day}/");
            if !self.store.list(&prefix, None, 1).await?.entries.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Both clocks by an answer that comes now, if they agree.
    async fn clocks(&self) -> Result<Clocks, CleanError> {
        self.ask().await?;
        self.clocks_of_answer()
    }

    /// Both clocks by the answer that has just come, if they agree. Nothing may be awaited in between: were this clock set
    /// meanwhile, the store's would seem to be set with it.
    fn clocks_of_answer(&self) -> Result<Clocks, CleanError> {
        let (clocks, skew) = self.both_clocks()?;
        if clocks.agree() {
            Ok(clocks)
        } else {
            Err(CleanError::Clocks(skew))
        }
    }

    /// Anything, for the time of its answer.
    async fn ask(&self) -> Result<(), CleanError> {
        self.store.list(keys::RECORDS, None, 1).await?;
        Ok(())
    }

    /// Both clocks, by the answer that has just come, and how many seconds they are apart.
    fn both_clocks(&self) -> Result<(Clocks, i64), CleanError> {
        let local = Timestamp::now();
        let skew = self.store.store_time().unwrap_or(i64::MAX);
        let store = local.checked_add(SignedDuration::from_secs(skew));
        let (Ok(local), Ok(store)) = (
            local.checked_add(self.ahead),
            store.and_then(|store| store.checked_add(self.ahead)),
        ) else {
            return Err(CleanError::Clocks(skew));
        };
        let clocks = Clocks {
            local: wall(local),
            store: wall(store),
        };
        Ok((clocks, skew))
    }

    /// The first day under a prefix after this key.
    async fn next_day(&self, prefix: &str, after: Option<&str>) -> Result<Option<Day>, CleanError> {
        let mut after = after.map(str::to_owned);
        loop {
            let page = self.store.list(prefix, after.as_deref(), 1).await?;
            let Some(entry) = page.entries.into_iter().next() else {
                return Ok(None);
            };
            let day = entry.key[prefix.len()..].split('/').next();
            match day.map(str::parse) {
                Some(Ok(day)) => return Ok(Some(day)),
                // Nothing of ours.
                Some(Err(_)) | None => after = Some(entry.key),
            }
        }
    }

    async fn clean(
        &self,
        prefix: &str,
        day: Day,
        period: Duration,
        (turns, report): (&mut Turns, &mut Report),
    ) -> Result<(), CleanError> {
        let prefix = format!("{prefix}{day}/");
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(&prefix, after.as_deref(), PAGE).await?;
            for entries in page.entries.chunks(BATCH) {
                let doomed = self.judge_all(entries, day, period, (turns, report));
                let doomed = doomed.await?;
                self.delete(day, period, doomed, (turns, report)).await?;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// A document of the store. One that cannot be read is left alone, and keeps nobody from the others.
    async fn document<T: Document>(&self, key: &str) -> Result<Read<T>, CleanError> {
        let problem = match self.store.get_document(key).await {
            Ok(None) => return Ok(Read::Missing),
            Ok(Some(object)) => match decode(&object.bytes) {
                Ok(document) => return Ok(Read::There(document)),
                Err(error) => error.to_string(),
            },
            Err(error) if error.kind == StoreErrorKind::TooLarge => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        tracing::error!(
            key,
            problem,
            "retention: a document cannot be read and is left alone"
        );
        Ok(Read::Unusable)
    }
}
