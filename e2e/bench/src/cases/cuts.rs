//! Broken uploads: a client whose connection ends in the three ways that connections end, and a replica that is killed.
//! The client goes on at another replica. What it has to send again, and how long it takes until the first new byte is
//! acknowledged there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::Instant;

use super::{Bench, Round, verify};
use crate::content::Video;
use crate::samples::{mib, ms};
use crate::servers::{self, PART, Peer};
use crate::tus::offset;

/// The first bytes after a cut; smaller requests are rationed.
const FIRST: u64 = 64 << 10;
const GIVE_UP: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
/// Names of the replicas that are killed in a round.
const KILLS: [&str; 4] = ["killed-1", "killed-2", "killed-3", "killed-4"];

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// In order.
    Fin,
    /// By a reset.
    Rst,
    /// Not at all: the network is gone, and nobody says so.
    HalfOpen,
}

/// What came after.
struct Resumed {
    resent: u64,
    first_byte: Duration,
}

impl Bench {
    pub(super) async fn cuts(&mut self, on: &Round) -> Result<()> {
        let video = Arc::new(Video::new(self.plan.cut));
        for (to, how, name) in [
            (&on.second, Cut::Fin, "first_byte_ms_fin"),
            (&on.second, Cut::Rst, "first_byte_ms_rst"),
            (&on.second, Cut::HalfOpen, "first_byte_ms_half_open"),
            (&on.first, Cut::Rst, "first_byte_ms_same_replica"),
        ] {
            let resumed = self.cut(on, to, &video, how).await?;
            self.samples.add(name, ms(resumed.first_byte));
            self.samples.add("resent_mib_cut", mib(resumed.resent));
            self.samples
                .worst("resent_mib_cut_most", mib(resumed.resent));
            self.progress.note(&format!(
                "cut, {name}: {:.0}; {:.2} MiB again",
                ms(resumed.first_byte),
                mib(resumed.resent)
            ));
        }
        Ok(())
    }

    async fn cut(&self, on: &Round, to: &Peer, video: &Arc<Video>, how: Cut) -> Result<Resumed> {
        let (api, length) = (&on.first.api, video.length());
        let mut conn = api.connect(0).await?;
        let path = api.create(&mut conn, length).await?;
        api.begin_patch(&mut conn, &path, 0, length).await?;
        let stop = length / 5 * 4;
        let sent = conn
            .send_paced(video, 0..length, self.plan.pace, |at| at >= stop)
            .await;
        ensure!(sent >= stop, "the upload broke at {sent} before it was cut");
        let begun = Instant::now();
        let _held = match how {
            Cut::Fin => {
                drop(conn);
                None
            }
            Cut::Rst => {
                conn.reset()?;
                None
            }
            Cut::HalfOpen => Some(conn),
        };
        go_on(on, to, video, &path, sent, begun).await
    }

    /// Kills replicas that write, with their connections. How much is lost depends on how full the part under way is, so
    /// the kills are spread evenly over a part; each ends a replica of its own.
    pub(super) async fn killed(&mut self, on: &Round) -> Result<()> {
        let video = Arc::new(Video::new(self.plan.cut));
        let args = on.weed.args();
        let doomed = KILLS.map(|name| servers::kinora(&self.setting, &args, name));
        let doomed = futures::future::try_join_all(doomed).await?;
        for (replica, at) in doomed.iter().zip(kill_points(video.length())) {
            let resumed = self.kill(on, replica, &video, at).await?;
            self.samples.add("resent_mib_kill9", mib(resumed.resent));
            self.samples
                .worst("resent_mib_kill9_most", mib(resumed.resent));
            self.samples
                .add("first_byte_ms_kill9", ms(resumed.first_byte));
            self.progress.note(&format!(
                "kill -9 at {:.0} MiB: {:.2} MiB again, first byte after {:.0} ms",
                mib(at),
                mib(resumed.resent),
                ms(resumed.first_byte)
            ));
        }
        Ok(())
    }

    async fn kill(
        &self,
        on: &Round,
        replica: &Peer,
        video: &Arc<Video>,
        at: u64,
    ) -> Result<Resumed> {
        let (api, length) = (&replica.api, video.length());
        let mut conn = api.connect(0).await?;
        let path = api.create(&mut conn, length).await?;
        api.begin_patch(&mut conn, &path, 0, length).await?;
        let sent = conn
            .send_paced(video, 0..length, self.plan.pace, |sent| sent >= at)
            .await;
        ensure!(
            sent >= at,
            "the upload broke at {sent} before its replica was killed"
        );
        replica.process.kill_hard()?;
        let begun = Instant::now();
        drop(conn);
        go_on(on, &on.second, video, &path, sent, begun).await
    }
}

/// Where an upload's replica is killed: in the middle of it, in the middle of each piece of a part.
fn kill_points(length: u64) -> [u64; KILLS.len()] {
    let piece = PART / KILLS.len() as u64;
    std::array::from_fn(|n| length / 2 + piece * n as u64 + piece / 2)
}

/// Asks for the offset and sends from there, as a client does, until the first bytes are acknowledged; then the rest.
async fn go_on(
    on: &Round,
    to: &Peer,
    video: &Arc<Video>,
    path: &str,
    sent: u64,
    begun: Instant,
) -> Result<Resumed> {
    let length = video.length();
    let mut conn = to.api.connect(0).await?;
    let (from, first_byte) = loop {
        let head = to.api.try_head(&mut conn, path).await?;
        if head.status == 200 {
            let from = offset(&head)?;
            let first = (from, (from + FIRST).min(length));
            let answer = to.api.try_patch(&mut conn, path, video, first).await?;
            if answer.status == 204 {
                break (from, begun.elapsed());
            }
        }
        if begun.elapsed() > GIVE_UP {
            bail!("no replica went on with {path} within a minute");
        }
        tokio::time::sleep(PAUSE).await;
    };
    let resent = sent
        .checked_sub(from)
        .context("an offset beyond what was sent")?;
    let rest = ((from + FIRST).min(length), length);
    to.api.patch(&mut conn, path, video, rest).await?;
    verify(&on.store, path, video, video.crc64()).await?;
    Ok(Resumed { resent, first_byte })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    #[test]
    fn kills_are_spread_evenly_over_a_part_in_the_middle() {
        let mib = [33, 35, 37, 39].map(|mib: u64| mib << 20);
        assert_eq!(kill_points(64 << 20), mib);
        let quick = Plan::quick().cut;
        assert!(kill_points(quick).iter().all(|at| *at < quick));
    }
}
