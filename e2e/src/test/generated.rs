//! Steps about files that are not written by hand: CRDs, tables and manifests are current, and the chart is sound.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::cargo::streamed;
use super::{Tally, fences, rights};
use crate::tools::{go, repository_root};
use crate::{command, images};

const RENDER: Duration = Duration::from_mins(1);

pub(super) fn current() -> Result<Tally> {
    // The features of the whole workspace, as in the unit tests: the dependencies are compiled already.
    let built = images::binaries(images::Profile::Dev, &["--workspace", "--bin", "crdgen"])?;
    let crdgen = built.get("crdgen").context("cargo built no crdgen")?;
    let mut check = Command::new(crdgen);
    check
        .current_dir(repository_root())
        .args([
            "crds",
            "reference",
            "values",
            "manifests",
            "--check",
            "--helm",
        ])
        .arg(helm()?);
    streamed(
        "crdgen --check (without --check it writes the files)",
        &mut check,
    )?;
    Ok(Tally::ONE)
}

pub(super) fn chart() -> Result<Tally> {
    let mut lint = Command::new(helm()?);
    lint.current_dir(repository_root())
        .args(["lint", "charts/kinora", "--strict"]);
    streamed("helm lint", &mut lint)?;
    autoscaled()?;
    monitored()?;
    fences::fenced(as_json)?;
    rights::token_reviews(as_json)?;
    confined()?;
    reserved()?;
    kept()?;
    Ok(Tally::ONE)
}

/// The Prometheus operator's kinds are asked for or absent, and every alert links into the runbook that was named.
fn monitored() -> Result<()> {
    const GROUP: &str = "monitoring.coreos.com/v1";
    let names = |objects: &[serde_yaml::Value]| {
        let ours = objects.iter().filter(|o| o["apiVersion"] == GROUP);
        let mut names: Vec<String> = ours
            .filter_map(|o| {
                Some(format!(
                    "{} {}",
                    o["kind"].as_str()?,
                    o["metadata"]["name"].as_str()?
                ))
            })
            .collect();
        names.sort_unstable();
        names
    };
    let minimal = rendered(&["--values", "charts/kinora/ci/minimal-values.yaml"])?;
    ensure!(names(&minimal).is_empty(), "{:?}", names(&minimal));
    let all = rendered(&["--values", "charts/kinora/ci/ha-values.yaml"])?;
    let want = [
        "PodMonitor kinora-workers",
        "PrometheusRule kinora",
        "ServiceMonitor kinora-operator",
        "ServiceMonitor kinora-uploader",
    ];
    ensure!(names(&all) == want, "{:?}", names(&all));
    let rules = all.iter().find(|o| o["kind"] == "PrometheusRule");
    let text = serde_yaml::to_string(&rules)?;
    let links = text
        .matches("runbook_url: https://example.com/runbook#kinora")
        .count();
    ensure!(
        links == text.matches("alert: Kinora").count() && links > 0,
        "{text}"
    );
    Ok(())
}

/// No pool may mount a Secret of Kinora's own.
fn reserved() -> Result<()> {
    for (values, want) in [
        ("minimal", "kinora-store,kinora-api-keys,kinora-dispatch-ca"),
        (
            "access",
            "kinora-store,kinora-api-keys,kinora-upload-tokens,kinora-dispatch-ca",
        ),
    ] {
        let values = format!("charts/kinora/ci/{values}-values.yaml");
        let objects = rendered(&["--values", &values])?;
        let operator = objects
            .iter()
            .find(|o| o["kind"] == "Deployment" && o["metadata"]["name"] == "kinora-operator");
        let operator = operator.context("no operator")?;
        let env = &operator["spec"]["template"]["spec"]["containers"][0]["env"];
        let mut env = env.as_sequence().into_iter().flatten();
        let is = env.find(|one| one["name"] == "KINORA_RESERVED_SECRETS");
        let is = is.and_then(|one| one["value"].as_str());
        ensure!(is == Some(want), "{values}: {is:?}");
    }
    Ok(())
}

