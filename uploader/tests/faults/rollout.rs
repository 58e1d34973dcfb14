//! Replicas that do not know the same profiles, as while those are rolled out. Here a video of 60 s is made under a
//! profile that one replica knows.

use std::time::Duration;

use kinora_fake_s3::{Behaviour, Fault, Op, Rule};
use kinora_storage::keys;
use kinora_uploader::profiles::Profiles;
use kinora_uploader::sweep::{sweep_outbox, sweep_states};

use crate::harness::{Replica, id_of, offset_of, problem_of, video_of};
use crate::{Stage, ages};

const HOUR: Duration = Duration::from_secs(3600);

async fn knows(stage: &Stage, profiles: &str) -> Replica {
    let profiles = Profiles::parse(profiles, false).unwrap();
    stage.world.replica_of(profiles).await
}

/// A new upload of the profile.
async fn create(stage: &Stage, replica: &Replica, length: usize) -> String {
    let request = stage.world.tus(replica, "POST", "/v1/uploads");
    let request = request
        .header("Upload-Length", length)
        .header("Kinora-Profile", "long");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 201);
    id_of(&answer)
}

/// Whether nobody has judged the upload.
fn undecided(stage: &Stage, id: &str) -> bool {
    let id = id.parse().unwrap();
    let decided = [keys::active(&id), keys::record_for_upload(&id)];
    decided.iter().all(|key| stage.fake.object(key).is_none())
}

#[tokio::test]
async fn an_upload_whose_profile_is_not_known_waits_for_a_replica_that_knows_it() {
    for default in ["{maxSeconds: 600}", "{maxSeconds: 10}"] {
        let stage = Stage::new(Behaviour::aws()).await;
        let one = knows(&stage, "long: {maxSeconds: 300, pool: slow}").await;
        let two = knows(&stage, &format!("default: {default}")).await;
        let file = video_of(60, 200_000);
        let id = create(&stage, &one, file.len()).await;
        let answer = stage.world.patch(&two, &id, 0, &file).await;
        assert_eq!(answer.status(), 503, "{default}");
        assert_eq!(offset_of(&answer), None, "nothing is acknowledged");
        let answer = stage.world.head(&two, &id).await;
        assert_eq!(answer.status(), 503, "{default}");
        assert!(undecided(&stage, &id), "{default}");
        let pending = keys::pending(&id.parse().unwrap());
        assert_eq!(stage.fake.object(&pending), None, "no job of another pool");

        let answer = stage.world.head(&one, &id).await;
        assert_eq!(
            (answer.status().as_u16(), offset_of(&answer)),
            (200, Some(file.len()))
        );
        let pool = stage.world.jobs.job(&id).unwrap().spec.pool_ref;
        assert_eq!(pool.unwrap().name, "slow");
    }
}

/// A client of the draft takes a refusal that says so for the last word on its file.
#[tokio::test]
async fn a_finish_that_is_left_to_others_does_not_say_that_all_is_over() {
    let stage = Stage::new(Behaviour::aws()).await;
    let one = knows(&stage, "long: {maxSeconds: 300}").await;
    let two = knows(&stage, "").await;
    let file = video_of(60, 200_000);
    let path = format!("/v1/uploads/{}", create(&stage, &one, file.len()).await);
    let request = stage.world.ask(&two, "PATCH", &path);
    let request = request
        .header("Upload-Draft-Interop-Version", "8")
        .header("Upload-Complete", "?1")
        .header("Upload-Offset", 0)
        .header("Content-Type", "application/partial-upload");
    let answer = request.body(file).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(!answer.headers().contains_key("upload-complete"));
}

#[tokio::test]
async fn an_outbox_entry_of_a_profile_that_is_not_known_is_left_to_others_with_its_object() {
    let stage = Stage::new(Behaviour::aws()).await;
    let one = knows(&stage, "long: {maxSeconds: 300}").await;
    let two = knows(&stage, "").await;
    let file = video_of(60, 200_000);
    let id = create(&stage, &one, file.len()).await;
    let no_decision = Rule::on(Op::Put, Fault::TimeTooSkewed).key("active/");
    stage.fake.faults().add(no_decision);
    assert_eq!(stage.world.patch(&one, &id, 0, &file).await.status(), 503);
    stage.fake.faults().clear();
    assert_eq!(sweep_outbox(&two.app, 0).await.finished, 0);
    assert!(undecided(&stage, &id));
    let object = stage.fake.object(&keys::video(&id.parse().unwrap()));
    assert!(object.is_some_and(|bytes| bytes == file));
    assert_eq!(sweep_outbox(&one.app, 0).await.finished, 1);
    assert!(stage.world.jobs.job(&id).is_some());
}

/// After an hour the profile was removed, not rolled out: then the default of the replica counts, as it is configured.
#[tokio::test]
async fn an_upload_whose_profile_nobody_knows_for_an_hour_is_judged_by_the_default() {
    for (default, takes) in [("{maxSeconds: 60}", true), ("{maxSeconds: 10}", false)] {
        let stage = Stage::new(Behaviour::aws()).await;
        let one = knows(&stage, "long: {maxSeconds: 300}").await;
        let two = knows(&stage, &format!("default: {default}")).await;
        let file = video_of(60, 200_000);
        let id = create(&stage, &one, file.len()).await;
        assert_eq!(stage.world.patch(&two, &id, 0, &file).await.status(), 503);
        stage.later(HOUR - Duration::from_secs(60)).await;
        assert_eq!(stage.world.head(&two, &id).await.status(), 503, "{default}");
        stage.later(Duration::from_secs(61)).await;
        if takes {
            sweep_states(&two.app, ages()).await;
            assert!(stage.world.jobs.job(&id).is_some(), "{default}");
        }
        let answer = stage.world.patch(&two, &id, file.len(), b"").await;
        if takes {
            assert_eq!(answer.status(), 204, "{default}");
        } else {
            assert_eq!(problem_of(answer).await, (410, "gone".into()), "{default}");
            let record = keys::record_for_upload(&id.parse().unwrap());
            let record = String::from_utf8(stage.fake.object(&record).unwrap().to_vec()).unwrap();
            assert!(record.contains("than the 10 s"), "{record}");
        }
    }
}
