//! The table of situations of the API, row by row: what is stored in each, to the last condition, and what kstatus, and with it
//! Flux and `kubectl wait`, make of it.

use kinora_engine::job::machine::Verdict;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

/// The verdict of kstatus (sigs.k8s.io/cli-utils, `GetStandardConditions` and `checkGenericProperties`) about a custom resource.
fn kstatus(object: &Value) -> &'static str {
    let status = &object["status"];
    let observed = status["observedGeneration"].as_i64();
    if observed.is_some_and(|observed| Some(observed) != object["metadata"]["generation"].as_i64())
    {
        return "InProgress";
    }
    let conditions = status["conditions"].as_array().cloned();
    let is = |type_: &str, value: &str| {
        let mut all = conditions.iter().flatten();
        all.any(|c| c["type"] == type_ && c["status"] == value)
    };
    if is("Reconciling", "True") {
        return "InProgress";
    }
    if is("Stalled", "True") {
        return "Failed";
    }
    if is("Ready", "False") || is("Ready", "Unknown") {
        return "InProgress";
    }
    "Current"
}

/// One step of a life: the status that follows, and why.
type Step = fn(&mut Stored) -> (Status, Cause);

fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

fn claim(stored: &mut Stored) -> (Status, Cause) {
    let pool = stored.names.intern("default");
    (
        stored.facts().claimed(uid_of(POD), pool, NOW),
        Cause::Claimed,
    )
}

fn end(stored: &mut Stored, verdict: Verdict, policy: &PoolPolicy) -> (Status, Cause) {
    let after = stored.facts().ended(verdict, policy, NOW, &mut rng());
    (after, Cause::Ended(verdict.class))
}

fn end_as(stored: &mut Stored, class: Class) -> (Status, Cause) {
    end(stored, Verdict::of(class), &PoolPolicy::default())
}

fn edit(stored: &mut Stored, field: &str, value: bool) {
    stored.object["spec"][field] = json!(value);
    let generation = stored.object["metadata"]["generation"].as_i64().unwrap() + 1;
    stored.object["metadata"]["generation"] = json!(generation);
}

const OBSERVE: Step = |s| (s.facts().observed(NOW), Cause::Observed);
const CLAIM: Step = claim;
const FAIL: Step = |s| end_as(s, Class::Failed);
const SUCCEED: Step = |s| end_as(s, Class::Succeeded);
const BLOCK: Step = |s| {
    (
        s.facts().blocked(kinora_engine::Reason::PoolNotFound, NOW),
        Cause::Blocked,
    )
};
const CANCEL: Step = |s| {
    (
        s.facts().cancelled(Duration::ZERO, false, NOW),
        Cause::Cancelled,
    )
};
const SUSPEND: Step = |s| {
    edit(s, "suspend", true);
    (s.facts().suspended(NOW), Cause::Suspension)
};

/// What a row of the table shows: state; reason, shared by every condition of a row; Succeeded; Finished; further conditions,
/// all True; kstatus.
struct Want {
    state: &'static str,
    reason: &'static str,
    succeeded: &'static str,
    finished: &'static str,
    further: &'static [&'static str],
    kstatus: &'static str,
}

fn active(state: &'static str, reason: &'static str) -> Want {
    Want {
        state,
        reason,
        succeeded: "Unknown",
        finished: "False",
        further: &["Reconciling"],
        kstatus: "InProgress",
    }
}

fn held() -> Want {
    Want {
        further: &["Suspended"],
        kstatus: "Current",
        ..active("Suspended", "Suspended")
    }
}

fn over(state: &'static str, reason: &'static str, succeeded: &'static str) -> Want {
    Want {
        succeeded,
        finished: "True",
        further: &[],
        kstatus: "Current",
        ..active(state, reason)
    }
}

fn dead(reason: &'static str) -> Want {
    Want {
        further: &["Stalled"],
        kstatus: "Failed",
        ..over("DeadLettered", reason, "False")
    }
}

fn dies(with: fn(&mut Stored) -> (Status, Cause)) -> Vec<Step> {
    vec![CLAIM, with]
}

