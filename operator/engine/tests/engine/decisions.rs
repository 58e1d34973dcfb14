//! The decisions beside the queue: the audit, deletions, the note about the control plane, redrives, pace, retention.
//! covers: F9, F25, F51, F53, T24

use std::collections::BTreeMap;
use std::time::Duration;

use kinora_engine::action::Redrive;
use kinora_engine::audit::{self, Entry, Facts, Step};
use kinora_engine::control::{self, Note};
use kinora_engine::deletions::{Deletions, FLOOD, Verdict, WATCHED};
use kinora_engine::event::History;
use kinora_engine::pace::{Batches, Pace};
use kinora_engine::redrive::{Counts, Letter, Next, Wanted, Wishes, next};
use kinora_engine::retention::{self, Clocks, DAY, Kept};
use kinora_engine::watermark::Gate;
use kinora_engine::{Mono, Wall};
use proptest::prelude::*;

use crate::fixtures::secs;

/// covers: I1
#[test]
fn an_entry_is_made_a_job_again_only_when_nobody_else_can_and_it_has_not_ended() {
    let lost = Facts {
        age: secs(601),
        pending: Some(false),
        job: Some(false),
        entry: Some(Entry {
            accepted: true,
            redrives: 1,
        }),
        record: Some(None),
        admits: true,
    };
    let entry = |accepted, redrives| Some(Entry { accepted, redrives });
    let table = [
        ("lost with its control plane", lost, Step::Create(1)),
        (
            "only its first life has ended",
            Facts {
                record: Some(Some(0)),
                ..lost
            },
            Step::Create(1),
        ),
        (
            "it has ended",
            Facts {
                record: Some(Some(1)),
                ..lost
            },
            Step::Remove,
        ),
        (
            "a later life has ended",
            Facts {
                record: Some(Some(7)),
                ..lost
            },
            Step::Remove,
        ),
        (
            "somebody is just making it",
            Facts {
                age: secs(599),
                ..lost
            },
            Step::Leave,
        ),
        (
            "the outbox has it",
            Facts {
                pending: Some(true),
                ..lost
            },
            Step::Leave,
        ),
        (
            "there is a job",
            Facts {
                job: Some(true),
                ..lost
            },
            Step::Leave,
        ),
        (
            "rejected: its record is the uploader's",
            Facts {
                entry: entry(false, 0),
                ..lost
            },
            Step::Leave,
        ),
        (
            "rejected and recorded",
            Facts {
                entry: entry(false, 0),
                record: Some(Some(0)),
                ..lost
            },
            Step::Remove,
        ),
        (
            "the queue is full",
            Facts {
                admits: false,
                ..lost
            },
            Step::Wait,
        ),
        (
            "nobody asked etcd",
            Facts { job: None, ..lost },
            Step::AskJob,
        ),
        (
            "nobody looked into the outbox",
            Facts {
                pending: None,
                ..lost
            },
            Step::AskPending,
        ),
        (
            "nobody read it",
            Facts {
                entry: None,
                ..lost
            },
            Step::AskEntry,
        ),
        (
            "nobody looked for its record",
            Facts {
                record: None,
                ..lost
            },
            Step::AskRecord,
        ),
    ];
    for (name, facts, want) in table {
        assert_eq!(audit::next(&facts), want, "{name}");
    }
}

#[test]
fn a_control_plane_is_trusted_only_as_far_as_it_was_seen() {
    let now = Wall(9_000);
    let note = |cluster: &str, version, rewound| Note {
        cluster: cluster.to_owned(),
        version,
        rewound,
    };
    let table = [
        ("the same, further on", Some(note("a", 5, None)), None),
        ("the same, nothing happened", Some(note("a", 7, None)), None),
        ("an older past", Some(note("a", 8, None)), Some(now)),
        ("another control plane", Some(note("b", 1, None)), Some(now)),
        ("nobody ever looked", None, Some(now)),
        (
            "went back long ago: jobs of then are still doubted",
            Some(note("a", 5, Some(Wall(3)))),
            Some(Wall(3)),
        ),
    ];
    for (name, noted, want) in table {
        let (written, history) = control::compare(noted.as_ref(), secs(60), "a", 7, now);
        assert_eq!(
            history,
            want.map_or(History::Unbroken, History::Rewound),
            "{name}"
        );
        assert_eq!(written, note("a", 7, want), "{name}");
    }
    let bumped = 1_000_000_007;
    let minute = secs(60);
    let days = |n: u64| secs(n * 24 * 3600);
    let table = [
        (
            "restored with a bumped revision",
            7,
            minute,
            None,
            Some(now),
        ),
        ("as much in a week", 7, days(7), None, Some(now)),
        ("very busy", bumped - 400_000_000, minute, None, None),
        ("busy for days", bumped - 518_400_000, days(12), None, None),
        (
            "its return is noted, and its version is high",
            control::WENT_BACK,
            minute,
            Some(Wall(3)),
            Some(Wall(3)),
        ),
    ];
    for (name, version, ago, rewound, want) in table {
        let noted = note("a", version, rewound);
        let (_, history) = control::compare(Some(&noted), ago, "a", bumped, now);
        let want = want.map_or(History::Unbroken, History::Rewound);
        assert_eq!(history, want, "{name}");
    }
    // Where versions are times in nanoseconds, two looks a minute apart.
    let noted = note("a", 1_760_342_223_637_167_018, None);
    let (later, minute) = (noted.version + 60_000_000_000, Wall(69_000));
    let (_, history) = control::compare(Some(&noted), secs(60), "a", later, minute);
    assert_eq!(history, History::Unbroken);
    let (_, history) = control::compare(Some(&noted), secs(60), "a", noted.version - 1, minute);
    assert_eq!(history, History::Rewound(minute));
}

