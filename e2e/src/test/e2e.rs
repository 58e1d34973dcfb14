//! The e2e step: a cluster of its own, the images of this checkout, then the suite.

use anyhow::{Context as _, Result};

use super::{Options, Tally};
use crate::cluster::Cluster;
use crate::progress::{Progress, note};
use crate::stack::{Images, Stack, StackOptions};
use crate::suite::{self, Context};
use crate::tools::{clients, repository_root, wheel};
use crate::{host, images};

/// Never the cluster of the demo, which a person may be looking at.
pub(super) const CLUSTER: &str = "test";

pub(super) fn run(options: &Options) -> Result<Tally> {
    suite::known(&options.case)?;
    host::ready_for_cluster()?;
    let name = if options.cluster.is_empty() {
        CLUSTER
    } else {
        &options.cluster
    };
    let cluster = Cluster::up(name)?;
    let outcome = on(&cluster, options);
    if options.keep {
        note(&format!(
            "cluster {name} stays up: KUBECONFIG={}",
            cluster.host_kubeconfig().display()
        ));
        return outcome;
    }
    let removed =
        Progress::new("cluster down", 1).step(&format!("remove cluster {name}"), || cluster.down());
    let mut tally = outcome?;
    // That nothing is left behind is a promise, so it counts as a test.
    match removed {
        Ok(()) => tally.add(Tally::ONE),
        Err(error) => {
            eprintln!("{error:#}");
            tally.add(Tally {
                passed: 0,
                failed: 1,
            });
        }
    }
    Ok(tally)
}

fn on(cluster: &Cluster, options: &Options) -> Result<Tally> {
    let mut progress = Progress::new("images", 3);
    let built = images::build(images::Profile::Dev, &mut progress)?;
    images::load(cluster, &built, &mut progress)?;
    let stack_options = StackOptions {
        images: Images {
            registry: images::REGISTRY.to_owned(),
            tag: built.tag.clone(),
        },
        operator_replicas: 2,
        uploader_replicas: 2,
        upload_ttl_floor_seconds: UPLOAD_TTL_FLOOR_SECONDS,
        scale_down_seconds: SCALE_DOWN_SECONDS,
    };
    let ffmpeg = wheel::FFMPEG.binary()?;
    // Here, where the registries can be reached: the cases run in the cluster's network.
    let clients = suite::wants_clients(&options.case)
        .then(clients::folder)
        .transpose()?;
    let scratch = repository_root().join("target/e2e/scratch");
    std::fs::create_dir_all(&scratch).with_context(|| format!("make {}", scratch.display()))?;
    let counts = cluster.block_on(|| async {
        let stack = Stack::attach(cluster.clone()).await?;
        let context = Context {
            stack,
            options: stack_options,
            ffmpeg,
            clients,
            scratch,
        };
        suite::run(&context, &options.case).await
    })?;
    Ok(Tally {
        passed: counts.passed,
        failed: counts.failed,
    })
}

/// Short, so that the cases see a job's object and its workers go.
const UPLOAD_TTL_FLOOR_SECONDS: u32 = 1;
const SCALE_DOWN_SECONDS: u32 = 10;
