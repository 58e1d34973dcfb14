//! How long an attempt may take, and from when on. covers: F22, F23

use kinora_engine::action::Action;
use kinora_engine::event::Answer;
use kinora_engine::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::fixtures::*;

/// The API server was away meanwhile: no time of the call is over before it begins.
#[test]
fn a_claim_that_is_found_stored_late_has_all_its_time_when_its_lease_is_out() {
    let minute = PoolPolicy {
        timeout: secs(60),
        max_in_flight: Some(1),
        ..pool()
    };
    for away in [5, 75, 89, 100, 300] {
        let mut world = World::with_pool(minute.clone());
        let session = world.hello(1, 1, 1);
        world.hold_writes = true;
        let mut made = job(1);
        made.spec.active_deadline = Some(secs(60));
        world.put(made);
        world.put(job(2));
        let claim = world.held.remove(0);
        let (uid, token, _lost) = world.perform(claim).expect("a claim");
        // The read that the answer is followed by takes as long as the API server is away.
        let lost = Event::Answer {
            job: uid,
            token,
            answer: Answer::Unknown,
        };
        let mut rng = StdRng::seed_from_u64(1);
        let actions = world.engine.step(lost, world.now, &mut rng);
        let [Action::Read { token, .. }] = actions[..] else {
            panic!("{actions:?}");
        };
        world.pass(secs(away), &[session]);
        assert!(world.leases().is_empty());
        world.hold_writes = false;
        let answer = Answer::Found(Box::new(world.etcd[&uid].clone()));
        world.feed(Event::Answer {
            job: uid,
            token,
            answer,
        });
        assert_eq!(world.leases(), [attempt(1, 1)], "{away} s");
        let begun = world.now.wall;
        world.pass(secs(3), &[session]);
        let running = world.status(1).clone();
        assert_eq!(running.phase, Phase::Running, "{away} s");
        assert_eq!((running.failures, running.uncharged), (0, 0), "{away} s");

        // Whoever leads next, and what the call leaves behind, count from the lease too.
        let started = running.started.expect("a claim");
        assert!(begun - started <= secs(10), "{away} s");
        world.edit(1, |spec| spec.cancel = true);
        assert_eq!(world.status(1).ghosts, [started + secs(90)], "{away} s");

        world.report(session, attempt(1, 1), outcome::Fact::Succeeded);
        assert_eq!(world.acks(), [(attempt(1, 1), false)]);
        assert_eq!(world.leases().len(), 2, "{away} s");
        world.report(session, attempt(2, 1), outcome::Fact::Succeeded);
        assert_eq!(world.status(2).attempt, 1);
        assert_eq!(world.phase(2), Phase::Succeeded);
    }
}
