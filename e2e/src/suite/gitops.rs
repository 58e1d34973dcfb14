//! What people and tools that keep jobs and pools in Git rely on.

use anyhow::{Context as _, Result, ensure};
use kinora_crds::{VideoJob, definitions};
use serde_json::{Value, json};

use super::crowds::Crowd;
use super::{Case, Context, JOB, case};
use crate::jobs;
use crate::stack::{JOBS_NAMESPACE, RELEASE, RELEASE_NAMESPACE};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(
            "what-git-holds-stays-as-it-is-while-kubectl-waits-for-its-end",
            no_drift
        ),
        case!(
            "helm-waits-for-jobs-as-kstatus-judges-them",
            judged_by_kstatus
        ),
        case!(
            "an-uninstall-leaves-definitions-and-jobs-and-an-install-goes-on-with-them",
            reinstalled
        ),
    ]
}

/// GitOps rows 5, 6 and 7: wait, selectors, no drift, and nothing of the operator's under `spec`.
async fn no_drift(context: &Context) -> Result<()> {
    let (stack, cluster) = (&context.stack, &context.stack.cluster);
    let key = context.import("git.mp4").await?;
    let manifest = json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob",
        "metadata": {"name": "from-git", "namespace": JOBS_NAMESPACE, "labels": {"app": "git"}},
        "spec": {"source": {"key": key}, "priority": 3, "parameters": {"lang": "de"}},
    })
    .to_string();
    let of_jobs = |arguments: &[&str]| {
        let arguments = [&["--namespace", JOBS_NAMESPACE], arguments].concat();
        cluster.kubectl_stdin(&arguments, &manifest)
    };
    let apply_as = |manager: &str| {
        of_jobs(&[
            "apply",
            "--server-side",
            "--field-manager",
            manager,
            "-f",
            "-",
        ])
    };
    apply_as("argocd-controller")?;
    for condition in ["Finished", "Succeeded"] {
        let condition = format!("--for=condition={condition}");
        let timeout = format!("--timeout={}s", JOB.as_secs());
        of_jobs(&["wait", &condition, "videojob/from-git", &timeout])?;
    }
    of_jobs(&[
        "diff",
        "--server-side",
        "--field-manager",
        "argocd-controller",
        "-f",
        "-",
    ])
    .context("kubectl diff after the operator acted")?;

    // Nobody is in the way of another who wants the same, and the second time nothing is written.
    apply_as("kustomize-controller")?;
    let before = jobs::api(stack).get("from-git").await?;
    for manager in ["argocd-controller", "kustomize-controller"] {
        apply_as(manager)?;
    }
    let after = jobs::api(stack).get("from-git").await?;
    ensure!(
        after.metadata.resource_version == before.metadata.resource_version,
        "an apply of what is there wrote something"
    );
    let taken = spec_of_the_operator(&after)?;
    ensure!(taken.is_empty(), "it owns of the spec: {taken:?}");

    for (field, value) in [
        ("status.state", "Succeeded"),
        ("status.poolName", "default"),
    ] {
        let selector = format!("--field-selector={field}={value}");
        let found = of_jobs(&["get", "videojobs", &selector, "--output=name"])?;
        ensure!(found.contains("/from-git"), "{selector} finds {found:?}");
    }
    of_jobs(&["delete", "videojob/from-git", "--wait=false"])?;
    of_jobs(&["wait", "--for=delete", "videojob/from-git", "--timeout=60s"])?;
    Ok(())
}

/// What Kinora's managers own of the spec.
fn spec_of_the_operator(job: &VideoJob) -> Result<Vec<Value>> {
    let managers = job.metadata.managed_fields.as_deref().unwrap_or_default();
    let ours: Vec<_> = managers
        .iter()
        .filter(|entry| {
            entry
                .manager
                .as_deref()
                .is_some_and(|m| m.starts_with("kinora"))
        })
        .map(serde_json::to_value)
        .collect::<Result<_, _>>()?;
    ensure!(!ours.is_empty(), "no manager of Kinora's wrote a status");
    let specs = ours.iter().map(|entry| entry["fieldsV1"]["f:spec"].clone());
    Ok(specs.filter(|spec| !spec.is_null()).collect())
}

