//! `cargo xtask bench compare`: n bare pods, n native Jobs and many Kinora jobs on one node, one after the other in one run.
//! Each is measured from the first create until all is gone; leases and the node's own status are not counted.

mod cost;
mod peers;
mod report;
mod videos;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use self::cost::Idle;
use self::report::Report;
use super::{Asked, exit_code, result_file};
use crate::cluster::Cluster;
use crate::host;
use crate::images::{self, Profile};
use crate::progress::Progress;
use crate::stack::{Images, Stack, StackOptions};

/// A cluster of its own: what else runs would be counted.
const CLUSTER: &str = "compare";

/// How.
#[derive(Clone, Debug, Args)]
pub struct Options {
    #[command(flatten)]
    asked: Asked,
    /// Bare pods, and native Jobs.
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub pods: u16,
    /// Kinora jobs.
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=20_000))]
    pub videos: u16,
    /// The cluster, which is made and removed.
    #[arg(long, default_value = CLUSTER, value_name = "NAME")]
    pub cluster: String,
    /// Leave the cluster up, also for the next run.
    #[arg(long)]
    pub keep: bool,
}

/// Builds and measures; the exit code is 1 when a budget is missed.
///
/// # Errors
/// Something could not be built or started, or did not end.
pub(super) fn run(options: &Options) -> Result<ExitCode> {
    host::ready_for_cluster()?;
    let cluster = Cluster::up(&options.cluster)?;
    let measured = on(&cluster, options);
    if !options.keep {
        cluster.down()?;
    }
    let report = measured?;
    if options.asked.json {
        println!("{}", serde_json::to_string(&report.figures())?);
    } else {
        println!("{report}");
    }
    if options.asked.write {
        let path = result_file("compare")?;
        std::fs::write(&path, format!("{report}"))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(exit_code(options.asked.quick || report.missed().is_empty()))
}

fn on(cluster: &Cluster, options: &Options) -> Result<Report> {
    let (pods, videos) = if options.asked.quick {
        (6, 100)
    } else {
        (options.pods, options.videos)
    };
    let mut progress = Progress::new("bench", 8);
    // A quick run takes what the tests have built.
    let profile = if options.asked.quick {
        Profile::Dev
    } else {
        Profile::Release
    };
    let built = images::build(profile, &mut progress)?;
    images::load(cluster, &built, &mut progress)?;
    let hello = images::hello()?;
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    cluster.import_image(&hello.reference, &hello.write_into(folder.path())?)?;
    let image = &hello.reference;
    let idle = progress.step("a control plane with nothing to do", || {
        Idle::measured(cluster)
    })?;
    let bare = progress.step(&format!("{pods} bare pods"), || {
        cluster.block_on(|| async {
            peers::bare_pods(&attached(cluster).await?, idle, image, pods.into()).await
        })
    })?;
    let native = progress.step(&format!("{pods} native Jobs"), || {
        cluster.block_on(|| async {
            peers::native_jobs(&attached(cluster).await?, idle, image, pods.into()).await
        })
    })?;
    let stack_options = StackOptions {
        images: Images {
            registry: images::REGISTRY.to_owned(),
            tag: built.tag.clone(),
        },
        operator_replicas: 1,
        uploader_replicas: 1,
        upload_ttl_floor_seconds: 1,
        scale_down_seconds: 300,
    };
    progress.step("install Kinora and its workers", || {
        cluster
            .block_on(|| async { videos::ready(&attached(cluster).await?, &stack_options).await })
    })?;
    let kinora = progress.step(&format!("{videos} Kinora jobs"), || {
        cluster.block_on(|| async {
            videos::jobs(&attached(cluster).await?, idle, videos.into()).await
        })
    })?;
    Ok(Report {
        idle,
        bare,
        native,
        kinora,
    })
}

/// A client lives as long as the runtime that made it.
async fn attached(cluster: &Cluster) -> Result<Stack> {
    Stack::attach(cluster.clone()).await
}
