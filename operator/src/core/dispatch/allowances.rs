//! What each worker may say: so much at once, so much a second, over all streams of its pod.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::core::allowance::Allowance;

/// Messages a second that a worker may send on average, and at once.
const RATE: f64 = 100.0;
const BURST: f64 = 4000.0;
/// The same for each of its slots: progress once a second, and outcomes.
const SLOT_RATE: f64 = 4.0;
const SLOT_BURST: f64 = 40.0;
/// Slots that a pool may ask for; whoever claims more gets no more for it.
const COUNTED_SLOTS: u32 = 256;
/// So many leases that a message lists cost as much as one more message. An honest worker lists them every 3 s.
const LEASES_A_MESSAGE: usize = 4;

/// The allowances of all pods. A pod that has said nothing for a while has no entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowances(Arc<Mutex<HashMap<String, Share>>>);

/// The one of a pod: all its streams have it together, since a new stream costs next to nothing.
#[derive(Clone, Debug)]
pub(super) struct Share(Arc<Mutex<Allowance>>);

impl Allowances {
    /// That of a pod. Those that are full again and have no stream are forgotten.
    pub(super) fn of(&self, pod_uid: &str, slots: u32, now: Instant) -> Share {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, share| Arc::strong_count(&share.0) > 1 || !share.is_full(now));
        all.entry(pod_uid.to_owned())
            .or_insert_with(|| Share::new(slots, now))
            .clone()
    }
}

impl Share {
    /// What a worker with so many slots may send.
    fn new(slots: u32, now: Instant) -> Share {
        let slots = f64::from(slots.min(COUNTED_SLOTS));
        let (rate, burst) = (RATE + slots * SLOT_RATE, BURST + slots * SLOT_BURST);
        Share(Arc::new(Mutex::new(Allowance::new(rate, burst, now))))
    }

    /// A message that lists so many leases; false once it is too much.
    pub(super) fn take(&self, leases: usize, now: Instant) -> bool {
        let cost = u32::try_from(1 + leases / LEASES_A_MESSAGE).unwrap_or(u32::MAX);
        let mut allowance = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        allowance.take(cost, now)
    }

    fn is_full(&self, now: Instant) -> bool {
        let mut allowance = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        allowance.is_full(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_cut_off_and_an_honest_worker_never_is() {
        let start = Instant::now();
        let table = [
            ("one slot", 1_u32, 12_u64, 5000),
            ("200 slots that tell progress each second", 200, 5, 13_000),
            ("as many as a pool may have", 256, 3, 15_000),
            ("as many as a worker may have", 1024, 3, 15_000),
            ("more than any worker has", u32::MAX, 3, 15_000),
        ];
        for (name, slots, pause_ms, flood) in table {
            let leases = usize::try_from(slots.min(1024) + 256).unwrap();
            let flooded = Share::new(slots, start);
            assert!((0..flood).any(|_| !flooded.take(0, start)), "{name}");
            let flooded = Share::new(slots, start);
            assert!((0..120).any(|_| !flooded.take(leases, start)), "{name}");
            let honest = Share::new(slots, start);
            let says = |i| {
                let ms = i * pause_ms;
                let listed = if ms % 3000 < pause_ms { leases } else { 0 };
                honest.take(listed, start + Duration::from_millis(ms))
            };
            assert!((0..60_000).all(says), "{name}");
        }
    }

    #[test]
    fn a_new_stream_is_no_new_allowance_and_a_pod_that_rests_is_forgotten() {
        let start = Instant::now();
        let all = Allowances::default();
        let first = all.of("a", 1, start);
        while first.take(0, start) {}
        drop(first);
        assert!(!all.of("a", 1, start).take(0, start));
        assert!(all.of("b", 1, start).take(0, start), "another pod");
        let open = all.of("c", 1, start);
        let later = start + Duration::from_secs(60);
        assert!(all.of("d", 1, later).take(0, later));
        let known = all.0.lock().unwrap().len();
        assert_eq!(known, 2, "those with a stream, and who spoke last");
        assert!(open.take(0, later));
    }
}