#[test]
fn a_rewind_is_found_once_and_a_first_look_finds_none() {
    let note = |version, rewound: Option<i64>| Note {
        cluster: "a".to_owned(),
        version,
        rewound: rewound.map(Wall),
    };
    let left = control::WENT_BACK;
    let table = [
        ("a new cell", None, note(7, Some(9)), false),
        ("all is well", Some(note(5, None)), note(7, None), false),
        ("it went back", Some(note(8, None)), note(7, Some(9)), true),
        ("long ago", Some(note(5, Some(3))), note(7, Some(3)), false),
        ("again", Some(note(8, Some(3))), note(7, Some(9)), true),
        (
            "under a process that ends",
            Some(note(8, None)),
            note(left, Some(9)),
            false,
        ),
        (
            "which whoever leads next hears of",
            Some(note(left, Some(9))),
            note(7, Some(9)),
            true,
        ),
    ];
    for (name, noted, note, want) in table {
        let found = control::is_found_now(noted.as_ref(), &note);
        assert_eq!(found, want, "{name}");
    }
}

#[test]
fn a_deletion_is_a_cancel_after_a_minute_and_a_flood_is_none_from_its_first_on() {
    let at = |ms: u64| Mono(ms);
    let mut few = Deletions::default();
    for n in 0..FLOOD - 1 {
        assert!(few.observed(n, at(0)));
    }
    assert!(few.due(at(59_999)).is_empty());
    let all = few.due(at(60_000));
    assert_eq!(all.len(), FLOOD - 1);
    assert!(
        all.iter()
            .all(|(_, verdict)| *verdict == Verdict::Cancelled)
    );

    let mut flood = Deletions::default();
    assert!(flood.observed(9999, at(0)));
    for n in 0..FLOOD {
        assert!(flood.observed(n, at(60_001 + n as u64 * 500)));
    }
    let judged = flood.due(at(300_000));
    assert_eq!(judged.len(), FLOOD + 1);
    for (n, verdict) in judged {
        let want = if n == 9999 {
            Verdict::Cancelled
        } else {
            Verdict::Lost
        };
        assert_eq!(verdict, want, "{n}");
    }
}

proptest! {
    /// Nothing that had a flood's company within a minute is ever called a cancel.
    #[test]
    fn no_member_of_a_flood_is_a_cancel(gaps in prop::collection::vec(0..2_000u64, 1..400)) {
        let mut deletions = Deletions::default();
        let mut now = Mono(0);
        let mut at = Vec::new();
        let mut judged = Vec::new();
        for (n, gap) in gaps.iter().enumerate() {
            now = now + Duration::from_millis(*gap);
            judged.extend(deletions.due(now));
            prop_assert!(deletions.observed(n, now));
            at.push(now);
        }
        judged.extend(deletions.due(now + WATCHED));
        prop_assert_eq!(judged.len(), at.len());
        for (n, verdict) in judged {
            let crowd = (0..at.len()).any(|end| {
                let start = end.saturating_sub(FLOOD - 1);
                end - start + 1 == FLOOD && (start..=end).contains(&n) && at[end].since(at[start]) < WATCHED
            });
            prop_assert_eq!(verdict == Verdict::Lost, crowd, "deletion {}", n);
        }
    }

    #[test]
    fn no_second_has_more_turns_than_the_pace(per_second in 1..50u32, steps in prop::collection::vec(0..500u64, 1..200)) {
        let mut pace = Pace::new(per_second.into());
        let (mut now, mut turns) = (Mono(0), Vec::new());
        for ms in steps {
            now = now + Duration::from_millis(ms);
            turns.push(now + pace.turn(now));
        }
        for (i, from) in turns.iter().enumerate() {
            let within = turns[i..].iter().filter(|t| t.since(*from) < Duration::from_millis(990)).count();
            prop_assert!(within <= per_second as usize + 1);
        }
    }

    #[test]
    fn no_batch_comes_before_those_ahead_of_it_are_paid(
        per_second in 1..200u32,
        batches in prop::collection::vec((0..5_000u64, 0..1_000u32), 1..50),
    ) {
        let mut pace = Batches::new(per_second.into());
        let (mut now, mut done) = (Mono(0), Vec::new());
        for (look, count) in batches {
            now = now + pace.before_look(now) + Duration::from_millis(look);
            pace.looked(Duration::from_millis(look));
            now = now + pace.turns(count, now);
            done.push((now, count));
        }
        for (i, (from, _)) in done.iter().enumerate() {
            let mut before = 0;
            for (at, count) in &done[i..] {
                let most = at.since(*from).as_secs_f64() * f64::from(per_second);
                // A batch may come a millisecond early.
                prop_assert!(f64::from(before) <= most + f64::from(per_second) / 1000.0 * done.len() as f64);
                before += count;
            }
        }
    }
}

