//! When the dispatch CA and serving certificates are replaced. Pure; time is an argument.
//!
//! A new CA is published first and signs only after every worker must have seen it; the old one stays published until
//! nothing that it signed is served any more. So at no time does a worker meet a certificate that it cannot judge.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

const fn hours(n: i64) -> SignedDuration {
    SignedDuration::from_hours(n)
}

/// How long a new CA is valid.
pub(super) const CA_LIFE: SignedDuration = hours(365 * 24);
/// Age at which its successor is made.
const CA_RENEWED_AT: SignedDuration = hours(243 * 24);
/// How long the successor is published before it signs: a kubelet takes minutes to update a mounted ConfigMap, and an
/// operator may be away for a while in between.
const PUBLISHED_FIRST: SignedDuration = hours(24);
/// How long a serving certificate is valid.
pub(super) const SERVING_LIFE: SignedDuration = hours(7 * 24);
/// Age at which a replica signs itself another.
const SERVING_RENEWED_AT: SignedDuration = hours(4 * 24);
/// How long a CA that does not sign any more stays published.
const OLD_KEPT: SignedDuration = hours(8 * 24);

/// When each part of the stored CA began to be what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ages {
    /// The CA that signs was made.
    pub(super) current: Timestamp,
    /// Its successor was published.
    pub(super) next: Option<Timestamp>,
    /// Its predecessor stopped signing.
    pub(super) old: Option<Timestamp>,
}

/// The next step of the stored CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make a successor and publish it.
    MakeNext,
    /// The successor signs from now on.
    Promote,
    /// Publish the predecessor no longer.
    DropOld,
}

/// What is due now, if anything is.
pub(super) fn due(ages: &Ages, now: Timestamp) -> Option<Step> {
    let since = |at: Timestamp| now.duration_since(at);
    if ages.old.is_some_and(|at| since(at) >= OLD_KEPT) {
        return Some(Step::DropOld);
    }
    match ages.next {
        // One at a time: a predecessor that is still served must stay published.
        Some(at) if ages.old.is_none() && since(at) >= PUBLISHED_FIRST => Some(Step::Promote),
        Some(_) => None,
        None => (since(ages.current) >= CA_RENEWED_AT).then_some(Step::MakeNext),
    }
}

/// Whether a replica that signed itself a certificate at `made` needs another.
pub(super) fn serving_is_old(made: Timestamp, now: Timestamp) -> bool {
    now.duration_since(made) >= SERVING_RENEWED_AT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(n: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + hours(24 * n)
    }

    #[test]
    fn each_step_is_due_at_its_time_and_not_before() {
        let ages = |current, next: Option<i64>, old: Option<i64>| Ages {
            current: day(current),
            next: next.map(day),
            old: old.map(day),
        };
        let table = [
            ("a young CA", ages(0, None, None), 242, None),
            ("an old one", ages(0, None, None), 243, Some(Step::MakeNext)),
            ("published today", ages(0, Some(243), None), 243, None),
            (
                "published long enough",
                ages(0, Some(243), None),
                244,
                Some(Step::Promote),
            ),
            (
                "a predecessor that may be served",
                ages(243, None, Some(244)),
                251,
                None,
            ),
            (
                "one that nobody serves",
                ages(243, None, Some(244)),
                252,
                Some(Step::DropOld),
            ),
            ("a clock that went back", ages(100, None, None), 0, None),
        ];
        for (name, ages, at, want) in table {
            assert_eq!(due(&ages, day(at)), want, "{name}");
        }
    }

    /// Ten years, hour by hour: a replica that reloads an hour late and signs as late as it may, a worker whose file is an
    /// hour behind. Every certificate that is served was signed by a CA in that file, and neither is past its life.
    ///
    /// covers: F59
    #[test]
    fn no_worker_ever_meets_a_certificate_it_cannot_judge() {
        let mut ages = Ages {
            current: day(0),
            next: None,
            old: None,
        };
        // CAs are known by when they were made.
        let (mut current, mut next, mut old) = (day(0), None, None);
        let mut published: Vec<Timestamp> = vec![current];
        let (mut signed_by, mut signed_at) = (current, day(0));
        let mut rotations = 0;
        for hour in 0..24 * 3650 {
            let now = day(0) + hours(hour);
            let lagging = published.clone();
            match due(&ages, now) {
                Some(Step::MakeNext) => {
                    next = Some(now);
                    ages.next = Some(now);
                }
                Some(Step::Promote) => {
                    old = Some(current);
                    current = next.take().unwrap();
                    ages = Ages {
                        current,
                        next: None,
                        old: Some(now),
                    };
                    rotations += 1;
                }
                Some(Step::DropOld) => {
                    old = None;
                    ages.old = None;
                }
                None => {}
            }
            published = [Some(current), next, old].into_iter().flatten().collect();
            assert!(
                lagging.contains(&signed_by),
                "{now}: nobody trusts what is served"
            );
            assert!(now.duration_since(signed_by) < CA_LIFE, "{now}");
            assert!(now.duration_since(signed_at) < SERVING_LIFE, "{now}");
            // Reloads an hour after the change of CA at the earliest.
            if serving_is_old(signed_at, now) {
                (signed_by, signed_at) = (current, now);
            }
        }
        assert!(rotations >= 14, "{rotations}");
    }
}
