//! The retention cleaner: once a day the leader deletes what is past its period, day by day, and leaves a note of every batch.
//!
//! What may go is decided in the engine by two dates, two clocks and holds. The note is written before anything is deleted; the
//! record of a video goes last, because it names everything else. At the end of a pass a few of the videos that must stay are
//! looked for.

mod documents;
mod periods;
mod report;
mod sample;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use kinora_engine::Wall;
use kinora_engine::retention::{Clocks, Kept, Verdict, is_due, judge};
use kinora_storage::documents::{Document, Record, VERSION, decode};
use kinora_storage::{
    Condition, Day, Entry, PutOptions, PutOutcome, Store, StoreErrorKind, UploadId, keys,
};
use rand::Rng;
use tokio::sync::watch;

use self::documents::Note;
pub use self::report::{CleanError, Report};
use crate::metrics::{Cleaned, PassEnd, Sampled, Upkeep};
use crate::ports::Leadership;

const EVERY: Duration = Duration::from_secs(86_400);
/// A pass that broke off begins again after this.
const AGAIN: Duration = Duration::from_secs(900);
const PAGE: usize = 1000;
/// Videos of one batch, and of one note.
const BATCH: usize = 100;
/// Prefixes that are filed by day. Outputs go with the record that names their job, never by themselves: their keys do not say
/// whose they are, and so not whether somebody holds them.
const BY_DAY: [&str; 3] = [keys::RECORDS, keys::VIDEOS, "dead/"];

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

