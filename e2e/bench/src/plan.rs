//! How much is done: a full run in about a quarter of an hour, a quick one that only proves that all of it works.

use std::time::Duration;

const MIB: u64 = 1 << 20;

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Idle memory, calls and throughput into the store that keeps nothing.
    Ceiling,
    /// Memory with many large uploads, and with stalled connections.
    Memory,
    /// Everything on SeaweedFS.
    Rounds,
}

/// Sizes and counts of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The only part that is measured; all when none is named.
    pub(crate) only: Option<Part>,
    /// Rounds on the real store; each compares everything with everything once.
    pub(crate) rounds: usize,
    /// Runs into the store that keeps nothing.
    pub(crate) ceilings: usize,
    /// After this a fresh process has done all that it does by itself.
    pub(crate) idle: Duration,
    /// Bytes of a large video.
    pub(crate) stream: u64,
    /// Bytes of a small one.
    pub(crate) small: u64,
    /// Small videos in one measurement.
    pub(crate) smalls: usize,
    /// Small videos of the many clients.
    pub(crate) crowd_smalls: usize,
    /// The many clients.
    pub(crate) crowd: usize,
    /// Large uploads at once when memory is looked at.
    pub(crate) active: usize,
    /// They are broken off after this.
    pub(crate) active_for: Duration,
    /// Connections that stall.
    pub(crate) stalled: usize,
    /// Healthy uploads beside them.
    pub(crate) healthy: usize,
    /// Bytes of the video whose uploads are cut.
    pub(crate) cut: u64,
    /// Bytes a second of the client that is cut.
    pub(crate) pace: f64,
    /// Bodies that stall beside a medium upload.
    pub(crate) parked: usize,
    /// Bytes of that upload.
    pub(crate) medium: u64,
}

impl Plan {
    /// Whether this part is measured.
    pub(crate) fn has(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }

    /// Everything, in so many rounds.
    pub(crate) fn full(rounds: usize) -> Self {
        Self {
            only: None,
            rounds,
            ceilings: rounds,
            idle: Duration::from_secs(4),
            stream: 300 * MIB,
            small: MIB,
            smalls: 320,
            crowd_smalls: 1024,
            crowd: 256,
            active: 100,
            active_for: Duration::from_secs(25),
            stalled: 5000,
            healthy: 200,
            cut: 64 * MIB,
            pace: 40.0 * MIB as f64,
            parked: 200,
            medium: 21 * MIB,
        }
    }

    /// A little of everything.
    pub(crate) fn quick() -> Self {
        Self {
            rounds: 1,
            ceilings: 1,
            idle: Duration::from_millis(500),
            stream: 24 * MIB,
            smalls: 32,
            crowd_smalls: 64,
            crowd: 32,
            active: 10,
            active_for: Duration::from_secs(5),
            stalled: 100,
            healthy: 20,
            cut: 20 * MIB,
            parked: 20,
            ..Self::full(1)
        }
    }
}
