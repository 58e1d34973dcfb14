//! Numbers of the lease protocol, in one place.

use std::time::Duration;

/// Intervals and limits. [`Default`] is what production runs with; tests shorten them.
#[derive(Clone, Debug)]
pub struct Timings {
    /// A heartbeat this often.
    pub heartbeat: Duration,
    /// A stream that says nothing for so long is given up.
    pub silence: Duration,
    /// No call is started this long after the send time of the last echoed heartbeat.
    pub fence: Duration,
    /// A call that has not started this long after its lease came is given back.
    pub start_within: Duration,
    /// An outcome without acknowledgement is sent again this often.
    pub resend: Duration,
    /// At most one progress message an attempt in this time.
    pub progress: Duration,
    /// How long a leaving worker waits for the echo that proves that the operator knows it.
    pub drain_confirm: Duration,
    /// How long after the end of the drain time a leaving worker waits for acknowledgements.
    pub drain_grace: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(3),
            silence: Duration::from_secs(6),
            fence: Duration::from_secs(9),
            start_within: Duration::from_secs(2),
            resend: Duration::from_secs(5),
            progress: Duration::from_secs(1),
            drain_confirm: Duration::from_secs(2),
            drain_grace: Duration::from_secs(20),
        }
    }
}

/// What one worker process is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Leases held at once, unacknowledged outcomes included.
    pub slots: u32,
    /// Random per process.
    pub instance: String,
    /// How long running calls may go on after SIGTERM.
    pub drain: Duration,
    /// Intervals and limits.
    pub timings: Timings,
}