#[rstest]
#[case::waiting(vec![OBSERVE], active("Queued", "Queued"))]
#[case::running(vec![CLAIM], active("Running", "Processing"))]
#[case::backing_off(vec![CLAIM, FAIL], active("Backoff", "Backoff"))]
#[case::given_back(vec![CLAIM, |s| end_as(s, Class::Lost)], active("Queued", "Queued"))]
#[case::running_again(vec![CLAIM, FAIL, CLAIM], active("Running", "Processing"))]
#[case::suspended(vec![SUSPEND], held())]
#[case::suspended_in_backoff(vec![CLAIM, FAIL, SUSPEND], held())]
#[case::suspended_while_it_runs(
    vec![CLAIM, |s| { edit(s, "suspend", true); (s.facts().observed(NOW), Cause::Observed) }],
    active("Running", "Processing")
)]
#[case::suspended_once_it_ran(
    vec![CLAIM, |s| { edit(s, "suspend", true); end_as(s, Class::Failed) }],
    held()
)]
#[case::resumed(
    vec![SUSPEND, |s| { edit(s, "suspend", false); (s.facts().resumed(NOW), Cause::Suspension) }],
    active("Queued", "Queued")
)]
#[case::no_such_pool(
    vec![BLOCK],
    active("Queued", "PoolNotFound")
)]
#[case::source_missing_for_now(
    vec![CLAIM, |s| {
        end(s, Verdict { source_missing: true, ..Verdict::of(Class::Failed) }, &PoolPolicy::default())
    }],
    active("Backoff", "SourceUnavailable")
)]
#[case::done(vec![CLAIM, SUCCEED], over("Succeeded", "Completed", "True"))]
#[case::done_at_the_second_try(vec![CLAIM, FAIL, CLAIM, SUCCEED], over("Succeeded", "Completed", "True"))]
#[case::changed_after_its_end(
    vec![CLAIM, SUCCEED, |s| { edit(s, "suspend", true); (s.facts().observed(NOW), Cause::Observed) }],
    over("Succeeded", "Completed", "True")
)]
#[case::out_of_failures(
    dies(|s| end(s, Verdict::of(Class::Failed), &PoolPolicy { max_failures: 1, ..PoolPolicy::default() })),
    dead("FailuresExhausted")
)]
#[case::rejected(
    dies(|s| end(s, Verdict { credible: true, ..Verdict::of(Class::Rejected) }, &PoolPolicy::default())),
    dead("Rejected")
)]
#[case::poison(
    dies(|s| end(s, Verdict::of(Class::Interrupted), &PoolPolicy { interruption_limit: 1, ..PoolPolicy::default() })),
    dead("Poison")
)]
#[case::out_of_time(
    dies(|s| (s.facts().expired(Duration::from_secs(60), true, NOW), Cause::Expired)),
    dead("DeadlineExceeded")
)]
#[case::a_foreign_key(dies(|s| (s.facts().refused(NOW), Cause::SourceGone)), dead("InvalidSource"))]
#[case::redriven(
    vec![
        CLAIM,
        |s| (s.facts().refused(NOW), Cause::SourceGone),
        |s| (s.facts().redriven(kinora_engine::Uid(7), NOW), Cause::Redriven),
    ],
    active("Queued", "Queued")
)]
#[case::cancelled_before_it_ran(
    vec![CANCEL],
    over("Cancelled", "Cancelled", "False")
)]
#[case::cancelled_while_it_ran(
    vec![CLAIM, |s| (s.facts().cancelled(Duration::from_secs(60), true, NOW), Cause::Cancelled)],
    over("Cancelled", "Cancelled", "False")
)]
fn every_situation_shows_what_the_table_says(#[case] steps: Vec<Step>, #[case] want: Want) {
    let mut stored = Stored::new(created());
    assert_eq!(kstatus(&stored.object), "InProgress", "not yet seen");
    for step in steps {
        let (after, cause) = step(&mut stored);
        stored.write(&after, cause, &worker_extras());
        assert_eq!(stored.facts().status, after);
    }
    let object = &stored.object;
    let status = &object["status"];
    assert_eq!(status["state"], want.state);
    assert_eq!(
        status["observedGeneration"],
        object["metadata"]["generation"]
    );
    let further = want.further.iter().map(|type_| (*type_, "True"));
    let conditions = [("Succeeded", want.succeeded), ("Finished", want.finished)];
    let all: Vec<Value> = conditions
        .into_iter()
        .chain(further)
        .map(|(type_, is)| json!([type_, is, want.reason, object["metadata"]["generation"]]))
        .collect();
    let told = status["conditions"].as_array().unwrap().iter();
    let told: Vec<Value> = told
        .map(|c| json!([c["type"], c["status"], c["reason"], c["observedGeneration"]]))
        .collect();
    assert_eq!(told, all);
    assert_eq!(kstatus(object), want.kstatus);
    assert_eq!(
        status.get("finishTime").is_some(),
        want.finished == "True",
        "{status}"
    );
    let stays = kinora_crds::state::is_final(want.state);
    assert!(
        !stays || status.get("nextAttemptTime").is_none(),
        "{status}"
    );
}

/// Before the operator has written anything, nobody takes a changed or new object for done.
#[test]
fn a_spec_that_was_not_observed_yet_is_in_progress() {
    let mut stored = claimed();
    let (after, cause) = end_as(&mut stored, Class::Succeeded);
    stored.write(&after, cause, &worker_extras());
    assert_eq!(kstatus(&stored.object), "Current");
    edit(&mut stored, "suspend", true);
    assert_eq!(kstatus(&stored.object), "InProgress");
}
