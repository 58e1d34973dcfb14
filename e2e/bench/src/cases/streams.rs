//! Large videos: one and four at once in one request each, and one in pieces of 8 MiB; beside a plain S3 client and
//! beside tusd.

use std::sync::Arc;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Bench, Round, verify};
use crate::content::Video;
use crate::raw::Raw;
use crate::samples::mib;
use crate::servers::{self, PART, Parts, Peer};

const WARM_UP: u64 = 20 << 20;

/// One measurement of a server.
pub(super) struct Timed {
    pub(super) mib_per_s: f64,
    pub(super) cpu_s_per_gib: f64,
    pub(super) paths: Vec<String>,
}

/// `uploads` of `video` at once, in requests of `piece` bytes.
pub(super) async fn timed(
    peer: &Peer,
    video: &Arc<Video>,
    uploads: usize,
    piece: u64,
) -> Result<Timed> {
    let (cpu, begun) = (peer.process.cpu_seconds()?, Instant::now());
    let mut clients = JoinSet::new();
    for client in 0..uploads {
        let (api, video) = (peer.api.clone(), Arc::clone(video));
        clients.spawn(async move { api.upload(client, &video, piece).await });
    }
    let mut paths = Vec::new();
    while let Some(done) = clients.join_next().await {
        paths.push(done??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let sent = mib(video.length() * uploads as u64);
    Ok(Timed {
        mib_per_s: sent / seconds,
        cpu_s_per_gib: (peer.process.cpu_seconds()? - cpu) / (sent / 1024.0),
        paths,
    })
}

/// Names of the figures of one way to send.
struct Names {
    uploads: usize,
    chunks: bool,
    rate: [&'static str; 3],
    ratio: [&'static str; 2],
    cpu: [&'static str; 2],
}

const WAYS: [Names; 3] = [
    Names {
        uploads: 1,
        chunks: false,
        rate: ["raw_mib_per_s_1", "mib_per_s_1", "tusd_mib_per_s_1"],
        ratio: ["ratio_raw_1", "ratio_tusd_1"],
        cpu: ["seaweed_cpu_s_per_gib", "tusd_cpu_s_per_gib"],
    },
    Names {
        uploads: 4,
        chunks: false,
        rate: ["raw_mib_per_s_4", "mib_per_s_4", "tusd_mib_per_s_4"],
        ratio: ["ratio_raw_4", "ratio_tusd_4"],
        cpu: ["seaweed_cpu_s_per_gib", "tusd_cpu_s_per_gib"],
    },
    Names {
        uploads: 1,
        chunks: true,
        rate: [
            "raw_mib_per_s_1",
            "mib_per_s_chunks",
            "tusd_mib_per_s_chunks",
        ],
        ratio: ["ratio_raw_chunks", "ratio_tusd_chunks"],
        cpu: ["chunks_cpu_s_per_gib", "tusd_chunks_cpu_s_per_gib"],
    },
];

impl Bench {
    pub(super) async fn streams(&mut self, on: &Round, round: usize) -> Result<()> {
        let crc = self.stream.crc64();
        let raw = Raw::new(on.store.clone(), &self.stream);
        // The first bytes make the store grow its volumes.
        let warm = Arc::new(Video::new(WARM_UP));
        Raw::new(on.store.clone(), &warm).streams(4).await?;
        for peer in [&on.first, &on.tusd] {
            timed(peer, &warm, 2, u64::MAX).await?;
        }
        for way in &WAYS {
            let piece = if way.chunks { PART } else { u64::MAX };
            let (mut rates, mut paths) = ([0.0; 3], Vec::new());
            // Nobody is always the first.
            for turn in 0..3 {
                let who = (turn + round) % 3;
                rates[who] = match who {
                    0 => raw.streams(way.uploads).await?,
                    _ => {
                        let peer = if who == 1 { &on.first } else { &on.tusd };
                        let done = timed(peer, &self.stream, way.uploads, piece).await?;
                        self.samples.add(way.cpu[who - 1], done.cpu_s_per_gib);
                        if who == 1 {
                            paths = done.paths;
                        }
                        done.mib_per_s
                    }
                };
            }
            for (name, rate) in way.rate.iter().zip(rates) {
                self.samples.add(name, rate);
            }
            self.samples.add(way.ratio[0], rates[1] / rates[0]);
            self.samples.add(way.ratio[1], rates[1] / rates[2]);
            self.progress.note(&format!(
                "{} upload(s){}: raw {:.0}, kinora {:.0}, tusd {:.0} MiB/s",
                way.uploads,
                if way.chunks {
                    " in pieces of 8 MiB"
                } else {
                    ""
                },
                rates[0],
                rates[1],
                rates[2]
            ));
            for path in &paths {
                verify(&on.store, path, &self.stream, crc).await?;
            }
        }
        Ok(())
    }

    /// For the record: what tusd does when nobody sets its part size.
    pub(super) async fn tusd_by_itself(&mut self) -> Result<()> {
        let weed = kinora_storage::testing::Weed::start().await?;
        let tusd = servers::tusd(&self.setting, &weed.args(), Parts::Default).await?;
        let warm = Arc::new(Video::new(WARM_UP));
        timed(&tusd, &warm, 4, u64::MAX).await?;
        for (uploads, name) in [
            (1, "tusd_default_mib_per_s_1"),
            (4, "tusd_default_mib_per_s_4"),
        ] {
            let done = timed(&tusd, &self.stream, uploads, u64::MAX).await?;
            self.samples.add(name, done.mib_per_s);
        }
        Ok(())
    }
}
