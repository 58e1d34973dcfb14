//! What an owner used today, over all replicas: each writes its own share to
//! `quota/<owner-hash>/<day>/<replica>` once a minute and sums what the others wrote. So a limit is
//! overshot by at most what a minute brings.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kinora_storage::{Condition, Day, PutOptions, Store, StoreError, keys};
use lru::LruCache;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{OwnerLimits, Reached, Stop};
use crate::auth::Action;
use crate::metrics::Limit;

const EVERY: Duration = Duration::from_secs(60);
/// What the others used is not believed for longer: then nothing is written.
const STALE: Duration = Duration::from_secs(300);
const DAY_SECONDS: i64 = 86_400;
/// A share is two numbers.
const MAX_SHARE_BYTES: u64 = 1024;

/// What one replica counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
struct Share {
    bytes: u64,
    uploads: u64,
}

#[derive(Debug)]
struct Used {
    day: Day,
    own: Share,
    written: Share,
    others: Share,
    /// When `others` was read.
    read: Option<Instant>,
}

/// What one owner used; shared by its requests.
#[derive(Debug)]
pub(super) struct Account {
    owner: String,
    /// Bytes of a day; 0 is no limit.
    most: u64,
    used: Mutex<Used>,
}

/// The accounts of a replica.
#[derive(Clone, Debug)]
pub struct Quotas {
    most: Share,
    replica: Arc<str>,
    accounts: Arc<Mutex<LruCache<String, Arc<Account>>>>,
}

impl Account {
    /// Counts bytes that came.
    pub(super) fn bytes(&self, n: u64) {
        self.used().own.bytes += n;
    }

    /// Whether more came than may.
    pub(super) fn is_over(&self) -> bool {
        self.most > 0 && self.used().sum().bytes > self.most
    }

    /// Counts an upload that was made.
    pub(super) fn upload(&self) {
        self.used().own.uploads += 1;
    }

    fn used(&self) -> std::sync::MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins anew when another day has come.
    fn turn(&self, day: Day) {
        let mut used = self.used();
        if used.day != day {
            *used = Used::new(day);
        }
    }
}

impl Used {
    fn new(day: Day) -> Self {
        Self {
            day,
            own: Share::default(),
            written: Share::default(),
            others: Share::default(),
            read: None,
        }
    }

    /// Of all replicas.
    fn sum(&self) -> Share {
        self.own.plus(self.others)
    }
}

impl Share {
    fn plus(self, more: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(more.bytes),
            uploads: self.uploads.saturating_add(more.uploads),
        }
    }
}

impl Quotas {
    pub(super) fn new(limits: &OwnerLimits, remembered: usize) -> Self {
        let most = NonZeroUsize::new(remembered).unwrap_or(NonZeroUsize::MIN);
        Self {
            most: Share {
                bytes: limits.bytes_per_day,
                uploads: limits.uploads_per_day,
            },
            // A name of this process: what it wrote before a restart is another's.
            replica: format!("{:016x}", rand::random::<u64>()).into(),
            accounts: Arc::new(Mutex::new(LruCache::new(most))),
        }
    }

    fn is_off(&self) -> bool {
        self.most == Share::default()
    }

    /// The account to charge, if the owner may go on. None when there are no quotas.
    pub(super) async fn admit(
        &self,
        owner: &str,
        action: Action,
        bytes: u64,
        store: &Store,
    ) -> Result<Option<Arc<Account>>, Stop> {
        if self.is_off() {
            return Ok(None);
        }
        let day = Day::from_timestamp(store.now());
        let account = self.account(owner, day);
        account.turn(day);
        let fresh = |read: Instant| read.elapsed() < STALE;
        if !account.used().read.is_some_and(fresh) && self.read(&account, store).await.is_err() {
            return Err(Stop::Unknown);
        }
        let sum = account.used().sum();
        match reached(&self.most, &sum, action, bytes) {
            Some(limit) => Err(Stop::Limit(of_day(limit, store))),
            None => Ok(Some(account)),
        }
    }

