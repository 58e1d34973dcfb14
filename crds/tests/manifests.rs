//! The rendered manifests, as Helm and Kustomize install them: who may do what, and how every pod is confined.

// Helpers of a test crate do not count as tests for clippy.toml.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// Every object of `manifests/base`.
fn objects() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/base");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.retain(|path| !path.ends_with("kustomization.yaml"));
    let parse = |path| {
        let text = std::fs::read_to_string(path).unwrap();
        let documents =
            serde_yaml::Deserializer::from_str(&text).map(|d| Value::deserialize(d).unwrap());
        documents.collect::<Vec<_>>()
    };
    files.iter().flat_map(parse).collect()
}

fn of_kind(kinds: &[&str]) -> Vec<Value> {
    objects()
        .into_iter()
        .filter(|object| kinds.contains(&object["kind"].as_str().unwrap()))
        .collect()
}

fn words(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(|word| word.as_str().unwrap())
        .collect()
}

/// A role's rules, one line each: `group/resource[names]: verbs`.
fn rules(role: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        let names = words(&rule["resourceNames"]).join(",");
        let names = if names.is_empty() {
            names
        } else {
            format!("[{names}]")
        };
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                lines.push(format!(
                    "{group}/{resource}{names}: {}",
                    words(&rule["verbs"]).join(",")
                ));
            }
        }
    }
    lines
}

/// Everything a ServiceAccount of Kinora is bound to.
fn rights(account: &str) -> Vec<String> {
    let roles = of_kind(&["Role", "ClusterRole"]);
    let mut lines = Vec::new();
    for binding in of_kind(&["RoleBinding", "ClusterRoleBinding"]) {
        if binding["subjects"]
            .as_array()
            .unwrap()
            .iter()
            .any(|subject| subject["name"] == account)
        {
            let named = |role: &&Value| {
                role["metadata"]["name"] == binding["roleRef"]["name"]
                    && role["kind"] == binding["roleRef"]["kind"]
            };
            let place = binding["metadata"]["namespace"]
                .as_str()
                .unwrap_or("everywhere");
            lines.extend(
                rules(roles.iter().find(named).unwrap())
                    .iter()
                    .map(|rule| format!("{place} {rule}")),
            );
        }
    }
    lines
}

/// covers: S1
#[test]
fn the_operator_may_do_what_it_does_and_nothing_else() {
    let want = [
        "everywhere kinora.dev/videojobs: get,list,watch,create,delete",
        "everywhere kinora.dev/videojobs/status: patch",
        "everywhere kinora.dev/videojobredrives: list,watch,delete",
        "everywhere kinora.dev/videojobredrives/status: patch",
        "everywhere kinora.dev/videoworkerpools: get,list,watch,create,patch",
        "everywhere kinora.dev/videoworkerpools/status: patch",
        "everywhere apps/deployments: get,list,watch,create,patch",
        "everywhere apps/deployments/scale: patch",
        "everywhere apps/replicasets: get",
        "everywhere /pods: get,list,watch,create,patch,delete",
        "everywhere authentication.k8s.io/tokenreviews: create",
        "everywhere /configmaps[kinora-dispatch-ca]: list,watch,create,patch",
        "everywhere /namespaces: get",
        "everywhere apiextensions.k8s.io/customresourcedefinitions[videojobs.kinora.dev,videoworkerpools.kinora.dev]: get",
        "everywhere events.k8s.io/events: create",
        "kinora-system coordination.k8s.io/leases: create",
        "kinora-system coordination.k8s.io/leases[kinora-operator]: get,update",
        "kinora-system /secrets[kinora-dispatch-ca]: get,patch",
        "kinora-system /configmaps[kinora-default-pool]: list,watch",
    ];
    assert_eq!(rights("kinora-operator"), want);
}

/// covers: S1
#[test]
fn the_uploader_may_create_get_and_patch_jobs_in_one_namespace() {
    assert_eq!(
        rights("kinora-uploader"),
        ["videos kinora.dev/videojobs: create,get,patch"]
    );
}

