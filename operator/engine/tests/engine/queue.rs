//! Who is next in one pool: priorities, shares, the aged lane.
//! covers: T22

use std::collections::BTreeMap;

use kinora_engine::policy::{Fairness, TenantShare};
use kinora_engine::schedule::queue::{Queue, Room};
use kinora_engine::*;
use proptest::prelude::*;

use crate::fixtures::*;

const ANY: Room = Room {
    any: true,
    idle: true,
};

pub(crate) fn of(tenant: u32, uid: u128) -> Job {
    let mut job = job(uid);
    job.spec.tenant = Symbol(tenant);
    job
}

pub(crate) fn share(tenant: u32, weight: u32, cap: Option<u32>) -> TenantShare {
    TenantShare {
        tenant: Symbol(tenant),
        weight,
        max_in_flight: cap,
    }
}

/// Takes the next `count` jobs from a queue; their tenants.
fn drain(queue: &mut Queue, jobs: &BTreeMap<Uid, Job>, rules: &Fairness, count: usize) -> Vec<u32> {
    let mut order = Vec::new();
    for _ in 0..count {
        let Some(ticket) = queue.pick(rules, START, ANY, |_, _| true) else {
            break;
        };
        queue.granted(ticket, rules);
        queue.remove(&jobs[&ticket.uid]);
        order.push(ticket.tenant.0);
    }
    order
}

fn filled(jobs: impl IntoIterator<Item = Job>) -> (Queue, BTreeMap<Uid, Job>) {
    let mut queue = Queue::default();
    let jobs: BTreeMap<Uid, Job> = jobs.into_iter().map(|job| (job.uid, job)).collect();
    for job in jobs.values() {
        queue.insert(job, false);
    }
    (queue, jobs)
}

#[test]
fn a_flooding_tenant_gets_no_more_than_its_share_while_others_wait() {
    let flood = (1..=100).map(|uid| of(1, uid));
    let few = (201..=205).map(|uid| of(2, uid));
    let (mut queue, jobs) = filled(flood.chain(few));
    let order = drain(&mut queue, &jobs, &Fairness::default(), 10);
    assert_eq!(
        order.iter().filter(|tenant| **tenant == 2).count(),
        5,
        "{order:?}"
    );
    let rest = drain(&mut queue, &jobs, &Fairness::default(), 1000);
    assert_eq!(rest.len(), 95);
}

#[test]
fn weights_divide_the_grants() {
    let (mut queue, jobs) =
        filled((1..=400).map(|uid| of(u32::try_from(uid % 2).unwrap() + 1, uid)));
    let rules = Fairness {
        tenants: vec![share(1, 3, None)],
        ..Fairness::default()
    };
    let order = drain(&mut queue, &jobs, &rules, 100);
    let heavy = order.iter().filter(|tenant| **tenant == 1).count();
    assert!((74..=76).contains(&heavy), "{heavy} of 100");
}

#[test]
fn a_tenant_that_was_away_saves_nothing_up() {
    let (mut queue, mut jobs) = filled((1..=100).map(|uid| of(1, uid)));
    drain(&mut queue, &jobs, &Fairness::default(), 50);
    for uid in 201..=300 {
        let late = of(2, uid);
        queue.insert(&late, false);
        jobs.insert(late.uid, late);
    }
    let order = drain(&mut queue, &jobs, &Fairness::default(), 20);
    let newcomer = order.iter().filter(|tenant| **tenant == 2).count();
    assert!((9..=11).contains(&newcomer), "{order:?}");
}

/// Takes the next `count` jobs among tenants that `may` be served; their tenants.
fn drain_of(
    queue: &mut Queue,
    jobs: &BTreeMap<Uid, Job>,
    count: usize,
    may: impl Fn(Symbol) -> bool,
) -> Vec<u32> {
    let mut order = Vec::new();
    for _ in 0..count {
        let ticket = queue.pick(&Fairness::default(), START, ANY, |tenant, _| may(tenant));
        let ticket = ticket.expect("enough of them wait");
        queue.granted(ticket, &Fairness::default());
        queue.remove(&jobs[&ticket.uid]);
        order.push(ticket.tenant.0);
    }
    order
}

fn urgent(tenant: u32, uid: u128) -> Job {
    let mut job = of(tenant, uid);
    job.spec.priority = 9;
    job
}

#[test]
fn who_waits_but_may_not_be_served_does_not_hold_the_clock_back() {
    let capped = |tenant: Symbol| tenant != Symbol(9);
    let busy = (1..=200).map(|uid| of(1, uid));
    let (mut queue, mut jobs) = filled(busy.chain([of(9, 901)]));
    drain_of(&mut queue, &jobs, 100, capped);
    for uid in 201..=300 {
        let late = of(2, uid);
        queue.insert(&late, false);
        jobs.insert(late.uid, late);
    }
    let order = drain_of(&mut queue, &jobs, 20, capped);
    let newcomer = order.iter().filter(|tenant| **tenant == 2).count();
    assert!((9..=11).contains(&newcomer), "{order:?}");
}