#[test]
fn looking_through_a_batch_counts_against_the_pause_before_it_and_ends_with_it() {
    let mut pace = Batches::new(100.0);
    // Seconds at which a look begins, how many it takes, and at which its 500 are deleted.
    let table = [
        ("nothing to wait for", 0, 3, 3),
        ("it begins as early as the last look took", 5, 3, 8),
        ("a longer one ends late", 10, 7, 17),
        ("a shorter one has to wait", 17, 2, 22),
        ("longer than the pause: none is added", 25, 9, 34),
    ];
    let mut now = Mono(0);
    for (name, begins, takes, deletes) in table {
        now = now + pace.before_look(now);
        assert_eq!(now, Mono(begins * 1000), "{name}");
        now = now + Duration::from_secs(takes);
        pace.looked(Duration::from_secs(takes));
        now = now + pace.turns(500, now);
        assert_eq!(now, Mono(deletes * 1000), "{name}");
    }
}

#[test]
fn a_redrive_means_what_was_dead_when_it_was_made_and_nothing_that_it_brought_back() {
    let wanted = Wanted {
        made: Wall(100),
        by: "me".into(),
        pool: Some("clips".into()),
        reasons: vec!["Poison".into(), "Rejected".into()],
        before: Some(Wall(90)),
        after: Some(Wall(10)),
    };
    let good = Letter {
        pool: Some("clips"),
        reason: "Poison",
        finished: Some(Wall(50)),
        redriven_by: Some("another"),
    };
    let finished = |at| Letter {
        finished: Some(Wall(at)),
        ..good
    };
    let all = Wanted {
        made: Wall(100),
        by: "me".into(),
        ..Wanted::default()
    };
    let table = [
        ("one that fits", &wanted, good, true),
        (
            "another pool",
            &wanted,
            Letter {
                pool: Some("films"),
                ..good
            },
            false,
        ),
        ("no pool", &wanted, Letter { pool: None, ..good }, false),
        (
            "another reason",
            &wanted,
            Letter {
                reason: "InvalidSource",
                ..good
            },
            false,
        ),
        ("too young", &wanted, finished(90), false),
        ("too old", &wanted, finished(10), false),
        ("everything takes it", &all, good, true),
        (
            "dead since the request was made",
            &all,
            finished(101),
            false,
        ),
        ("dead at that moment", &all, finished(100), true),
        (
            "brought back by this request",
            &all,
            Letter {
                redriven_by: Some("me"),
                ..good
            },
            false,
        ),
        (
            "not finished",
            &all,
            Letter {
                finished: None,
                ..good
            },
            false,
        ),
    ];
    for (name, wanted, letter, want) in table {
        assert_eq!(wanted.takes(&letter), want, "{name}");
    }
}

#[test]
fn a_redrive_goes_on_until_its_author_or_the_dead_letters_end_it() {
    let two = Counts {
        matched: 3,
        redriven: 2,
        ..Counts::default()
    };
    let plain = Wishes::default();
    let suspend = Wishes {
        suspend: true,
        ..plain
    };
    let table = [
        ("more to do", plain, false, Next::GoOn),
        ("none left", plain, true, Next::Done),
        ("paused", suspend, false, Next::Pause),
        ("paused with none left", suspend, true, Next::Done),
        (
            "cancelled while paused",
            Wishes {
                cancel: true,
                ..suspend
            },
            false,
            Next::Cancelled,
        ),
        (
            "enough",
            Wishes {
                max_jobs: Some(2),
                ..plain
            },
            false,
            Next::Done,
        ),
        (
            "not yet enough",
            Wishes {
                max_jobs: Some(3),
                ..plain
            },
            false,
            Next::GoOn,
        ),
        (
            "a dry run counts what it would take",
            Wishes {
                max_jobs: Some(3),
                dry_run: true,
                ..plain
            },
            false,
            Next::Done,
        ),
    ];
    for (name, wishes, exhausted, want) in table {
        assert_eq!(next(wishes, two, exhausted), want, "{name}");
    }
    let mut counts = Counts::default();
    assert!(!counts.note(Redrive::NotLeader), "tried again elsewhere");
    for outcome in [
        Redrive::Done,
        Redrive::Skipped,
        Redrive::Gone,
        Redrive::Refused,
    ] {
        assert!(counts.note(outcome));
    }
    assert_eq!((counts.redriven, counts.skipped, counts.failed), (1, 2, 1));
}

