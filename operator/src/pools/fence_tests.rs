//! Passes whose writes another leader has overtaken.

use super::*;

/// A request may take longer than the lease lasts: what comes after it would be over the next leader's decisions.
///
/// covers: F29
#[tokio::test]
async fn nothing_is_written_after_the_lease_was_lost() {
    let table = [
        (
            "a refusal",
            DEPLOYMENT,
            Some((422, "a bad field")),
            vec![DEPLOYMENT],
        ),
        ("the Deployment", DEPLOYMENT, None, vec![DEPLOYMENT]),
        (
            "the number",
            SCALE,
            Some((422, "a bad field")),
            vec![DEPLOYMENT, SCALE],
        ),
    ];
    for (name, path, verdict, want) in table {
        let world = World::new(Some(older()));
        if let Some((code, words)) = verdict {
            world.verdict(code, words);
        }
        world.server.lock().unwrap().deposes = Some((path, world.leadership.clone()));
        let (result, asked) = world.pass(&json!({})).await;
        assert!(matches!(result, Err(ApplyError::Deposed { .. })), "{name}");
        assert_eq!(paths(&asked), want, "{name}");
        let (result, asked) = world.pass(&json!({})).await;
        assert_eq!(result.unwrap(), Action::await_change(), "{name}");
        assert_eq!(paths(&asked), [""; 0], "{name}");
    }
}

/// A patch may come through after another leader's, however it was sent.
///
/// covers: F29
#[tokio::test]
async fn a_number_is_for_the_deployment_that_was_seen() {
    let mut seen = older();
    seen.metadata.resource_version = Some("7".to_owned());
    seen.spec.as_mut().unwrap().replicas = Some(3);
    let table = [
        ("up", 4, false),
        ("up, over another's", 4, true),
        ("down", 1, false),
        ("down, over another's", 1, true),
    ];
    for (name, replicas, is_newer) in table {
        let want = json!({"metadata": {"resourceVersion": "7"}, "spec": {"replicas": replicas}});
        let world = World::new(Some(seen.clone()));
        // It stays as it is, but for its number.
        world.verdict(422, "a bad field");
        world.server.lock().unwrap().is_newer = is_newer;
        let mut pool = pool(&json!({}));
        pool.spec.scaling = Some(serde_json::from_value(json!({"mode": "External"})).unwrap());
        pool.spec.replicas = Some(replicas);
        let (result, asked) = world.pass_over(pool.clone()).await;
        let scaled: Vec<_> = asked.iter().filter(|(path, _)| path == SCALE).collect();
        assert_eq!(scaled.len(), 1, "{name}");
        assert_eq!(scaled[0].1, want, "{name}");
        assert_eq!(asked[0].1["metadata"]["resourceVersion"], "7", "{name}");
        let again = match is_newer || replicas < 3 {
            true => scaler::LOOK_AGAIN,
            false => TRY_AGAIN,
        };
        assert_eq!(result.unwrap(), Action::requeue(again), "{name}");
        let (_, asked) = world.pass_over(pool.clone()).await;
        assert_eq!(
            paths(&asked).contains(&SCALE),
            is_newer,
            "{name}: once more"
        );

        let world = World::new(Some(seen.clone()));
        world.verdict(409, "somebody wrote it");
        let (result, asked) = world.pass_over(pool).await;
        assert_eq!(
            result.unwrap(),
            Action::requeue(scaler::LOOK_AGAIN),
            "{name}"
        );
        assert_eq!(paths(&asked), [DEPLOYMENT], "{name}");
    }
}
