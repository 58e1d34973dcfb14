//! Tenants that share a pool.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::json;

use super::{CLIENTS, Case, Context, Crowd};
use crate::stack::{CROWD, CROWD_TENANTS};
use crate::suite::case;
use crate::uploads::{self, Uploaded};

const FLOOD: usize = 200;
/// Videos of each of the others.
const EACH: usize = 3;
/// Claims are written 32 at a time, so their order is known to so many.
const ABREAST: usize = 32;

pub(super) fn cases() -> Vec<Case> {
    vec![case!(
        "one-tenant-of-twenty-floods-a-pool-and-the-others-are-claimed-in-their-turns",
        flooded
    )]
}

/// covers: T22
async fn flooded(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let more = json!({"suspend": true});
    let mut crowd = Crowd::gather(context, 2, json!({"latencyMs": 200}), more).await?;
    crowd.upload(FLOOD).await?;
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    for tenant in 1..CROWD_TENANTS {
        let key = stack.key_of_tenant(tenant);
        let size = (EACH, CLIENTS);
        let sent = uploads::many_as(stack, &key, &crowd.base, &crowd.video, CROWD, size).await?;
        others.extend(sent.iter().map(|upload| (upload.job(), tenant)));
        crowd.uploads.extend(sent);
    }
    let jobs: Vec<String> = crowd.uploads.iter().map(Uploaded::job).collect();
    crowd.until_some(jobs.len(), "Queued").await?;
    crowd.patch_pool(json!({"suspend": false})).await?;
    crowd.watching.until_ended(&jobs, super::LIMIT).await?;
    let order: Vec<String> = {
        let seen = crowd.watching.seen();
        let claims = seen
            .claims()
            .iter()
            .filter(|(job, attempt)| *attempt == 1 && jobs.contains(job));
        claims.map(|(job, _)| job.clone()).collect()
    };
    // In each round one job of each tenant; by age, the others would come after the whole flood.
    let mut turns: BTreeMap<usize, usize> = BTreeMap::new();
    for (place, job) in order.iter().enumerate() {
        let Some(tenant) = others.get(job) else {
            continue;
        };
        let turn = turns.entry(*tenant).or_default();
        *turn += 1;
        let latest = *turn * CROWD_TENANTS + ABREAST;
        ensure!(
            place < latest,
            "video {turn} of tenant {tenant} was claim {place} of {}, at most {latest} is its turn",
            order.len()
        );
    }
    ensure!(
        turns.len() == CROWD_TENANTS - 1,
        "claims of {} tenants were seen",
        turns.len()
    );
    crowd
        .end_for(|upload| {
            let tenant = others.get(&upload.job());
            tenant.map_or_else(
                || stack.api_key.clone(),
                |tenant| stack.key_of_tenant(*tenant),
            )
        })
        .await
        .map(|_| ())
}