#[test]
fn neither_a_lower_priority_nor_waiting_in_it_gives_a_tenant_a_start() {
    let busy = (1..=200).map(|uid| urgent(1, uid));
    let (mut queue, mut jobs) = filled(busy.chain([of(2, 901), of(3, 902)]));
    drain_of(&mut queue, &jobs, 100, |_| true);
    // One that waits below and one that waited nowhere.
    for (tenant, uid) in (201..=400).map(|uid| (3 + u32::from(uid % 2 == 0), uid)) {
        let late = urgent(tenant, uid);
        queue.insert(&late, false);
        jobs.insert(late.uid, late);
    }
    let order = drain_of(&mut queue, &jobs, 30, |_| true);
    for tenant in [1, 3, 4] {
        let count = order.iter().filter(|one| **one == tenant).count();
        assert!((9..=11).contains(&count), "{tenant}: {order:?}");
    }
}

#[test]
fn a_tenant_whose_cap_is_lifted_saved_nothing_up() {
    let both = (1..=400).map(|uid| of(u32::try_from(uid % 2).unwrap() + 1, uid));
    let (mut queue, jobs) = filled(both);
    drain_of(&mut queue, &jobs, 100, |tenant| tenant == Symbol(1));
    let order = drain_of(&mut queue, &jobs, 20, |_| true);
    let freed = order.iter().filter(|tenant| **tenant == 2).count();
    assert!((9..=11).contains(&freed), "{order:?}");
}

#[test]
fn aged_jobs_get_at_most_half_of_the_grants_whatever_their_priority() {
    let aged = (1..=50).map(|uid| {
        let mut old = of(1, uid);
        old.spec.created = Wall(START.0 - 1_000_000);
        old
    });
    let urgent = (101..=150).map(|uid| {
        let mut urgent = of(2, uid);
        urgent.spec.priority = 9;
        urgent
    });
    let (mut queue, jobs) = filled(aged.chain(urgent));
    let order = drain(&mut queue, &jobs, &Fairness::default(), 40);
    let of_aged = order.iter().filter(|tenant| **tenant == 1).count();
    assert_eq!(of_aged, 20, "{order:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_waiting_tenant_is_served_within_a_bounded_number_of_grants(
        crowd in prop::collection::vec((1..8u32, 1..40usize, 0..2_000_000i64), 2..8),
    ) {
        let mut jobs = Vec::new();
        let mut rules = Fairness::default();
        for (tenant, (weight, count, age)) in crowd.iter().enumerate() {
            let tenant = u32::try_from(tenant).unwrap();
            rules.tenants.push(share(tenant, *weight, None));
            for n in 0..*count {
                let mut one = of(tenant, u128::from(tenant) * 1000 + n as u128);
                one.spec.created = Wall(START.0 - age);
                jobs.push(one);
            }
        }
        let (mut queue, jobs) = filled(jobs);
        let total: u32 = crowd.iter().map(|(weight, _, _)| weight).sum();
        let order = drain(&mut queue, &jobs, &rules, 10_000);
        prop_assert_eq!(order.len(), jobs.len(), "everybody is served once");
        for (tenant, (_, count, _)) in crowd.iter().enumerate() {
            let at: Vec<usize> = (0..order.len()).filter(|i| order[*i] as usize == tenant).collect();
            prop_assert_eq!(at.len(), *count);
            // A round of all weights, in which each tenant may be a turn ahead at its begin and at its
            // end; twice for the aged lane, which gets at most every other grant.
            let bound = (usize::try_from(total).unwrap() + 2 * crowd.len()) * 2;
            let mut before = 0;
            for next in at {
                prop_assert!(next - before <= bound, "tenant {} waited {} of {}", tenant, next - before, bound);
                before = next;
            }
        }
    }

    /// Tenants come, go, and reach their caps: who waits and may be served is passed by each other tenant a few times at most.
    #[test]
    fn whatever_others_do_a_tenant_that_may_be_served_is(
        weights in prop::collection::vec(1..5u32, 2..6),
        steps in prop::collection::vec((0..8u8, 0..6u32, 0..2i32), 50..400),
    ) {
        let of_weight = |(tenant, weight): (usize, &u32)| share(u32::try_from(tenant).unwrap(), *weight, None);
        let rules = Fairness {
            tenants: weights.iter().enumerate().map(of_weight).collect(),
            ..Fairness::default()
        };
        let mut queue = Queue::default();
        let mut jobs: BTreeMap<Uid, Job> = BTreeMap::new();
        let mut capped = vec![false; weights.len()];
        // Of each tenant in each priority: how often each other one was served since it could have been.
        let mut passed: BTreeMap<(u32, i32), BTreeMap<u32, u32>> = BTreeMap::new();
        for (step, (what, tenant, priority)) in steps.into_iter().enumerate() {
            let index = tenant as usize % weights.len();
            let tenant = u32::try_from(index).unwrap();
            match what {
                0 => {
                    capped[index] = !capped[index];
                    passed.retain(|(one, _), _| *one != tenant);
                }
                1..=3 => {
                    let mut job = of(tenant, step as u128 + 1);
                    job.spec.priority = priority;
                    queue.insert(&job, false);
                    jobs.insert(job.uid, job);
                }
                _ => {
                    let Some(ticket) = queue.pick(&rules, START, ANY, |one, _| !capped[one.0 as usize]) else {
                        continue;
                    };
                    queue.granted(ticket, &rules);
                    let served = jobs.remove(&ticket.uid).unwrap();
                    queue.remove(&served);
                    let (winner, level) = (served.spec.tenant.0, served.spec.priority);
                    passed.remove(&(winner, level));
                    for job in jobs.values().filter(|job| !capped[job.spec.tenant.0 as usize]) {
                        prop_assert!(job.spec.priority <= level, "the higher priority is first");
                    }
                    let others: std::collections::BTreeSet<u32> = jobs
                        .values()
                        .filter(|job| job.spec.priority == level && job.spec.tenant.0 != winner)
                        .map(|job| job.spec.tenant.0)
                        .filter(|one| !capped[*one as usize])
                        .collect();
                    for one in others {
                        let count = passed.entry((one, level)).or_default().entry(winner).or_default();
                        *count += 1;
                        let bound = weights[winner as usize].div_ceil(weights[one as usize]) + 2;
                        prop_assert!(*count <= bound, "{winner} passed {one} {count} times");
                    }
                }
            }
        }
    }
}

