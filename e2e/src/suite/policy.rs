//! Who may ask for what: the admission policy on the real API server.

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use super::{Case, Context, JOB, case};
use crate::stack::{JOBS_NAMESPACE, RELEASE_NAMESPACE};
use crate::{jobs, uploads};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(
            "a-job-that-names-a-foreign-key-is-refused-by-the-policy",
            foreign_keys
        ),
        case!("a-declared-job-may-name-its-own-imports", own_imports),
        case!(
            "the-uploader-cancels-a-job-and-may-change-nothing-else-of-it",
            only_cancels
        ),
        case!("everybody-may-do-what-his-work-needs-and-no-more", rights),
    ]
}

async fn create(
    context: &Context,
    name: &str,
    key: &str,
    labels: serde_json::Value,
) -> kube::Result<kinora_crds::VideoJob> {
    let job = json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob",
        "metadata": {"name": name, "namespace": JOBS_NAMESPACE, "labels": labels},
        "spec": {"source": {"key": key}, "tenant": JOBS_NAMESPACE, "suspend": true},
    });
    let job = serde_json::from_value(job).map_err(kube::Error::SerdeError)?;
    jobs::api(&context.stack)
        .create(&PostParams::default(), &job)
        .await
}

/// covers: I9
async fn foreign_keys(context: &Context) -> Result<()> {
    let rows = [
        (
            "clip-1",
            "videos/2026-01-01/00/a-01h0000000000000000000000",
            json!({}),
            "imports/videos/",
        ),
        (
            "clip-2",
            "imports/others/clip.mp4",
            json!({}),
            "imports/videos/",
        ),
        ("vj-clip", "imports/videos/clip.mp4", json!({}), "vj-"),
        (
            "clip-3",
            "imports/videos/clip.mp4",
            json!({"kinora.dev/origin": "upload"}),
            "kinora.dev/origin",
        ),
    ];
    for (name, key, labels, says) in rows {
        match create(context, name, key, labels).await {
            Ok(_) => bail!("{name} with key {key} was admitted"),
            Err(kube::Error::Api(status)) => {
                ensure!(
                    status.message.contains(says),
                    "{name}: {:?} does not name {says:?}",
                    status.message
                );
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn own_imports(context: &Context) -> Result<()> {
    create(
        context,
        "declared-clip",
        "imports/videos/clip.mp4",
        json!({}),
    )
    .await?;
    let job = jobs::until_state(&context.stack, "declared-clip", "Suspended", super::JOB).await?;
    ensure!(
        jobs::status(&job).attempt == 0,
        "a suspended job was claimed"
    );
    jobs::api(&context.stack)
        .delete("declared-clip", &DeleteParams::default())
        .await?;
    Ok(())
}

/// covers: I9
async fn only_cancels(context: &Context) -> Result<()> {
    let stack = &context.stack;
    stack.faults(&json!({"latencyMs": 60_000})).await?;
    let base = stack.uploader().await?;
    let upload = uploads::post(stack, &base, context.bikes()?).await?;
    let job = upload.job();
    jobs::until_called(stack, &job, JOB).await?;
    let patch = |who: &[&str], patch: &serde_json::Value| {
        let patch = patch.to_string();
        let what = ["patch", "videojob", &job, "--type=merge", "--patch", &patch];
        let namespace = ["--namespace", JOBS_NAMESPACE];
        stack.cluster.kubectl(&[who, &namespace, &what].concat())
    };
    let uploader = format!("--as=system:serviceaccount:{RELEASE_NAMESPACE}:kinora-uploader");
    let only = "may change only spec.cancelRequested";
    let rows = [
        (Some(&uploader), json!({"spec": {"suspend": true}}), only),
        (Some(&uploader), json!({"spec": {"priority": 9}}), only),
        (
            Some(&uploader),
            json!({"metadata": {"labels": {"a": "b"}}}),
            only,
        ),
        (
            Some(&uploader),
            json!({"metadata": {"annotations": {"a": "b"}}}),
            only,
        ),
        (
            Some(&uploader),
            json!({"metadata": {"finalizers": ["a.example/b"]}}),
            only,
        ),
        (
            None,
            json!({"metadata": {"labels": {"kinora.dev/origin": "me"}}}),
            "never changes",
        ),
        (
            None,
            json!({"metadata": {"labels": {"kinora.dev/origin": null}}}),
            "never changes",
        ),
    ];
    for (who, change, says) in rows {
        let who: Vec<&str> = who.map(String::as_str).into_iter().collect();
        let said = match patch(&who, &change) {
            Ok(_) => bail!("{who:?} may change {change}"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(said.contains(says), "{who:?}, {change}: {said}");
    }
    // What people may change they may.
    patch(
        &[],
        &json!({"spec": {"priority": 9}, "metadata": {"labels": {"a": "b"}}}),
    )?;

    // The second time it says what is so already.
    for _ in 0..2 {
        let url = format!("{base}/v1/videos/{}", upload.id);
        let answer = stack.http.delete(url).bearer_auth(&stack.api_key);
        let status = answer.send().await?.status();
        ensure!(status == 204, "DELETE of the video answered {status}");
        jobs::until_state(stack, &job, "Cancelled", JOB).await?;
    }
    let video = uploads::video(stack, &base, &upload.id).await?;
    ensure!(video["state"] == "cancelled", "{video}");
    Ok(())
}

/// Whose rights; verb, resource (with its group and subresource), namespace; and whether it may.
type Right<'a> = (&'a str, &'a str, &'a str, &'a str, bool);

/// covers: S1
async fn rights(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let account = |name: &str| format!("system:serviceaccount:{RELEASE_NAMESPACE}:{name}");
    let (uploader, operator) = (account("kinora-uploader"), account("kinora-operator"));
    // Workers run under the account of their namespace, or one that its owner names.
    let worker = format!("system:serviceaccount:{JOBS_NAMESPACE}:default");
    for role in ["view", "edit", "admin"] {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": format!("a-{role}"), "namespace": JOBS_NAMESPACE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": role}],
        });
        stack.apply(&[binding])?;
    }
    let (jobs, status) = ("kinora.dev/videojobs", "kinora.dev/videojobs/status");
    let (pools, redrives) = ("kinora.dev/videoworkerpools", "kinora.dev/videojobredrives");
    let (here, there) = (JOBS_NAMESPACE, RELEASE_NAMESPACE);
    let rows: [Right<'_>; 34] = [
        (&uploader, "create", jobs, here, true),
        (&uploader, "get", jobs, here, true),
        (&uploader, "patch", jobs, here, true),
        (&uploader, "create", jobs, "default", false),
        (&uploader, "list", jobs, here, false),
        (&uploader, "delete", jobs, here, false),
        (&uploader, "patch", status, here, false),
        (&uploader, "get", pools, here, false),
        (&uploader, "get", "/secrets", there, false),
        (&operator, "patch", status, here, true),
        (&operator, "patch", jobs, here, false),
        (&operator, "update", jobs, here, false),
        (
            &operator,
            "patch",
            "kinora.dev/videojobredrives/status",
            here,
            true,
        ),
        (&operator, "patch", redrives, here, false),
        (&operator, "list", "/secrets", there, false),
        (&operator, "get", "/secrets", here, false),
        (&operator, "delete", "apps/deployments", here, false),
        (&operator, "create", "/pods/exec", here, false),
        (
            &operator,
            "create",
            "rbac.authorization.k8s.io/rolebindings",
            here,
            false,
        ),
        (&operator, "get", "/nodes", "", false),
        (&worker, "get", jobs, here, false),
        (&worker, "patch", status, here, false),
        (&worker, "get", "/pods", here, false),
        (&worker, "get", "/secrets", here, false),
        ("view", "list", jobs, here, true),
        ("view", "create", jobs, here, false),
        ("edit", "create", jobs, here, true),
        ("edit", "create", redrives, here, true),
        ("edit", "patch", status, here, false),
        ("edit", "patch", pools, here, false),
        ("admin", "patch", pools, here, true),
        (
            "admin",
            "update",
            "kinora.dev/videoworkerpools/scale",
            here,
            true,
        ),
        ("admin", "patch", status, here, false),
        (
            "admin",
            "patch",
            "kinora.dev/videoworkerpools/status",
            here,
            false,
        ),
    ];
    let reviews: Api<SubjectAccessReview> = Api::all(stack.client.clone());
    for (who, verb, what, namespace, want) in rows {
        let (group, resource) = what.split_once('/').context("<group>/<resource>")?;
        let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
        let review = serde_json::from_value(json!({"metadata": {}, "spec": {
            "user": who, "groups": ["system:authenticated"],
            "resourceAttributes": {"group": group, "resource": resource, "subresource": part,
                                   "verb": verb, "namespace": namespace},
        }}))?;
        let answer = reviews.create(&PostParams::default(), &review).await?;
        let may = answer.status.is_some_and(|status| status.allowed);
        ensure!(
            may == want,
            "{who} may {verb} {what} in {namespace:?}: {may}"
        );
    }
    Ok(())
}
