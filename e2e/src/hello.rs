//! Proof that a cluster works: a pod answers through a Service by its DNS name, both ends under the strictest pod rules.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::images;

const NAMESPACE: &str = "kinora-hello";
const ADDRESS: &str = "hello.kinora-hello.svc.cluster.local:8080";
const LIMIT: &str = "--timeout=60s";

/// Starts a server and a client, and returns what the client was answered. Leaves nothing behind.
///
/// # Errors
/// The image cannot be built, or no answer came.
pub fn answer(cluster: &Cluster) -> Result<String> {
    let image = images::hello()?;
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    cluster.import_image(&image.reference, &image.write_into(folder.path())?)?;
    let outcome = asked(cluster, &image.reference);
    if let Err(error) = &outcome {
        let pods = cluster
            .kubectl(&["-n", NAMESPACE, "describe", "pods"])
            .unwrap_or_default();
        eprintln!("{error:#}\n{pods}");
    }
    cluster.kubectl(&[
        "delete",
        "namespace",
        NAMESPACE,
        "--ignore-not-found",
        LIMIT,
    ])?;
    let said = outcome?;
    ensure!(
        said.starts_with("hello from hello-"),
        "the client was answered: {said:?}"
    );
    Ok(said.trim().to_owned())
}

fn asked(cluster: &Cluster, image: &str) -> Result<String> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects(image)});
    cluster.kubectl_stdin(&["apply", "-f", "-"], &list.to_string())?;
    cluster.kubectl(&[
        "-n",
        NAMESPACE,
        "wait",
        "--for=condition=Available",
        LIMIT,
        "deployment/hello",
    ])?;
    cluster.kubectl(&[
        "-n",
        NAMESPACE,
        "wait",
        "--for=jsonpath={.status.phase}=Succeeded",
        LIMIT,
        "pod/client",
    ])?;
    cluster.kubectl(&["-n", NAMESPACE, "logs", "client"])
}

fn objects(image: &str) -> [Value; 4] {
    let labels = json!({"app": "hello"});
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        }}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hello", "namespace": NAMESPACE}, "spec": {
            "replicas": 2, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod(image, &["serve"], "Always")},
        }}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hello", "namespace": NAMESPACE}, "spec": {
            "selector": labels, "ports": [{"port": 8080}],
        }}),
        // It asks again until the Service has endpoints, for at most half a minute.
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "namespace": NAMESPACE},
               "spec": pod(image, &["ask", ADDRESS, "150"], "Never")}),
    ]
}

fn pod(image: &str, args: &[&str], restart: &str) -> Value {
    json!({
        "restartPolicy": restart, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "hello", "image": image, "imagePullPolicy": "IfNotPresent", "args": args,
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
            },
        }],
    })
}
