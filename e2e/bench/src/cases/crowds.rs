//! Clients that send small videos as fast as they are taken.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::content::Video;
use crate::samples::{ms, p99_ms};
use crate::servers::Peer;

/// What came of a crowd.
pub(super) struct Crowd {
    pub(super) per_s: f64,
    pub(super) p99_ms: f64,
    pub(super) cpu_ms: f64,
    /// The first few failures.
    pub(super) errors: Vec<String>,
    pub(super) paths: Vec<String>,
}

/// How a small video is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Create and bytes in one request.
    Whole,
    /// Create, then one PATCH.
    Patch,
}

/// `clients` send `count` videos, each client one after the other on its own connection.
pub(super) async fn crowd(
    peer: &Peer,
    video: &Arc<Video>,
    clients: usize,
    count: usize,
    way: Way,
) -> Result<Crowd> {
    let (cpu, begun) = (peer.process.cpu_seconds()?, Instant::now());
    let mut running = JoinSet::new();
    for client in 0..clients {
        let (api, video) = (peer.api.clone(), Arc::clone(video));
        running.spawn(async move {
            let mut done = Vec::new();
            let mut conn = api.connect(client).await?;
            for _ in (client..count).step_by(clients) {
                let sent = Instant::now();
                let path = match way {
                    Way::Whole => api.create_whole(&mut conn, &video).await?,
                    Way::Patch => {
                        let path = api.create(&mut conn, video.length()).await?;
                        api.patch(&mut conn, &path, &video, (0, video.length()))
                            .await?;
                        path
                    }
                };
                done.push((sent.elapsed(), path));
            }
            anyhow::Ok(done)
        });
    }
    let (mut times, mut paths, mut errors) = (Vec::<Duration>::new(), Vec::new(), Vec::new());
    while let Some(ended) = running.join_next().await {
        match ended? {
            Ok(done) => {
                for (time, path) in done {
                    times.push(time);
                    paths.push(path);
                }
            }
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = Duration::from_secs_f64((peer.process.cpu_seconds()? - cpu).max(0.0));
    Ok(Crowd {
        per_s: paths.len() as f64 / seconds,
        p99_ms: p99_ms(&times),
        cpu_ms: ms(cpu) / paths.len().max(1) as f64,
        errors,
        paths,
    })
}