/// A backfill of one namespace must not keep the uploads' jobs from being made.
#[test]
fn the_watermark_counts_the_jobs_of_uploads_only() {
    let mut world = World::with_pool(pool());
    for uid in 1..=6 {
        let mut one = job(uid);
        one.spec.declared = uid > 2;
        one.spec.suspend = true;
        world.put(one);
    }
    assert_eq!(world.engine.live_jobs(), 6);
    assert_eq!(world.engine.live_uploads(), 2);
    world.edit(1, |spec| spec.cancel = true);
    world.edit(4, |spec| spec.cancel = true);
    assert_eq!(
        (world.phase(1), world.phase(4)),
        (Phase::Cancelled, Phase::Cancelled)
    );
    assert_eq!(world.engine.live_uploads(), 1);
    world.etcd.remove(&Uid(2));
    world.feed(Event::JobDeleted(Uid(2)));
    assert_eq!(world.engine.live_uploads(), 0);
    assert_eq!(world.engine.live_jobs(), 3);
}

/// A capped tenant always has an old backlog.
#[test]
fn aged_jobs_of_a_capped_tenant_do_not_hide_those_of_others() {
    let long_ago = Wall(START.0 - 3_600_000);
    let capped = (1..=100).map(|uid| {
        let mut old = of(1, uid);
        old.spec.created = long_ago;
        old
    });
    let mut low = of(3, 200);
    low.spec.created = Wall(long_ago.0 + 1000);
    low.spec.priority = -1;
    let urgent = (300..=350).map(|uid| {
        let mut urgent = of(2, uid);
        urgent.spec.priority = 9;
        urgent
    });
    let (mut queue, jobs) = filled(capped.chain([low]).chain(urgent));
    let rules = Fairness::default();
    let mut order = Vec::new();
    for _ in 0..4 {
        let ticket = queue
            .pick(&rules, START, ANY, |tenant, _| tenant != Symbol(1))
            .unwrap();
        queue.granted(ticket, &rules);
        queue.remove(&jobs[&ticket.uid]);
        order.push(ticket.tenant.0);
    }
    assert!(order.contains(&3), "{order:?}");
}

/// A batch that lay in Git, suspended, and is let go.
#[test]
fn what_was_held_since_it_was_made_waits_since_it_was_let_go() {
    let mut world = World::with_pool(pool());
    let mut held = job(1);
    held.spec.declared = true;
    held.spec.suspend = true;
    world.put(held);
    world.pass(secs(86_400), &[]);
    let let_go = world.now.wall;
    world.edit(1, |spec| spec.suspend = false);
    assert_eq!(world.phase(1), Phase::Queued);
    let views = world.engine.pools(world.now.wall);
    let oldest = views[&POOL].oldest.unwrap();
    assert!(let_go - oldest < secs(1), "{oldest:?}");
}

/// The first status that is written of a declared job is no reason to begin to wait anew.
#[test]
fn what_was_never_held_waits_since_it_was_made() {
    let mut world = World::with_pool(PoolPolicy {
        suspended: true,
        ..pool()
    });
    let mut late = job(1);
    late.spec.declared = true;
    late.spec.created = Wall(START.0 - 7_200_000);
    let created = late.spec.created;
    world.put(late);
    assert_eq!(world.status(1).mode_since, world.status(1).since);
    assert!(world.status(1).mode_since.is_some(), "a status was written");
    let views = world.engine.pools(world.now.wall);
    assert_eq!(views[&POOL].oldest, Some(created));
}
