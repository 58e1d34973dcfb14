//! A pool scaled up and down step by step, with the moves each step must and must not make.

use proptest::prelude::*;

use super::*;

const WINDOW: Duration = Duration::from_secs(60);

pub(super) fn worker(uid: &str, busy: u32) -> Worker {
    Worker {
        uid: uid.to_owned(),
        name: format!("pod-{uid}"),
        busy: Some(busy),
        cordoned: false,
        ready: true,
        leaving: false,
        marked: false,
    }
}

pub(super) fn view(current: i32, desired: i32, workers: Vec<Worker>) -> View {
    View {
        current,
        desired,
        window: WINDOW,
        workers,
    }
}

/// A scaler whose window has passed at the returned time.
fn after_window(view: &View) -> (Scaler, Instant) {
    let t0 = Instant::now();
    let mut scaler = Scaler::default();
    let moves = scaler.step(view, t0);
    assert_eq!(
        moves.target, view.current,
        "nothing happens inside the window"
    );
    assert!(moves.cordon.is_empty() && moves.mark.is_empty());
    assert_eq!(moves.again, Some(WINDOW));
    (scaler, t0 + WINDOW)
}

#[test]
fn up_is_at_once_also_from_zero() {
    let moves = Scaler::default().step(&view(0, 3, vec![]), Instant::now());
    assert_eq!(
        moves,
        Moves {
            target: 3,
            ..Moves::default()
        }
    );
}

#[test]
fn a_steady_pool_asks_for_nothing() {
    let steady = view(2, 2, vec![worker("a", 1), worker("b", 0)]);
    assert_eq!(
        Scaler::default().step(&steady, Instant::now()),
        Moves {
            target: 2,
            ..Moves::default()
        }
    );
}

#[test]
fn down_goes_over_cordon_mark_wait_and_a_second_look() {
    let mut seen = view(2, 1, vec![worker("a", 1), worker("b", 0)]);
    let (mut scaler, t1) = after_window(&seen);
    let at = |millis: u64| t1 + Duration::from_millis(millis);

    let moves = scaler.step(&seen, at(0));
    assert_eq!(
        (moves.target, moves.cordon),
        (2, vec!["b".to_owned()]),
        "the idlest is cordoned, nothing is scaled"
    );
    assert!(
        moves.mark.is_empty(),
        "not before the core confirmed the cordon"
    );

    seen.workers[1].cordoned = true;
    assert_eq!(scaler.step(&seen, at(100)).mark, ["pod-b"]);

    seen.workers[1].marked = true;
    let moves = scaler.step(&seen, at(200));
    assert_eq!(
        (moves.target, moves.mark.len(), moves.again),
        (2, 0, Some(LOOK_AGAIN))
    );
    assert_eq!(
        scaler.step(&seen, at(2_199)),
        Moves {
            target: 2,
            again: Some(LOOK_AGAIN),
            ..Moves::default()
        },
        "two seconds are not over"
    );
    let moves = scaler.step(&seen, at(2_200));
    assert_eq!((moves.target, moves.drain), (1, vec!["b".to_owned()]));

    seen.current = 1;
    let moves = scaler.step(&seen, at(2_300));
    assert_eq!(
        (moves.target, moves.uncordon.len(), moves.unmark.len()),
        (1, 0, 0),
        "the pod is about to go"
    );
    seen.workers[1].leaving = true;
    assert_eq!(
        scaler.step(&seen, at(2_400)),
        Moves {
            target: 1,
            ..Moves::default()
        },
        "done"
    );
}

#[test]
fn a_lease_that_was_on_its_way_saves_its_worker() {
    let mut seen = view(2, 1, vec![worker("a", 1), worker("b", 0)]);
    let (mut scaler, t1) = after_window(&seen);
    scaler.step(&seen, t1);
    seen.workers[1].cordoned = true;
    seen.workers[1].marked = true;
    scaler.step(&seen, t1);
    seen.workers[1].busy = Some(1);
    let moves = scaler.step(&seen, t1 + SETTLE);
    assert_eq!((moves.target, moves.unmark), (2, vec!["pod-b".to_owned()]));
    seen.workers[1].busy = Some(0);
    seen.workers[1].marked = false;
    let moves = scaler.step(&seen, t1 + SETTLE * 2);
    assert_eq!(
        (moves.target, moves.mark),
        (2, vec!["pod-b".to_owned()]),
        "idle again: the wait starts anew"
    );
}