/// covers: S1
#[test]
fn nobody_else_is_bound_to_anything_and_workers_to_nothing() {
    let bindings = of_kind(&["RoleBinding", "ClusterRoleBinding"]);
    let subjects = bindings
        .iter()
        .flat_map(|binding| binding["subjects"].as_array().unwrap());
    let names: BTreeSet<&str> = subjects
        .map(|subject| subject["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        ["kinora-operator", "kinora-uploader"]
    );
}

/// covers: S1
#[test]
fn no_role_has_a_wildcard_lists_secrets_or_reaches_beyond_itself() {
    const DENIED: [&str; 8] = [
        "escalate",
        "bind",
        "impersonate",
        "pods/exec",
        "pods/attach",
        "nodes",
        "roles",
        "clusterroles",
    ];
    for role in of_kind(&["Role", "ClusterRole"]) {
        for rule in rules(&role) {
            let at = format!("{} {}: {rule}", role["kind"], role["metadata"]["name"]);
            assert!(!rule.contains('*'), "{at}");
            let words: Vec<&str> = rule.split(['/', ':', ',', ' ']).collect();
            assert!(!DENIED.iter().any(|denied| words.contains(denied)), "{at}");
            if rule.contains("/secrets") {
                assert!(
                    rule.contains("secrets[") && !rule.contains("list") && !rule.contains("watch"),
                    "{at}"
                );
            }
        }
    }
}

/// No finalizer of Kinora's can hold up an object or its namespace: nothing is asked for that would set one.
/// covers: F32, T25
#[test]
fn nobody_may_set_finalizers_of_jobs() {
    for role in of_kind(&["Role", "ClusterRole"]) {
        for rule in rules(&role) {
            let at = format!("{}: {rule}", role["metadata"]["name"]);
            assert!(!rule.contains("/finalizers"), "{at}");
        }
    }
    for object in objects() {
        assert!(object["metadata"]["finalizers"].is_null(), "{object}");
    }
}

/// covers: S1
#[test]
fn editors_may_write_neither_status_nor_pools() {
    let roles = of_kind(&["ClusterRole"]);
    let role = |name: &str| {
        rules(
            roles
                .iter()
                .find(|role| role["metadata"]["name"] == name)
                .unwrap(),
        )
    };
    let want = ["videojobs", "videojobredrives"]
        .map(|r| format!("kinora.dev/{r}: create,update,patch,delete,deletecollection"));
    assert_eq!(role("kinora-edit"), want);
    for name in ["kinora-view", "kinora-edit", "kinora-admin"] {
        assert!(
            role(name).iter().all(|rule| !rule.contains("/status")),
            "{name} may write a status"
        );
    }
}

/// covers: S3
#[test]
fn every_pod_keeps_to_the_restricted_standard() {
    let deployments = of_kind(&["Deployment"]);
    assert_eq!(deployments.len(), 2);
    for deployment in deployments {
        let name = &deployment["metadata"]["name"];
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
            "{name}"
        );
        for key in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod[key].is_null(), "{name}: {key}");
        }
        assert!(
            pod.pointer("/securityContext/runAsUser").is_none(),
            "{name}: a fixed user id breaks OpenShift"
        );
        for volume in pod["volumes"].as_array().unwrap() {
            assert!(
                volume["secret"].is_object() || volume["configMap"].is_object(),
                "{name}: {volume}"
            );
        }
        for container in pod["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(words(&security["capabilities"]["drop"]), ["ALL"], "{name}");
            assert!(
                security["capabilities"]["add"].is_null() && security["privileged"].is_null(),
                "{name}"
            );
            assert!(
                container["resources"]["limits"]["memory"].is_string(),
                "{name}: no memory limit"
            );
            assert!(
                container["resources"]["requests"]["cpu"].is_string(),
                "{name}: no CPU request"
            );
        }
    }
}

/// covers: S3
#[test]
fn a_token_is_mounted_only_by_the_pods_that_call_the_api() {
    for account in of_kind(&["ServiceAccount"]) {
        assert_eq!(
            account["automountServiceAccountToken"], false,
            "{}",
            account["metadata"]["name"]
        );
    }
    let pods = of_kind(&["Deployment"]);
    let mounts = pods
        .iter()
        .map(|d| d["spec"]["template"]["spec"]["automountServiceAccountToken"] == true);
    assert_eq!(mounts.collect::<Vec<_>>(), [true, true]);
}

/// covers: S12
#[test]
fn no_secret_has_content_and_none_is_in_the_environment() {
    for secret in of_kind(&["Secret"]) {
        // A data field, even an empty one, would make an upgrade wipe the CA that the operator stored.
        assert!(
            secret["data"].is_null() && secret["stringData"].is_null(),
            "{}",
            secret["metadata"]["name"]
        );
    }
    for deployment in of_kind(&["Deployment"]) {
        assert!(
            !deployment.to_string().contains("secretKeyRef"),
            "{}",
            deployment["metadata"]["name"]
        );
    }
}

#[test]
fn nothing_is_of_a_kind_that_the_same_install_defines() {
    let own: Vec<_> = objects()
        .into_iter()
        .filter(|object| {
            object["apiVersion"]
                .as_str()
                .unwrap()
                .starts_with("kinora.dev/")
        })
        .collect();
    assert!(own.is_empty(), "{own:?}");
}

#[test]
fn the_default_pool_s_text_is_a_pool() {
    let maps = of_kind(&["ConfigMap"]);
    let map = maps
        .iter()
        .find(|m| m["metadata"]["name"] == kinora_crds::names::DEFAULT_POOL_CONFIGMAP)
        .unwrap();
    let text = map["data"][kinora_crds::names::DEFAULT_POOL_KEY]
        .as_str()
        .unwrap();
    let pool: kinora_crds::VideoWorkerPool = serde_yaml::from_str(text).unwrap();
    assert!(pool.spec.is_default());
    assert_eq!(pool.metadata.namespace.as_deref(), Some("videos"));
}
