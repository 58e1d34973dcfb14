//! How many jobs the control plane may hold: above the watermark uploads wait in the outbox.

/// Opens and closes admission over a watermark, with hysteresis.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    open: bool,
    watermark: u64,
}

impl Gate {
    /// Open, with this watermark.
    #[must_use]
    pub fn new(watermark: u64) -> Self {
        Self {
            open: true,
            watermark,
        }
    }

    /// The watermark.
    #[must_use]
    pub fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Whether new jobs are admitted at `live` non-final ones: closes at the watermark, reopens at 90 % of it.
    pub fn admit(&mut self, live: u64) -> bool {
        let reopens_at = self.watermark.saturating_mul(9) / 10;
        self.open = if self.open {
            live < self.watermark
        } else {
            live <= reopens_at
        };
        self.open
    }
}
