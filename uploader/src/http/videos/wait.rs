//! `?wait=`: an answer that comes when there is something to tell. All who wait for one video on this replica share one
//! loop that looks at it, so the store and Kubernetes see one reader however many phones ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kinora_storage::UploadId;
use kinora_upload_engine::Principal;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::find::{Found, find};
use crate::app::App;
use crate::drive::Driver;
use crate::http::problem::{Kind, Problem};

/// So many requests wait on one replica; each holds a connection and little else.
const MOST: usize = 200;
/// The loop looks so soon after a change,
const SOON: Duration = Duration::from_secs(1);
/// and at the latest so long after its last look.
const LATE: Duration = Duration::from_secs(5);
const LONGEST_SECONDS: u64 = 60;

/// Who waits for what on this replica.
#[derive(Debug)]
pub struct Waits {
    places: Arc<Semaphore>,
    loops: Mutex<HashMap<UploadId, Arc<Seen>>>,
}

/// What was seen last of one video, by its loop or by who joined it; without receivers the loop ends.
type Seen = watch::Sender<Look>;

/// What a look at a video found, and when it began.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) found: Found,
}

impl Look {
    /// Takes the place of an older one; whether that makes a difference.
    fn replace(self, last: &mut Self) -> bool {
        if self.at <= last.at {
            return false;
        }
        let changed = last.found != self.found;
        *last = self;
        changed
    }
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MOST)),
            loops: Mutex::default(),
        }
    }
}

/// How long a request asked to wait, and for what.
pub(super) struct Wait {
    pub(super) limit: Duration,
    /// The tag the caller has: any other is news. Without it only an end is.
    pub(super) not: Option<String>,
}

impl Wait {
    fn is_over(&self, found: &Found) -> bool {
        let news = self.not.is_some() && found.tag() != self.not;
        news || found.is_final()
    }
}

/// Reads `wait`: whole seconds with their unit.
///
/// # Errors
/// 400 for anything else.
pub(super) fn parse(text: &str) -> Result<Duration, Problem> {
    let digits = text.strip_suffix('s').filter(|digits| {
        (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    });
    digits
        .and_then(|digits| digits.parse().ok())
        .filter(|seconds| (1..=LONGEST_SECONDS).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| {
            let detail = format!("wait must be 1s to {LONGEST_SECONDS}s, as in ?wait=30s.");
            Problem::bad_request("wait", detail)
        })
}

/// Waits until the video is at its end, changed, or the time is over; what was seen last. `first` is what the caller
/// was let to see just now.
///
/// # Errors
/// 429 when too many wait.
pub(super) async fn wait(
    app: &Arc<App>,
    id: &UploadId,
    who: &Principal,
    first: Look,
    wait: &Wait,
) -> Result<Found, Problem> {
    if wait.is_over(&first.found) {
        return Ok(first.found);
    }
    let places = Arc::clone(&app.waits.places);
    let _place = places.try_acquire_owned().map_err(|_| {
        let detail = format!("More than {MOST} requests wait here. Ask without wait, or later.");
        Problem::new(Kind::TooManyWaiters, detail).retry_after(5)
    })?;
    let _counted = app.metrics.waiting();
    let deadline = Instant::now() + wait.limit;
    let mut seen = join(app, id, first);
    loop {
        {
            let last = seen.borrow_and_update();
            if wait.is_over(&last.found) || !last.found.is_for(who) {
                return Ok(last.found.clone());
            }
        }
        tokio::select! {
            () = app.closing.cancelled() => break,
            changed = timeout_at(deadline, seen.changed()) => if !matches!(changed, Ok(Ok(()))) { break },
        }
    }
    let last = seen.borrow().found.clone();
    Ok(last)
}

/// Joins the loop of this video, or starts it. All learn what is newer, so that nobody is told what was before it.
fn join(app: &Arc<App>, id: &UploadId, first: Look) -> watch::Receiver<Look> {
    let mut loops = app
        .waits
        .loops
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(seen) = loops.get(id) {
        seen.send_if_modified(|last| first.replace(last));
        return seen.subscribe();
    }
    let (seen, receiver) = watch::channel(first);
    let seen = Arc::new(seen);
    loops.insert(id.clone(), Arc::clone(&seen));
    tokio::spawn(look(Arc::clone(app), id.clone(), seen));
    receiver
}

impl Waits {
    /// Ends the loop, unless somebody has joined it.
    fn retire(&self, id: &UploadId, seen: &Seen) -> bool {
        let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        // Who joins holds the lock, so nobody is missed.
        let alone = seen.is_closed();
        if alone {
            loops.remove(id);
        }
        alone
    }

    /// How many videos are looked at for those who wait.
    pub fn loops(&self) -> usize {
        let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops.len()
    }
}

/// Looks at one video for all who wait for it.
async fn look(app: Arc<App>, id: UploadId, seen: Arc<Seen>) {
    let driver = Driver::new(&app, &id);
    let mut pause = SOON;
    loop {
        tokio::select! {
            () = seen.closed() => {}
            () = sleep(pause) => {}
        }
        if app.waits.retire(&id, &seen) {
            return;
        }
        let at = Instant::now();
        // When the store is away, so are the news.
        let Ok(Some(found)) = find(&driver).await else {
            pause = LATE;
            continue;
        };
        let changed = seen.send_if_modified(|last| Look { at, found }.replace(last));
        pause = if changed {
            SOON
        } else {
            (pause + SOON).min(LATE)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers: F3
    #[test]
    fn an_older_look_replaces_no_newer_one() {
        let now = Instant::now();
        let look = |after: u64, why: &str| Look {
            at: now + Duration::from_secs(after),
            found: Found::ended(why),
        };
        let mut last = look(2, "now");
        for (look, changed, want) in [
            (look(1, "before"), false, "now"),
            (look(3, "now"), false, "now"),
            (look(4, "later"), true, "later"),
        ] {
            assert_eq!(look.replace(&mut last), changed);
            assert_eq!(last.found, Found::ended(want));
        }
    }

    /// covers: F7
    #[test]
    fn a_wait_is_whole_seconds_up_to_a_minute() {
        for (text, want) in [
            ("1s", Some(1)),
            ("30s", Some(30)),
            ("60s", Some(60)),
            ("0s", None),
            ("61s", None),
            ("30", None),
            ("1m", None),
            ("-1s", None),
            ("+1s", None),
            ("1.5s", None),
            ("100000000000000000000s", None),
            ("", None),
            ("s", None),
            ("١s", None),
        ] {
            let got = parse(text).ok().map(|wait| wait.as_secs());
            assert_eq!(got, want, "{text:?}");
        }
    }
}