#[test]
fn admission_closes_at_the_watermark_and_reopens_at_nine_tenths() {
    let mut gate = Gate::new(1000);
    assert_eq!(gate.watermark(), 1000, "as it is shown");
    for (live, want) in [
        (999, true),
        (1000, false),
        (901, false),
        (900, true),
        (950, true),
    ] {
        assert_eq!(gate.admit(live), want, "at {live}");
    }
}

fn day(n: i64) -> Wall {
    Wall(0) + DAY * u32::try_from(n).unwrap_or(0)
}

#[test]
fn nothing_goes_before_both_dates_and_both_clocks_agree() {
    let period = retention::period(30, None);
    let kept = Kept {
        day: day(100),
        modified: day(100),
        held: false,
        open: false,
    };
    let clocks = |local, store| Clocks {
        local: day(local),
        store: day(store),
    };
    let good = clocks(131, 131);
    use retention::Verdict as V;
    let table = [
        ("old by everything", kept, good, V::Delete),
        ("a day too early", kept, clocks(130, 130), V::Early),
        (
            "an old day, minted by a clock that was wrong: the store knows better",
            Kept {
                modified: day(110),
                ..kept
            },
            good,
            V::Early,
        ),
        (
            "touched long ago, but its day is young",
            Kept {
                day: day(110),
                ..kept
            },
            good,
            V::Early,
        ),
        ("held", Kept { held: true, ..kept }, good, V::Held),
        ("not ended", Kept { open: true, ..kept }, good, V::Open),
        (
            "our clock is five years ahead",
            kept,
            clocks(2000, 131),
            V::NoClock,
        ),
        (
            "the store's clock is ahead",
            kept,
            clocks(131, 2000),
            V::NoClock,
        ),
    ];
    for (name, kept, clocks, want) in table {
        assert_eq!(retention::judge(kept, period, clocks), want, "{name}");
    }
    assert_eq!(retention::period(30, Some(60)), DAY * 60, "never shortened");
    assert_eq!(retention::period(60, Some(30)), DAY * 60);
}

/// Seven years of one video a day, with holds, wrong clocks, late touches, a period that changes, days on which nobody cleans.
#[test]
fn in_five_years_nothing_is_deleted_early_and_everything_that_is_due() {
    const YEARS: i64 = 7 * 365;
    let mut written: BTreeMap<i64, u32> = BTreeMap::new();
    let mut kept: BTreeMap<i64, Kept> = BTreeMap::new();
    let mut gone: BTreeMap<i64, i64> = BTreeMap::new();
    let configured = |today: i64| if today < 800 { 1827 } else { 400 };
    for today in 0..YEARS {
        written.insert(today, configured(today));
        let minted = if today % 97 == 0 { today - 90 } else { today };
        kept.insert(
            today,
            Kept {
                day: day(minted),
                modified: if today % 41 == 0 {
                    day(today + 20)
                } else {
                    day(today)
                },
                held: today % 50 == 7 && today < 2000,
                open: false,
            },
        );
        // Now and then the clocks differ, or the leader is away.
        let clocks = Clocks {
            local: day(today)
                + if today % 13 == 0 {
                    DAY * 2000
                } else {
                    Duration::ZERO
                },
            store: day(today),
        };
        if today % 7 == 3 {
            continue;
        }
        let due: Vec<i64> = kept
            .iter()
            .filter(|(born, kept)| {
                let period = retention::period(configured(today), written.get(born).copied());
                retention::judge(**kept, period, clocks) == retention::Verdict::Delete
            })
            .map(|(born, _)| *born)
            .collect();
        for born in due {
            gone.insert(born, today);
            kept.remove(&born);
        }
    }
    assert!(gone.len() > 1500, "{}", gone.len());
    for (born, when) in &gone {
        let least = i64::from(written[born].max(configured(*when)));
        assert!(when - born >= least, "{born} went on {when}");
        assert!(!(born % 50 == 7 && *born < 2000), "{born} was held");
    }
    for born in kept.keys() {
        let least = i64::from(written[born].max(configured(YEARS)));
        let held = born % 50 == 7 && *born < 2000;
        // A day of its own, twenty of a late touch, one without a clock, one without a leader.
        assert!(held || born + least + 24 >= YEARS, "{born} is overdue");
    }
}
