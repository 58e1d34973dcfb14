//! The schema's own rules on the real API server: the tables of `crds/cel-cases`.

use anyhow::{Context as _, Result, bail, ensure};
use kinora_crds::cel_cases::{self, Case as CelCase, CaseFile, Step, Want};
use kinora_crds::{Definition, definitions};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::time::Duration;

use super::{Case, Context, case};
use crate::wait;

#[path = "../../../operator/tests/shared/contract.rs"]
mod contract;

const NAMESPACE: &str = "cel";

/// These run before Kinora is installed: an operator would write the same statuses.
pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(
            "the-api-server-accepts-and-refuses-as-the-schema-tables-say",
            tables
        ),
        case!("the-api-server-answers-as-its-fakes-in-the-tests-do", fakes),
    ]
}

/// covers: S2, S14
async fn tables(context: &Context) -> Result<()> {
    let stack = &context.stack;
    stack.apply(&[
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
    ])?;
    let definitions = definitions()?;
    for definition in &definitions {
        apply(context, definition)?;
    }
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in cel_cases::all()? {
        let definition = definitions.iter().find(|one| {
            one.crd()
                .is_ok_and(|crd| crd.spec.names.plural == file.plural)
        });
        let definition = definition.with_context(|| format!("no definition of {}", file.plural))?;
        for case in &file.cases {
            count += 1;
            if let Err(error) = one(context, definition, &file, case).await {
                wrong.push(format!("{} / {}: {error:#}", file.plural, case.name));
            }
        }
    }
    println!("    {count} cases on the API server");
    stack.uninstall()?;
    ensure!(
        wrong.is_empty(),
        "{} of {count} cases are wrong:\n      {}",
        wrong.len(),
        wrong.join("\n      ")
    );
    Ok(())
}

async fn fakes(context: &Context) -> Result<()> {
    let stack = &context.stack;
    for definition in definitions()? {
        apply(context, &definition)?;
    }
    let name = "contract";
    stack.apply(&[
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({
            "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"source": {"key": "imports/cel/clip.mp4"}},
        }),
    ])?;
    let resource = ApiResource::erase::<kinora_crds::VideoJob>(&());
    let jobs = Api::namespaced_with(stack.client.clone(), NAMESPACE, &resource);
    let held = contract::holds(&jobs, name).await;
    stack.uninstall()?;
    held.map_err(anyhow::Error::msg)
}

fn apply(context: &Context, definition: &Definition) -> Result<()> {
    let cluster = &context.stack.cluster;
    cluster.kubectl_stdin(
        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        &definition.yaml()?,
    )?;
    let name = definition.crd()?.metadata.name.unwrap_or_default();
    cluster.kubectl(&[
        "wait",
        "--for=condition=Established",
        &format!("crd/{name}"),
        "--timeout=30s",
    ])?;
    Ok(())
}

async fn one(
    context: &Context,
    definition: &Definition,
    file: &CaseFile,
    case: &CelCase,
) -> Result<()> {
    let crd = definition.crd()?;
    let resource = ApiResource {
        group: crd.spec.group.clone(),
        version: "v1alpha1".to_owned(),
        api_version: format!("{}/v1alpha1", crd.spec.group),
        kind: crd.spec.names.kind.clone(),
        plural: file.plural.clone(),
    };
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.stack.client.clone(), NAMESPACE, &resource);
    let steps = case.steps(&file.base);
    let Some((judged, given)) = steps.split_last() else {
        bail!("a case without a step")
    };
    let name = name_of(&steps)?;
    if case.before_the_rules {
        apply(context, &definition.without_value_validation())?;
        let step = given.first().unwrap_or(judged);
        // The API server serves a changed schema a moment after it took it.
        wait::until(
            "the schema without rules to serve",
            Duration::from_secs(30),
            || async { Ok(Some(send(&api, &name, step).await?)) },
        )
        .await?;
        apply(context, definition)?;
        until_refused(&api, step).await?;
    }
    let skip = usize::from(case.before_the_rules);
    for step in given.iter().skip(skip) {
        send(&api, &name, step)
            .await
            .context("a step before the judged one was refused")?;
    }
    let verdict = send(&api, &name, judged).await;
    let judgement = judge(&case.want, verdict);
    if api.get_opt(&name).await?.is_some() {
        api.delete(&name, &DeleteParams::default()).await?;
    }
    judgement
}

/// Waits until the real rules serve: they refuse what the loose schema took.
async fn until_refused(api: &Api<DynamicObject>, step: &Step) -> Result<()> {
    let Step::Create(object) = step else {
        bail!("an object older than a rule starts with a create")
    };
    let mut probe: DynamicObject = serde_json::from_value(object.clone())?;
    probe.metadata.name = Some("probe".to_owned());
    let params = PostParams {
        dry_run: true,
        field_manager: None,
    };
    wait::until(
        "the rules to serve again",
        Duration::from_secs(30),
        || async {
            Ok(matches!(api.create(&params, &probe).await, Err(kube::Error::Api(_))).then_some(()))
        },
    )
    .await
}

fn judge(want: &Want, verdict: kube::Result<()>) -> Result<()> {
    match (want, verdict) {
        (Want::Accept, verdict) => verdict.context("was refused"),
        (Want::Reject { .. }, Ok(())) => bail!("was accepted"),
        (Want::Reject { message, field }, Err(kube::Error::Api(status))) => {
            let text = &status.message;
            ensure!(
                text.contains(message.as_str()) && text.contains(field.as_str()),
                "says {text:?}, wanted {message:?} about {field}"
            );
            Ok(())
        }
        (Want::Reject { .. }, Err(error)) => Err(error.into()),
    }
}

fn name_of(steps: &[Step]) -> Result<String> {
    let Some(Step::Create(object)) = steps.first() else {
        bail!("a case does not start with a create")
    };
    object["metadata"]["name"]
        .as_str()
        .map(str::to_owned)
        .context("an object without a name")
}

async fn send(api: &Api<DynamicObject>, name: &str, step: &Step) -> kube::Result<()> {
    let merge = |patch: &Value| Patch::Merge(patch.clone());
    match step {
        Step::Create(object) => {
            let object = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
            api.create(&PostParams::default(), &object)
                .await
                .map(|_| ())
        }
        Step::Patch(patch) => api
            .patch(name, &PatchParams::default(), &merge(patch))
            .await
            .map(|_| ()),
        Step::PatchStatus(patch) => api
            .patch_status(name, &PatchParams::default(), &merge(patch))
            .await
            .map(|_| ()),
    }
}