/// One video or declared job that goes.
#[derive(Debug)]
struct Doomed {
    id: String,
    keys: Vec<String>,
    record: Option<String>,
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
        for prefix in BY_DAY {
            let mut after: Option<String> = None;
            while let Some(day) = self.next_day(prefix, after.as_deref()).await? {
                // Past every key of that day.
                after = Some(format!("{prefix}{day}0"));
                let Some(period) = self.period_of(day).await? else {
                    report.unusable += 1;
                    continue;
                };
                if is_due(begin_of(day)?, period, self.clocks().await?) {
                    self.clean(prefix, day, period, report).await?;
                }
            }
        }
        Ok(())
    }

    /// Both clocks, if they agree.
    async fn clocks(&self) -> Result<Clocks, CleanError> {
        let (clocks, skew) = self.both_clocks().await?;
        if clocks.agree() {
            Ok(clocks)
        } else {
            Err(CleanError::Clocks(skew))
        }
    }

    /// Both clocks, by an answer that has just come, and how many seconds they are apart.
    async fn both_clocks(&self) -> Result<(Clocks, i64), CleanError> {
        self.store.list(keys::RECORDS, None, 1).await?;
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
        report: &mut Report,
    ) -> Result<(), CleanError> {
        let prefix = format!("{prefix}{day}/");
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(&prefix, after.as_deref(), PAGE).await?;
            let mut doomed = Vec::new();
            for entry in &page.entries {
                if let Some(one) = self.judged(entry, day, period, report).await? {
                    doomed.push(one);
                }
                if doomed.len() >= BATCH {
                    self.delete(day, period, std::mem::take(&mut doomed), report)
                        .await?;
                }
            }
            self.delete(day, period, doomed, report).await?;
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// What goes with one listed object; `None`: it stays, or something else takes it along.
    async fn judged(
        &self,
        entry: &Entry,
        day: Day,
        period: Duration,
        report: &mut Report,
    ) -> Result<Option<Doomed>, CleanError> {
        let Some(id) = entry.key.rsplit('/').next().map(str::to_owned) else {
            return Ok(None);
        };
        let is_record = entry.key.starts_with(keys::RECORDS);
        if !is_record && self.store.head(&keys::record(day, &id)).await?.is_some() {
            // It stays or goes with its record.
            return Ok(None);
        }
        let mut one = Doomed {
            keys: vec![entry.key.clone()],
            record: None,
            id: id.clone(),
        };
        let mut modified = entry.last_modified;
        if is_record {
            let Some(keys) = self.belongings(&entry.key, &id, day, &mut modified).await? else {
                report.unusable += 1;
                return Ok(None);
            };
            one.keys = keys;
            one.record = Some(entry.key.clone());
        }
        let upload: Option<UploadId> = id.parse().ok();
        let open = match &upload {
            Some(upload) => self.store.head(&keys::active(upload)).await?.is_some(),
            None => false,
        };
        let kept = Kept {
            day: begin_of(day)?,
            modified: wall(modified),
            held: self.store.head(&keys::hold(&id)).await?.is_some(),
            open,
        };
        match judge(kept, period, self.clocks().await?) {
            Verdict::Delete => return Ok(Some(one)),
            Verdict::Held => report.held += 1,
            Verdict::Early | Verdict::Open | Verdict::NoClock => report.left += 1,
        }
        Ok(None)
    }

    /// Every object that a record names or implies, without the record; `modified` becomes the latest date of all. `None`: the
    /// record cannot be read, and nothing of it is touched.
    async fn belongings(
        &self,
        record_key: &str,
        id: &str,
        day: Day,
        modified: &mut Timestamp,
    ) -> Result<Option<Vec<String>>, CleanError> {
        let mut all = vec![keys::dead(day, id)];
        let record = match self.document::<Record>(record_key).await? {
            Read::There(record) => record,
            Read::Missing => return Ok(Some(all)),
            Read::Unusable => return Ok(None),
        };
        if let Ok(upload) = id.parse::<UploadId>() {
            let video = keys::video(&upload);
            if let Some(head) = self.store.head(&video).await? {
                *modified = (*modified).max(head.last_modified);
                all.push(video);
            }
        }
        all.extend(record.index_key.filter(|key| key.starts_with(keys::USERS)));
        if let Some(job) = record.job.filter(|job| !job.uid.is_empty()) {
            let prefix = keys::outputs_of_job(day, &job.uid);
            let mut after: Option<String> = None;
            loop {
                let page = self.store.list(&prefix, after.as_deref(), PAGE).await?;
                for output in page.entries {
                    *modified = (*modified).max(output.last_modified);
                    all.push(output.key);
                }
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
        Ok(Some(all))
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

    /// The note first, then what the records name, the records last; at the capped rate.
    async fn delete(
        &self,
        day: Day,
        period: Duration,
        doomed: Vec<Doomed>,
        report: &mut Report,
    ) -> Result<(), CleanError> {
        if doomed.is_empty() {
            return Ok(());
        }
        if *self.leadership.borrow() != Leadership::Leader {
            return Err(CleanError::NotLeader);
        }
        let records: Vec<String> = doomed.iter().filter_map(|one| one.record.clone()).collect();
        let others: Vec<String> = doomed.iter().flat_map(|one| one.keys.clone()).collect();
        let at = Timestamp::now();
        let note = Note {
            v: VERSION,
            at,
            day: day.to_string(),
            period_days: period.as_secs() / 86_400,
            ids: doomed.iter().map(|one| one.id.as_str()).collect(),
            keys: others.iter().chain(&records).map(String::as_str).collect(),
        };
        let body = serde_json::to_vec(&note).map_err(|e| CleanError::Unusable(e.to_string()))?;
        let nonce: u64 = rand::rng().random();
        let key = format!(
            "retention/audit/{}/{}-{nonce:016x}",
            Day::from_timestamp(at),
            at.as_millisecond()
        );
        let options = PutOptions::json(Condition::IfAbsent);
        match self.store.put(&key, body.into(), options).await? {
            PutOutcome::Written { .. } => {}
            PutOutcome::Lost => {
                return Err(CleanError::Unusable(format!("{key} is there already")));
            }
        }
        for keys in [&others, &records] {
            self.store.delete_many(keys).await?;
            let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
            let pause = f64::from(count) / f64::from(self.per_second.max(1));
            tokio::time::sleep(Duration::from_secs_f64(pause)).await;
        }
        report.deleted += doomed.len() as u64;
        report.objects += (others.len() + records.len()) as u64;
        Ok(())
    }
}
