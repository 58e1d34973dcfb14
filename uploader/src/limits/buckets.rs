//! Rates by key: a token bucket (GCRA) for each, with bursts of two seconds' worth. The buckets used
//! longest ago are forgotten, so that strangers cannot fill the memory.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use lru::LruCache;
use sha2::{Digest, Sha256};

/// What a client is known by: a hash, so that its size is nobody's choice.
pub(super) type Key = [u8; 16];

/// The key of a list of words.
pub(super) fn key_of(words: &[&str]) -> Key {
    let mut digest = Sha256::new();
    for word in words {
        digest.update((word.len() as u64).to_be_bytes());
        digest.update(word);
    }
    let mut key = Key::default();
    key.copy_from_slice(&digest.finalize()[..16]);
    key
}

/// One limit, for every key.
#[derive(Debug)]
pub(super) struct Buckets {
    quota: Option<Quota>,
    clock: DefaultClock,
    kept: Mutex<LruCache<Key, DefaultDirectRateLimiter>>,
}

impl Buckets {
    /// So many a second, 0 for no limit; `remembered` keys.
    pub(super) fn new(per_second: u32, remembered: usize) -> Self {
        let rate = NonZeroU32::new(per_second);
        let most = NonZeroUsize::new(remembered).unwrap_or(NonZeroUsize::MIN);
        Self {
            quota: rate.map(|rate| {
                Quota::per_second(rate)
                    .allow_burst(rate.saturating_mul(NonZeroU32::MIN.saturating_add(1)))
            }),
            clock: DefaultClock::default(),
            kept: Mutex::new(LruCache::new(most)),
        }
    }

    /// Takes one; after how long there is one again when there is none.
    pub(super) fn take(&self, key: Key) -> Result<(), Duration> {
        let Some(quota) = self.quota else {
            return Ok(());
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = kept.get_or_insert(key, || RateLimiter::direct(quota));
        bucket
            .check()
            .map_err(|not| not.wait_time_from(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_burst_and_no_limit_is_none() {
        let buckets = Buckets::new(5, 10);
        for n in 0..10 {
            assert!(
                buckets.take(key_of(&["a"])).is_ok(),
                "{n} of a burst of ten"
            );
        }
        let after = buckets.take(key_of(&["a"])).unwrap_err();
        assert!(after > Duration::ZERO && after <= Duration::from_secs(1));
        assert!(buckets.take(key_of(&["b"])).is_ok());
        let none = Buckets::new(0, 10);
        assert!((0..1000).all(|_| none.take(key_of(&["a"])).is_ok()));
    }

    /// covers: S10
    #[test]
    fn ten_thousand_tenants_and_as_many_strangers_take_bounded_memory() {
        let buckets = Buckets::new(5, 16_384);
        for n in 0..10_000 {
            assert!(buckets.take(key_of(&["tenant", &n.to_string()])).is_ok());
        }
        for n in 0..100_000 {
            assert!(buckets.take(key_of(&["stranger", &n.to_string()])).is_ok());
        }
        let kept = buckets.kept.lock().unwrap();
        assert_eq!(kept.len(), 16_384);
        let entry = size_of::<Key>() + size_of::<DefaultDirectRateLimiter>();
        assert!(entry * kept.len() < 4 << 20, "{entry} bytes each");
    }

    #[test]
    fn words_do_not_run_into_each_other() {
        assert_ne!(key_of(&["ab", "c"]), key_of(&["a", "bc"]));
    }
}