#[test]
fn a_worker_that_has_yet_to_leave_pays_for_no_second_replica() {
    let busy = ["b", "c", "d", "e"].map(|uid| worker(uid, 1));
    let mut seen = view(5, 2, [vec![worker("a", 0)], busy.to_vec()].concat());
    let (mut scaler, t1) = after_window(&seen);
    scaler.step(&seen, t1);
    seen.workers[0].cordoned = true;
    seen.workers[0].marked = true;
    scaler.step(&seen, t1);
    let moves = scaler.step(&seen, t1 + SETTLE);
    assert_eq!((moves.target, moves.drain), (4, vec!["a".to_owned()]));

    seen.current = 4;
    for step in 1..60 {
        let moves = scaler.step(&seen, t1 + SETTLE + LOOK_AGAIN * step);
        assert_eq!(
            (moves.target, moves.uncordon.len()),
            (4, 0),
            "the others are busy"
        );
    }
    seen.workers[0].leaving = true;
    seen.workers[1].busy = Some(0);
    seen.workers[1].cordoned = true;
    seen.workers[1].marked = true;
    let t2 = t1 + SETTLE * 20;
    assert_eq!(scaler.step(&seen, t2).target, 4);
    let moves = scaler.step(&seen, t2 + SETTLE);
    assert_eq!((moves.target, moves.drain), (3, vec!["b".to_owned()]));
}

#[test]
fn more_work_gives_the_chosen_back_at_once() {
    let mut seen = view(2, 1, vec![worker("a", 1), worker("b", 0)]);
    let (mut scaler, t1) = after_window(&seen);
    scaler.step(&seen, t1);
    seen.workers[1].cordoned = true;
    seen.workers[1].marked = true;
    seen.desired = 3;
    let moves = scaler.step(&seen, t1);
    let want = Moves {
        target: 3,
        uncordon: vec!["b".to_owned()],
        unmark: vec!["pod-b".to_owned()],
        ..Moves::default()
    };
    assert_eq!(moves, want);
}

#[test]
fn pods_that_never_came_up_go_first_and_unseen_ones_never() {
    let dark = |ready| Worker {
        busy: None,
        ready,
        ..worker("c", 0)
    };
    let seen = view(2, 1, vec![worker("a", 0), dark(false)]);
    let (mut scaler, t1) = after_window(&seen);
    let moves = scaler.step(&seen, t1);
    assert_eq!(
        (moves.cordon.len(), moves.mark),
        (0, vec!["pod-c".to_owned()]),
        "no stream, not ready"
    );

    let seen = view(1, 0, vec![dark(true)]);
    let (mut scaler, t1) = after_window(&seen);
    for seconds in 0..60 {
        let moves = scaler.step(&seen, t1 + Duration::from_secs(seconds));
        assert_eq!(
            (moves.target, moves.mark.len()),
            (1, 0),
            "up but without a stream: it may hold leases"
        );
    }
}

#[test]
fn replicas_without_a_pod_are_taken_back_without_asking() {
    let seen = view(5, 2, vec![worker("a", 1), worker("b", 1)]);
    let (mut scaler, t1) = after_window(&seen);
    let moves = scaler.step(&seen, t1);
    assert_eq!((moves.target, moves.cordon.len()), (2, 0));
}

#[test]
fn the_most_that_was_wanted_within_the_window_stays() {
    let t0 = Instant::now();
    let mut scaler = Scaler::default();
    let steps = [
        (0, 1, 4, "what was there counts for a window"),
        (20, 3, 4, "more is wanted for a while"),
        (40, 0, 4, "and then nothing"),
        (59, 0, 4, "the first window is not over"),
        (60, 0, 3, "three were wanted until a moment ago"),
        (99, 0, 3, "still within their window"),
        (100, 0, 0, "and now nobody wanted any for a whole window"),
    ];
    for (seconds, desired, want, name) in steps {
        // No pod exists, so the goal is reached without draining.
        let moves = scaler.step(&view(4, desired, vec![]), t0 + Duration::from_secs(seconds));
        assert_eq!(moves.target, want, "{name}");
    }
}

#[test]
fn a_mark_left_by_an_earlier_leader_is_removed() {
    let left = Worker {
        marked: true,
        ..worker("a", 1)
    };
    let moves = Scaler::default().step(&view(1, 1, vec![left]), Instant::now());
    assert_eq!(moves.unmark, ["pod-a"]);
}

proptest! {
    /// covers: F34
    #[test]
    fn never_fewer_than_the_busy_and_never_below_what_is_wanted(
        loads in prop::collection::vec((0..3u32, any::<bool>(), any::<bool>()), 0..8),
        desired in 0..8i32,
        seconds in prop::collection::vec(0..90u64, 1..20),
    ) {
        let workers: Vec<_> = loads.iter().enumerate().map(|(index, (busy, cordoned, marked))| {
            Worker { cordoned: *cordoned, marked: *marked, ..worker(&index.to_string(), *busy) }
        }).collect();
        let current = i32::try_from(workers.len()).unwrap();
        let busy = i32::try_from(workers.iter().filter(|w| w.busy != Some(0)).count()).unwrap();
        let mut scaler = Scaler::default();
        let mut now = Instant::now();
        for pause in seconds {
            now += Duration::from_secs(pause);
            let target = scaler.step(&view(current, desired, workers.clone()), now).target;
            prop_assert!(target >= desired.min(current));
            prop_assert!(target >= busy.min(current));
        }
    }
}