    fn account(&self, owner: &str, day: Day) -> Arc<Account> {
        let mut all = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            Arc::new(Account {
                owner: owner.to_owned(),
                most: self.most.bytes,
                used: Mutex::new(Used::new(day)),
            })
        };
        Arc::clone(all.get_or_insert_ref(owner, fresh))
    }

    /// Sums what the others wrote today, and takes up at the first time what was written here before the account was
    /// forgotten.
    async fn read(&self, account: &Account, store: &Store) -> Result<(), StoreError> {
        let day = account.used().day;
        let own = keys::quota(&account.owner, day, &self.replica);
        let prefix = own.trim_end_matches(&*self.replica);
        let (mut sum, mut before) = (Share::default(), Share::default());
        let first = account.used().read.is_none();
        let mut after = None;
        loop {
            let page = store.list(prefix, after.as_deref(), 1000).await?;
            let counts = |key: &str| first || key != own;
            for entry in page.entries.iter().filter(|entry| counts(&entry.key)) {
                let Some(object) = store.get_bounded(&entry.key, MAX_SHARE_BYTES).await? else {
                    continue;
                };
                if let Ok(share) = serde_json::from_slice::<Share>(&object.bytes) {
                    let whose = if entry.key == own {
                        &mut before
                    } else {
                        &mut sum
                    };
                    *whose = whose.plus(share);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let mut used = account.used();
        if used.day == day {
            if used.read.is_none() {
                used.own = used.own.plus(before);
                used.written = before;
            }
            used.others = sum;
            used.read = Some(Instant::now());
        }
        Ok(())
    }

    /// Writes what was counted since the last time, and reads what the others did.
    pub async fn share(&self, store: &Store) {
        let all: Vec<_> = {
            let all = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().map(|(_, account)| Arc::clone(account)).collect()
        };
        for account in all {
            if let Err(error) = self.share_one(&account, store).await {
                tracing::warn!(%error, "share the use of a quota");
            }
        }
    }

    async fn share_one(&self, account: &Account, store: &Store) -> Result<(), StoreError> {
        let news = |used: &Used| used.own != used.written;
        if !news(&account.used()) {
            return Ok(());
        }
        // A new day has come under a running request.
        if account.used().read.is_none() {
            self.read(account, store).await?;
        }
        let (day, own) = {
            let used = account.used();
            (used.day, used.own)
        };
        let key = keys::quota(&account.owner, day, &self.replica);
        let body = serde_json::to_vec(&own).unwrap_or_default().into();
        store
            .put(&key, body, PutOptions::json(Condition::None))
            .await?;
        self.read(account, store).await?;
        let mut used = account.used();
        if used.day == day {
            used.written = own;
        }
        Ok(())
    }

    /// Shares every minute until the end, and once at it.
    pub async fn run(self, store: Store, end: CancellationToken) {
        while !self.is_off() && !end.is_cancelled() {
            tokio::select! {
                () = end.cancelled() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
            self.share(&store).await;
        }
    }
}

/// The limit that `more` bytes or one more upload would exceed. Pure.
fn reached(most: &Share, used: &Share, action: Action, more: u64) -> Option<Limit> {
    let creates = action == Action::Create;
    // A create brings bytes sooner or later.
    let more = if creates { more.max(1) } else { more };
    if most.bytes > 0 && more > 0 && used.bytes.saturating_add(more) > most.bytes {
        return Some(Limit::OwnerBytes);
    }
    (creates && most.uploads > 0 && used.uploads >= most.uploads).then_some(Limit::OwnerUploads)
}

/// A limit of the day that was reached.
fn of_day(limit: Limit, store: &Store) -> Reached {
    Reached {
        limit,
        after: until_tomorrow(store.now().as_second()),
    }
}

/// What a body has reached that was ended on its way.
#[must_use]
pub fn bytes_of_day(store: &Store) -> Reached {
    of_day(Limit::OwnerBytes, store)
}

fn until_tomorrow(now: i64) -> Duration {
    let left = DAY_SECONDS - now.rem_euclid(DAY_SECONDS);
    Duration::from_secs(left.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use kinora_fake_s3::{BUCKET, Behaviour, FakeS3};
    use kinora_storage::StoreArgs;

    use super::*;

    #[test]
    fn a_day_s_limit_is_named() {
        let share = |bytes, uploads| Share { bytes, uploads };
        let cases = [
            (
                "no limits",
                share(0, 0),
                share(9, 9),
                Action::Create,
                9,
                None,
            ),
            ("room", share(10, 0), share(4, 0), Action::Write, 6, None),
            (
                "too many bytes",
                share(10, 0),
                share(4, 0),
                Action::Write,
                7,
                Some(Limit::OwnerBytes),
            ),
            (
                "none left",
                share(10, 0),
                share(10, 0),
                Action::Create,
                0,
                Some(Limit::OwnerBytes),
            ),
            (
                "only a question",
                share(10, 0),
                share(10, 0),
                Action::Write,
                0,
                None,
            ),
            (
                "the last upload",
                share(0, 3),
                share(0, 2),
                Action::Create,
                0,
                None,
            ),
            (
                "too many uploads",
                share(0, 3),
                share(0, 3),
                Action::Create,
                0,
                Some(Limit::OwnerUploads),
            ),
            (
                "going on with one",
                share(0, 3),
                share(0, 3),
                Action::Write,
                5,
                None,
            ),
        ];
        for (name, most, used, action, more, want) in cases {
            assert_eq!(reached(&most, &used, action, more), want, "{name}");
        }
        assert_eq!(until_tomorrow(0), Duration::from_secs(86_400));
        assert_eq!(until_tomorrow(86_399), Duration::from_secs(1));
    }

    /// covers: S10
    #[tokio::test]
    async fn what_was_shared_counts_on_when_its_account_was_forgotten() {
        let s3 = FakeS3::start(Behaviour::aws()).unwrap();
        let args = StoreArgs::new(s3.endpoint(), BUCKET, s3.credentials_dir());
        let store = Store::new(&args).unwrap();
        let limits = OwnerLimits {
            bytes_per_day: 1000,
            ..OwnerLimits::default()
        };
        let quotas = Quotas::new(&limits, 1);
        let admit = async |owner, bytes| {
            let account = quotas.admit(owner, Action::Write, bytes, &store).await;
            account.map(Option::unwrap)
        };
        admit("one", 600).await.unwrap().bytes(600);
        quotas.share(&store).await;
        admit("two", 1).await.unwrap();
        assert!(admit("one", 600).await.is_err(), "600 were used");
        admit("one", 300).await.unwrap().bytes(300);
        quotas.share(&store).await;
        admit("two", 1).await.unwrap();
        assert!(admit("one", 101).await.is_err(), "900 were used");
        assert!(admit("one", 100).await.is_ok());
    }
}