/// What outlives the release unless it is told not to: the definitions, with every job, and the CA that workers trust.
fn kept() -> Result<()> {
    let minimal = ["--values", "charts/kinora/ci/minimal-values.yaml"];
    let without = [&minimal[..], &["--set", "crds.keep=false"]].concat();
    let names = |arguments: &[&str]| -> Result<Vec<String>> {
        let objects = rendered(arguments)?;
        let keeps = |o: &&serde_yaml::Value| {
            o["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        };
        let name = |o: &serde_yaml::Value| o["metadata"]["name"].as_str().map(str::to_owned);
        let mut names: Vec<_> = objects.iter().filter(keeps).filter_map(name).collect();
        names.sort_unstable();
        Ok(names)
    };
    let (all, none) = (names(&minimal)?, names(&without)?);
    let want = [
        "kinora-dispatch-ca",
        "videojobredrives.kinora.dev",
        "videojobs.kinora.dev",
        "videoworkerpools.kinora.dev",
    ];
    ensure!(all == want, "{all:?}");
    ensure!(none.is_empty(), "{none:?}");
    Ok(())
}

/// Where no pool makes a pod for each attempt, the operator may be kept from making and deleting pods at all.
fn confined() -> Result<()> {
    let minimal = ["--values", "charts/kinora/ci/minimal-values.yaml"];
    let without = [&minimal[..], &["--set", "operator.attemptPods=false"]].concat();
    let verbs = |arguments: &[&str]| -> Result<Vec<serde_yaml::Value>> {
        let objects = rendered(arguments)?;
        let role = |o: &&serde_yaml::Value| {
            o["kind"] == "ClusterRole" && o["metadata"]["name"] == "kinora-operator"
        };
        let role = objects.iter().find(role).context("no role")?;
        let pods = |rule: &&serde_yaml::Value| rule["resources"][0] == "pods";
        let mut rules = role["rules"].as_sequence().into_iter().flatten();
        let rule = rules.find(pods).context("no rule of pods")?;
        Ok(rule["verbs"].as_sequence().cloned().unwrap_or_default())
    };
    let (all, few) = (verbs(&minimal)?, verbs(&without)?);
    ensure!(
        all == ["get", "list", "watch", "create", "patch", "delete"],
        "{all:?}"
    );
    ensure!(few == ["get", "list", "watch", "patch"], "{few:?}");
    Ok(())
}

/// With a HorizontalPodAutoscaler the Deployment leaves the replicas to it, and nothing runs as if it were alone.
fn autoscaled() -> Result<()> {
    let values = "charts/kinora/ci/ha-values.yaml";
    let objects = rendered(&["--values", values])?;
    let find = |kind: &str, name: &str| {
        let object = objects
            .iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        object.with_context(|| format!("{values} renders no {kind} {name}"))
    };
    let scaler = &find("HorizontalPodAutoscaler", "kinora-uploader")?["spec"];
    let deployment = &find("Deployment", "kinora-uploader")?["spec"];
    find("PodDisruptionBudget", "kinora-uploader")?;
    ensure!(
        scaler["scaleTargetRef"]["name"] == "kinora-uploader",
        "{scaler:?}"
    );
    let metrics = serde_yaml::to_string(&scaler["metrics"])?;
    ensure!(
        metrics.contains("kinora_uploader_active_uploads"),
        "{metrics}"
    );
    ensure!(
        deployment.get("replicas").is_none(),
        "the Deployment sets replicas beside the autoscaler"
    );
    let alone = ["--values", values, "--set", "uploader.singleReplica=true"];
    ensure!(
        rendered(&alone).is_err(),
        "a store for one replica was scaled"
    );
    Ok(())
}

fn as_json(arguments: &[&str]) -> Result<Vec<serde_json::Value>> {
    let objects = rendered(arguments)?.into_iter();
    Ok(objects
        .map(serde_json::to_value)
        .collect::<Result<_, _>>()?)
}

fn rendered(arguments: &[&str]) -> Result<Vec<serde_yaml::Value>> {
    let mut template = Command::new(helm()?);
    template
        .current_dir(repository_root())
        .args(["template", "kinora", "charts/kinora"])
        .args(arguments);
    let text = command::run("helm template", &mut template, RENDER)?;
    serde_yaml::Deserializer::from_str(&text)
        .map(|document| Ok(serde_yaml::Value::deserialize(document)?))
        .collect()
}

fn helm() -> Result<PathBuf> {
    if go::HELM.cached()?.is_none() {
        crate::progress::note(&format!(
            "building helm from Go modules (about {} on two cores, once)",
            go::HELM.cold
        ));
    }
    go::HELM.binary()
}
