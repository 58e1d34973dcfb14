//! Looks at every change of every VideoJob from the outside, as a suspicious bystander: keeps when each attempt began, and
//! says when something happened that must never happen (an end that was left, a second result, an attempt that fell or leapt).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt as _, pin_mut};
use kinora_crds::{VideoJob, VideoJobStatus, state};
use kube::ResourceExt as _;
use kube::runtime::watcher::{self, Event};
use tokio::task::JoinHandle;

use crate::stack::Stack;
use crate::{jobs, wait};

/// What was seen of one job.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// uid of the object seen last.
    pub uid: String,
    /// Its last status.
    pub status: VideoJobStatus,
    /// When the present attempt was first seen.
    pub claimed: Option<Instant>,
    /// How many times somebody wrote its end.
    pub ends: u32,
}

/// Everything that was seen, and what must not have been.
#[derive(Debug, Default)]
pub struct Seen {
    jobs: BTreeMap<String, Sight>,
    /// Claims in the order in which they were seen: job and attempt.
    claims: Vec<(String, i32)>,
    wrong: Vec<String>,
}

/// A watch that runs until it is dropped.
#[derive(Debug)]
pub struct Watching {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Watching {
    /// Begins to watch all jobs of the tests' namespace.
    #[must_use]
    pub fn begin(stack: &Stack) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (shared, api) = (Arc::clone(&seen), jobs::api(stack));
        let task = tokio::spawn(async move {
            let events = watcher::watcher(api, watcher::Config::default());
            pin_mut!(events);
            while let Some(event) = events.next().await {
                let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Ok(Event::Apply(job)) => seen.observed(&job, true),
                    // A list after a break: what was between is not known.
                    Ok(Event::InitApply(job)) => seen.observed(&job, false),
                    Ok(Event::Delete(_) | Event::Init | Event::InitDone) => {}
                    // The API server is away, perhaps on purpose: the watch begins anew.
                    Err(_) => {
                        drop(seen);
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        });
        Self { seen, task }
    }

    /// What was seen until now.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until what was seen is enough.
    ///
    /// # Errors
    /// It was not within `limit`.
    pub async fn until(
        &self,
        what: &str,
        limit: Duration,
        enough: impl Fn(&Seen) -> Result<bool>,
    ) -> Result<()> {
        let ask = || {
            let answer = enough(&self.seen());
            async move { Ok(answer?.then_some(())) }
        };
        wait::until(what, limit, ask).await
    }

    /// Waits until all of these jobs have ended.
    ///
    /// # Errors
    /// One has not within `limit`; the states are told.
    pub async fn until_ended(&self, names: &[String], limit: Duration) -> Result<()> {
        let what = format!("{} jobs to end", names.len());
        let ended = |seen: &Seen| {
            let all = names.iter().map(|name| seen.state(name));
            let open: Vec<_> = all.filter(|word| !state::is_final(word)).collect();
            ensure!(open.is_empty(), "{}", tally(&open));
            Ok(true)
        };
        self.until(&what, limit, ended).await
    }

    /// Nothing was seen that must not happen.
    ///
    /// # Errors
    /// What it was.
    pub fn nothing_wrong(&self) -> Result<()> {
        let seen = self.seen();
        ensure!(seen.wrong.is_empty(), "{}", seen.wrong.join("; "));
        Ok(())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn tally(words: &[&str]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    let parts: Vec<_> = counts
        .iter()
        .map(|(word, n)| format!("{n} {word}"))
        .collect();
    parts.join(", ")
}

impl Seen {
    fn observed(&mut self, job: &VideoJob, unbroken: bool) {
        let (name, status) = (job.name_any(), jobs::status(job));
        let uid = job.uid().unwrap_or_default();
        let known = self.jobs.entry(name.clone()).or_default();
        if known.uid == uid {
            if let Some(problem) = contradiction(&known.status, &status, unbroken) {
                self.wrong.push(format!("{name}: {problem}"));
            }
        } else {
            *known = Sight {
                uid,
                ..Sight::default()
            };
        }
        if status.attempt != known.status.attempt {
            known.claimed = Some(Instant::now());
            self.claims.push((name, status.attempt));
        }
        if state::is_final(&status.state) && !state::is_final(&known.status.state) {
            known.ends += 1;
        }
        known.status = status;
    }

    /// The job, if it was seen.
    #[must_use]
    pub fn job(&self, name: &str) -> Option<&Sight> {
        self.jobs.get(name)
    }

    /// State of a job; `unseen` before it was.
    #[must_use]
    pub fn state(&self, name: &str) -> &str {
        self.job(name).map_or("unseen", |job| &job.status.state)
    }

    /// How many of these jobs are in this state.
    #[must_use]
    pub fn count(&self, names: &[String], word: &str) -> usize {
        names.iter().filter(|name| self.state(name) == word).count()
    }

    /// Claims in the order in which they were seen.
    #[must_use]
    pub fn claims(&self) -> &[(String, i32)] {
        &self.claims
    }
}

/// What of this change must not happen, whatever fails.
fn contradiction(
    before: &VideoJobStatus,
    after: &VideoJobStatus,
    unbroken: bool,
) -> Option<String> {
    let attempts = (before.attempt, after.attempt);
    if after.attempt < before.attempt || after.redrives < before.redrives {
        return Some(format!("attempt or redrives fell: {attempts:?}"));
    }
    if unbroken && after.attempt > before.attempt + 1 {
        return Some(format!("attempts were leapt over: {attempts:?}"));
    }
    if after.redrives > before.redrives || !state::is_final(&before.state) {
        return None;
    }
    if after.state != before.state || after.attempt != before.attempt {
        let words = (&before.state, &after.state);
        return Some(format!(
            "its end was left: {words:?}, attempts {attempts:?}"
        ));
    }
    (after.outputs != before.outputs).then(|| "a second result replaced the first".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, attempt: i32, redrives: i32, output: &str) -> VideoJobStatus {
        let output = kinora_crds::job::Output {
            uri: output.to_owned(),
            ..Default::default()
        };
        VideoJobStatus {
            state: state.to_owned(),
            attempt,
            redrives,
            outputs: vec![output],
            ..VideoJobStatus::default()
        }
    }

    #[test]
    fn what_must_not_happen_is_noticed_and_nothing_else() {
        let table = [
            (
                "a claim",
                status("Queued", 0, 0, ""),
                status("Running", 1, 0, ""),
                true,
                false,
            ),
            (
                "a finish",
                status("Running", 1, 0, ""),
                status("Succeeded", 1, 0, "a"),
                true,
                false,
            ),
            (
                "a leap",
                status("Running", 1, 0, ""),
                status("Running", 3, 0, ""),
                true,
                true,
            ),
            (
                "what a break hid",
                status("Running", 1, 0, ""),
                status("Running", 3, 0, ""),
                false,
                false,
            ),
            (
                "a fall",
                status("Running", 2, 0, ""),
                status("Running", 1, 0, ""),
                false,
                true,
            ),
            (
                "a second result",
                status("Succeeded", 1, 0, "a"),
                status("Succeeded", 1, 0, "b"),
                true,
                true,
            ),
            (
                "a second run",
                status("Succeeded", 1, 0, "a"),
                status("Running", 2, 0, "a"),
                true,
                true,
            ),
            (
                "a redrive",
                status("DeadLettered", 5, 0, ""),
                status("Queued", 5, 1, ""),
                true,
                false,
            ),
            (
                "a TTL that is set",
                status("Succeeded", 1, 0, "a"),
                status("Succeeded", 1, 0, "a"),
                true,
                false,
            ),
        ];
        for (name, before, after, unbroken, want) in table {
            let found = contradiction(&before, &after, unbroken);
            assert_eq!(found.is_some(), want, "{name}: {found:?}");
        }
    }
}