/// GitOps row 1: helm waits with the library that Flux has. An install is over when its job is, fails at once with its job, and
/// does not wait for one that is suspended.
async fn judged_by_kstatus(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let key = context.import("chart.mp4").await?;
    let chart = stack.cluster.state_dir().join("chart-of-a-job");
    std::fs::create_dir_all(chart.join("templates"))?;
    let about = "apiVersion: v2\nname: chart-of-a-job\nversion: 0.0.1\n";
    std::fs::write(chart.join("Chart.yaml"), about)?;
    let install = |name: &str, spec: &Value| {
        let job = json!({
            "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob",
            "metadata": {"name": name, "namespace": JOBS_NAMESPACE}, "spec": spec,
        });
        let manifest = serde_json::to_vec(&job)?;
        std::fs::write(chart.join("templates/job.yaml"), manifest)?;
        let path = chart.to_string_lossy();
        let what = ["install", name, &path, "--namespace", JOBS_NAMESPACE];
        let how = ["--wait=watcher", "--timeout=4m"];
        stack.cluster.helm(&[what.as_slice(), &how].concat())
    };
    let state_of = async |name: &str| -> Result<String> {
        let job = jobs::api(stack).get(name).await?;
        Ok(jobs::status(&job).state)
    };
    let spec = json!({"source": {"key": key}});

    install("judged-good", &spec).context("a job that succeeds")?;
    let state = state_of("judged-good").await?;
    ensure!(state == "Succeeded", "helm was content with {state}");

    let mut suspended = spec.clone();
    suspended["suspend"] = true.into();
    install("judged-suspended", &suspended).context("a job that is suspended")?;
    let state = state_of("judged-suspended").await?;
    ensure!(state == "Suspended", "helm was content with {state}");

    stack.faults(&json!({"reject": "by a fault knob"})).await?;
    let said = match install("judged-bad", &spec) {
        Ok(_) => anyhow::bail!("helm was content with a job that failed"),
        Err(error) => format!("{error:#}"),
    };
    stack.faults(&json!({})).await?;
    ensure!(
        said.contains("status: Failed") && !said.contains("deadline"),
        "helm says of a job that failed: {said}"
    );
    for name in ["judged-good", "judged-suspended", "judged-bad"] {
        let what = ["uninstall", name, "--namespace", JOBS_NAMESPACE, "--wait"];
        stack.cluster.helm(&what)?;
    }
    Ok(())
}

/// GitOps row 15. Calls run while the release goes, and jobs wait.
async fn reinstalled(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let mut crowd = Crowd::gather(context, 2, json!({"latencyMs": 2_000}), json!({})).await?;
    crowd.upload(40).await?;
    crowd.until_some(4, "Succeeded").await?;
    let arguments = [
        "uninstall",
        RELEASE,
        "--namespace",
        RELEASE_NAMESPACE,
        "--wait",
    ];
    stack.cluster.helm(&arguments)?;
    for definition in definitions()? {
        let name = definition.crd()?.metadata.name.unwrap_or_default();
        stack
            .cluster
            .kubectl(&["get", "crd", &name])
            .with_context(|| format!("after an uninstall {name} is gone"))?;
    }
    for name in crowd.jobs() {
        let job = jobs::api(stack).get_opt(&name).await?;
        ensure!(job.is_some(), "after an uninstall {name} is gone");
    }
    stack.install(&context.options).await?;
    crowd.base = stack.uploader().await?;
    crowd.upload(4).await?;
    let ends = crowd.end().await?;
    let again = ends.iter().filter(|(status, _)| status.attempt > 1);
    println!(
        "    {} videos, {} of them leased again",
        ends.len(),
        again.count()
    );
    Ok(())
}
