//! What must hold whatever went wrong: every acknowledged upload has its exact bytes and one job, every object is a
//! whole file, and after the sweeps nothing is left that nobody will ever finish or remove.

use std::time::{Duration, Instant};

use kinora_storage::{UploadId, keys};
use kinora_upload_engine::finish::SWEEP_AFTER_MS;
use kinora_uploader::sweep::{sweep_outbox, sweep_states};

use crate::{Stage, ages};

const DAY: Duration = Duration::from_secs(25 * 3600);
const SETTLES_WITHIN: Duration = Duration::from_secs(120);

/// What is expected beside the acknowledged uploads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leave {
    /// A multipart upload whose id nobody ever learned may stay: the bucket's own rule removes it.
    pub(crate) unknown_multipart: bool,
}

pub(crate) async fn judge(stage: &Stage, acknowledged: &[String], file: &[u8], leave: Leave) {
    stage.fake.faults().clear();
    settle(stage).await;
    for key in stage.fake.keys("videos/") {
        let bytes = stage.fake.object(&key).unwrap();
        assert!(bytes == file, "{key}: {} bytes, not the file", bytes.len());
    }
    for id in acknowledged {
        let upload: UploadId = id.parse().unwrap();
        let bytes = stage.fake.object(&keys::video(&upload));
        assert!(bytes.is_some_and(|bytes| bytes == file), "{id}: lost");
        let active = stage.fake.object(&keys::active(&upload));
        assert!(active.is_some(), "{id}: no decision");
        assert!(stage.world.jobs.job(id).is_some(), "{id}: no job");
    }
    // Also of those that were not acknowledged: what is visible is a video with a job, and no job is without one.
    let jobs = stage.world.jobs.jobs.lock().unwrap().len();
    assert_eq!(jobs, stage.fake.keys("videos/").len(), "a job per video");
    let open = stage.fake.open_uploads();
    let allowed = usize::from(leave.unknown_multipart);
    assert!(open.len() <= allowed, "multipart uploads stay: {open:?}");
}

/// Lets the sweeps do what hours and days would bring.
async fn settle(stage: &Stage) {
    let app = &stage.replicas[0].app;
    let deadline = Instant::now() + SETTLES_WITHIN;
    stage
        .later(Duration::from_millis(SWEEP_AFTER_MS) + Duration::from_secs(5))
        .await;
    sweep_outbox(app, SWEEP_AFTER_MS).await;
    loop {
        stage.later(DAY).await;
        sweep_states(app, ages()).await;
        sweep_outbox(app, SWEEP_AFTER_MS).await;
        let left: Vec<_> = ["up/", "pending/"]
            .iter()
            .flat_map(|prefix| stage.fake.keys(prefix))
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "stuck: {left:?}");
        // The janitor gathers garbage for a moment.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
