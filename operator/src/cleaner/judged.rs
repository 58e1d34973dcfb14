//! What goes with one listed object, and whether it may. Objects of a batch are looked at side by side: each takes several round
//! trips, and one after the other a day's videos would take longer than a day.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use kinora_engine::retention::{Kept, Verdict, judge};
use kinora_storage::documents::Record;
use kinora_storage::{Day, Entry, UploadId, keys};

use super::report::{CleanError, Report};
use super::turns::Turns;
use super::{Cleaner, PAGE, Read, begin_of, wall};

/// Objects that are looked at side by side.
const AT_ONCE: usize = 16;

/// One video or declared job that goes.
#[derive(Debug)]
pub(super) struct Doomed {
    pub(super) id: String,
    pub(super) keys: Vec<String>,
    pub(super) record: Option<String>,
}

/// What becomes of one listed object.
enum Judged {
    Goes(Doomed),
    /// Somebody holds it.
    Held,
    /// It is young, or has not ended.
    Left,
    Unusable,
    /// It stays or goes with its record.
    Follows,
}

impl Cleaner {
    /// Those of a batch that go; of the others it is counted why not.
    pub(super) async fn judge_all(
        &self,
        entries: &[Entry],
        day: Day,
        period: Duration,
        (turns, report): (&mut Turns, &mut Report),
    ) -> Result<Vec<Doomed>, CleanError> {
        let all: Vec<_> = entries
            .iter()
            .map(|entry| self.judged(entry, day, period))
            .collect();
        let all = stream::iter(all).buffered(AT_ONCE).try_collect();
        let all: Vec<Judged> = turns.look(all).await?;
        let mut doomed = Vec::new();
        for one in all {
            match one {
                Judged::Goes(one) => doomed.push(one),
                Judged::Held => report.held += 1,
                Judged::Left => report.left += 1,
                Judged::Unusable => report.unusable += 1,
                Judged::Follows => {}
            }
        }
        Ok(doomed)
    }

    async fn judged(
        &self,
        entry: &Entry,
        day: Day,
        period: Duration,
    ) -> Result<Judged, CleanError> {
        let id = if entry.key.starts_with(keys::OUTPUTS) {
            // The job's uid.
            entry.key.split('/').nth(3)
        } else {
            entry.key.rsplit('/').next()
        };
        let Some(id) = id.map(str::to_owned) else {
            return Ok(Judged::Follows);
        };
        let is_record = entry.key.starts_with(keys::RECORDS);
        if !is_record && self.store.head(&keys::record(day, &id)).await?.is_some() {
            return Ok(Judged::Follows);
        }
        let mut one = Doomed {
            keys: vec![entry.key.clone()],
            record: None,
            id: id.clone(),
        };
        let mut modified = entry.last_modified;
        if is_record {
            let Some(keys) = self.belongings(&entry.key, &id, day, &mut modified).await? else {
                return Ok(Judged::Unusable);
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
        Ok(match judge(kept, period, self.clocks_of_answer()?) {
            Verdict::Delete => Judged::Goes(one),
            Verdict::Held => Judged::Held,
            Verdict::Early | Verdict::Open | Verdict::NoClock => Judged::Left,
        })
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
        let record = match self.document::<Record>(record_key).await? {
            Read::There(record) => record,
            Read::Missing => return Ok(Some(Vec::new())),
            Read::Unusable => return Ok(None),
        };
        let mut all = Vec::new();
        // One that is left of an earlier end goes by itself, once its record is gone.
        if record.dead_lettered {
            all.push(keys::dead(day, id));
        }
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
}
