//! Deletes a batch: the note first, then what the records name, the records last.

use std::time::Duration;

use jiff::Timestamp;
use kinora_storage::documents::VERSION;
use kinora_storage::{Condition, Day, PutOptions, PutOutcome};
use rand::Rng;

use super::Cleaner;
use super::documents::Note;
use super::judged::Doomed;
use super::report::{CleanError, Report};
use super::turns::Turns;
use crate::ports::Leadership;

/// Videos of one batch, and of one note.
pub(super) const BATCH: usize = 100;

impl Cleaner {
    /// At the capped rate.
    pub(super) async fn delete(
        &self,
        day: Day,
        period: Duration,
        doomed: Vec<Doomed>,
        (turns, report): (&mut Turns, &mut Report),
    ) -> Result<(), CleanError> {
        if doomed.is_empty() {
            return Ok(());
        }
        let records: Vec<String> = doomed.iter().filter_map(|one| one.record.clone()).collect();
        let others: Vec<String> = doomed.iter().flat_map(|one| one.keys.clone()).collect();
        turns.take(others.len()).await;
        if *self.leadership.borrow() != Leadership::Leader {
            return Err(CleanError::NotLeader);
        }
        let at = Timestamp::now();
        let note = Note {
            v: VERSION,
            at,
            day: day.to_string(),
            period_days: period.as_secs() / 86_400,
            ids: doomed.iter().map(|one| one.id.as_str()).collect(),
            keys: others.iter().chain(&records).map(String::as_str).collect(),
        };
        self.note(&note).await?;
        self.store.delete_many(&others).await?;
        turns.take(records.len()).await;
        self.store.delete_many(&records).await?;
        report.deleted += doomed.len() as u64;
        report.objects += (others.len() + records.len()) as u64;
        Ok(())
    }

    async fn note(&self, note: &Note<'_>) -> Result<(), CleanError> {
        let body = serde_json::to_vec(note).map_err(|e| CleanError::Unusable(e.to_string()))?;
        let nonce: u64 = rand::rng().random();
        let key = format!(
            "retention/audit/{}/{}-{nonce:016x}",
            Day::from_timestamp(note.at),
            note.at.as_millisecond()
        );
        let options = PutOptions::json(Condition::IfAbsent);
        match self.store.put(&key, body.into(), options).await? {
            PutOutcome::Written { .. } => Ok(()),
            PutOutcome::Lost => Err(CleanError::Unusable(format!("{key} is there already"))),
        }
    }
}
