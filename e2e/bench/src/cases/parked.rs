//! A healthy upload beside bodies that stall: how many times as long it takes as alone.

use std::sync::Arc;

use anyhow::Result;
use tokio::time::Instant;

use super::memory::{Stalls, stall};
use super::{Bench, Round};
use crate::content::Video;

const TRIES: usize = 3;

impl Bench {
    pub(super) async fn parked(&mut self, on: &Round) -> Result<()> {
        let video = Arc::new(Video::new(self.plan.medium));
        let api = &on.first.api;
        let mut seconds = [0.0; 2];
        let mut held = Vec::new();
        for (with, total) in seconds.iter_mut().enumerate() {
            if with == 1 {
                held = stall(api, &video, self.plan.parked, Stalls::Patching).await?;
            }
            let begun = Instant::now();
            for _ in 0..TRIES {
                api.upload(self.plan.parked, &video, u64::MAX).await?;
            }
            *total = begun.elapsed().as_secs_f64() / TRIES as f64;
        }
        let ratio = seconds[1] / seconds[0];
        self.samples.add("parked_ratio", ratio);
        self.progress.note(&format!(
            "beside {} stalled bodies an upload takes {ratio:.2} times as long",
            held.len()
        ));
        Ok(())
    }
}
