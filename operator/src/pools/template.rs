//! Renders the Deployment of a pool's workers: restricted pods that hold a dispatch token and nothing else of value.
//!
//! Pure. Children carry the owner reference and our own labels only; nothing of the parent's labels or annotations.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapKeySelector, Container, ContainerPort, EnvVar, EnvVarSource,
    HTTPGetAction, LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements, SeccompProfile, SecretKeySelector, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kinora_crds::pool::defaults;
use kinora_crds::{Protocol, VideoWorkerPool, WorkerEnv, WorkerTemplate, names};
use kube::{Resource, ResourceExt};
use sha2::{Digest, Sha256};

use super::mounts::{CA_DIR, SERVICE_TLS_DIR, SERVICE_TOKEN_DIR, TOKEN_DIR, mounts, volumes};
use crate::pods::index::WORKER_CONTAINER;

/// On the Deployment: hash of all that was rendered but the number of replicas.
pub const ANNOTATION_TEMPLATE: &str = "kinora.dev/template";

const HTTP_PORT: i32 = 8080;
/// Added to the drain time: for the worker's own shutdown.
const GRACE_EXTRA_SECONDS: u64 = 30;

/// What the operator adds to every pool's workers.
#[derive(Clone, Debug)]
pub struct WorkerDefaults {
    /// Image when the pool names none.
    pub image: String,
    /// Pull policy of the container; `None`: the API server's choice.
    pub image_pull_policy: Option<String>,
    /// Namespace of the operator's Service.
    pub operator_namespace: String,
    /// Log level of the workers.
    pub log_level: String,
    /// Where their spans go, over OTLP/HTTP; nowhere without one.
    pub otlp_endpoint: Option<String>,
}

/// Selector of a pool's pods.
pub fn labels(pool: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("app.kubernetes.io/name", "kinora-worker"),
        (names::LABEL_POOL, pool),
    ];
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The hash a rendered or stored Deployment carries.
pub fn hash_of(deployment: &Deployment) -> Option<&str> {
    deployment
        .metadata
        .annotations
        .as_ref()?
        .get(ANNOTATION_TEMPLATE)
        .map(String::as_str)
}

/// The Deployment, with its hash and this number of replicas.
///
/// # Errors
/// Fails only if Kubernetes' own types cannot be written as JSON.
pub fn render(
    pool: &VideoWorkerPool,
    defaults: &WorkerDefaults,
    replicas: i32,
) -> Result<Deployment, serde_json::Error> {
    let mut deployment = without_hash(pool, defaults);
    let bytes = serde_json::to_vec(&deployment)?;
    let hash = hex::encode(&Sha256::digest(&bytes)[..8]);
    deployment.metadata.annotations = Some([(ANNOTATION_TEMPLATE.to_owned(), hash)].into());
    if let Some(spec) = &mut deployment.spec {
        spec.replicas = Some(replicas);
    }
    Ok(deployment)
}

fn without_hash(pool: &VideoWorkerPool, defaults: &WorkerDefaults) -> Deployment {
    let name = pool.name_any();
    let mut own_labels = labels(&name);
    let selector = LabelSelector {
        match_labels: Some(own_labels.clone()),
        ..LabelSelector::default()
    };
    own_labels.insert(
        "app.kubernetes.io/managed-by".to_owned(),
        names::MANAGER_OPERATOR.to_owned(),
    );
    let rolling = RollingUpdateDeployment {
        max_surge: Some(IntOrString::String("25%".to_owned())),
        max_unavailable: Some(IntOrString::Int(0)),
    };
    Deployment {
        metadata: ObjectMeta {
            name: Some(names::worker_deployment_name(&name)),
            namespace: pool.namespace(),
            labels: Some(own_labels.clone()),
            owner_references: pool.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            selector,
            strategy: Some(DeploymentStrategy {
                rolling_update: Some(rolling),
                type_: Some("RollingUpdate".to_owned()),
            }),
            revision_history_limit: Some(2),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(own_labels),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod_spec(pool, defaults, pool.spec.slots_per_worker())),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// The pod of a worker with so many slots.
pub(super) fn pod_spec(pool: &VideoWorkerPool, defaults: &WorkerDefaults, slots: i32) -> PodSpec {
    let none = WorkerTemplate::default();
    let template = pool.spec.template.as_ref().unwrap_or(&none);
    let pull_secrets = template
        .image_pull_secrets
        .iter()
        .map(|s| LocalObjectReference {
            name: s.name.clone(),
        });
    PodSpec {
        containers: vec![container(pool, template, defaults, slots)],
        volumes: Some(volumes(pool)),
        termination_grace_period_seconds: Some(seconds(
            pool.spec.drain().as_secs() + GRACE_EXTRA_SECONDS,
        )),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        node_selector: some(template.node_selector.clone(), BTreeMap::is_empty),
        tolerations: some(template.tolerations.clone(), Vec::is_empty),
        topology_spread_constraints: some(template.topology_spread.clone(), Vec::is_empty),
        image_pull_secrets: some(pull_secrets.collect(), Vec::is_empty),
        affinity: template.affinity.clone(),
        priority_class_name: template.priority_class_name.clone(),
        service_account_name: template.service_account_name.clone(),
        ..PodSpec::default()
    }
}

fn container(
    pool: &VideoWorkerPool,
    template: &WorkerTemplate,
    defaults: &WorkerDefaults,
    slots: i32,
) -> Container {
    Container {
        name: WORKER_CONTAINER.to_owned(),
        image: Some(
            template
                .image
                .clone()
                .unwrap_or_else(|| defaults.image.clone()),
        ),
        image_pull_policy: defaults.image_pull_policy.clone(),
        args: Some(args(pool, defaults, slots)),
        env: some(template.env.iter().map(env).collect(), Vec::is_empty),
        ports: Some(vec![ContainerPort {
            name: Some("http".to_owned()),
            container_port: HTTP_PORT,
            ..ContainerPort::default()
        }]),
        liveness_probe: Some(probe("/livez", 10, 6)),
        // Ready means only that the process is up: a ReplicaSet deletes unready pods first.
        readiness_probe: Some(probe("/readyz", 2, 3)),
        resources: Some(resources(template)),
        volume_mounts: Some(mounts(pool)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn args(pool: &VideoWorkerPool, defaults: &WorkerDefaults, slots: i32) -> Vec<String> {
    let spec = &pool.spec;
    let operator = format!(
        "{}.{}.svc:8443",
        names::OPERATOR_SERVICE,
        defaults.operator_namespace
    );
    let protocol = match spec.protocol() {
        Protocol::Grpc | Protocol::Unknown => "Grpc",
        Protocol::Http => "Http",
    };
    let mut args = vec![
        format!("--operator-address={operator}"),
        format!("--token-file={TOKEN_DIR}/token"),
        format!("--ca-file={CA_DIR}/{}", names::DISPATCH_CA_KEY),
        format!("--slots={slots}"),
        format!("--service-protocol={protocol}"),
        format!("--service-endpoint={}", spec.service.endpoint),
        format!("--drain-seconds={}", spec.drain().as_secs()),
        format!("--http-listen=0.0.0.0:{HTTP_PORT}"),
        format!("--log-level={}", defaults.log_level),
    ];
    if let Some(url) = &defaults.otlp_endpoint {
        args.push(format!("--otlp-endpoint={url}"));
    }
    if spec.service.tls_secret_ref.is_some() {
        args.push(format!("--service-tls-dir={SERVICE_TLS_DIR}"));
    }
    if spec.service.token_secret_ref.is_some() {
        args.push(format!("--service-token-file={SERVICE_TOKEN_DIR}/token"));
    }
    args
}

fn env(env: &WorkerEnv) -> EnvVar {
    let secret = env
        .value_from
        .secret_key_ref
        .as_ref()
        .map(|s| SecretKeySelector {
            name: s.name.clone(),
            key: s
                .key
                .clone()
                .unwrap_or_else(|| defaults::TOKEN_KEY.to_owned()),
            optional: None,
        });
    let config = env
        .value_from
        .config_map_key_ref
        .as_ref()
        .map(|c| ConfigMapKeySelector {
            name: c.name.clone(),
            key: c
                .key
                .clone()
                .unwrap_or_else(|| defaults::TOKEN_KEY.to_owned()),
            optional: None,
        });
    let source = EnvVarSource {
        secret_key_ref: secret,
        config_map_key_ref: config,
        ..EnvVarSource::default()
    };
    EnvVar {
        name: env.name.clone(),
        value_from: Some(source),
        value: None,
    }
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    let get = HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::String("http".to_owned()),
        ..HTTPGetAction::default()
    };
    Probe {
        http_get: Some(get),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn resources(template: &WorkerTemplate) -> ResourceRequirements {
    let quantities = |pairs: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Quantity((*value).to_owned())))
            .collect()
    };
    let (requests, limits) = match &template.resources {
        Some(own) => (own.requests.clone(), own.limits.clone()),
        None => (
            quantities(&[("cpu", "20m"), ("memory", "32Mi")]),
            quantities(&[("memory", "256Mi")]),
        ),
    };
    ResourceRequirements {
        requests: some(requests, BTreeMap::is_empty),
        limits: some(limits, BTreeMap::is_empty),
        ..ResourceRequirements::default()
    }
}

fn some<T>(value: T, is_empty: impl Fn(&T) -> bool) -> Option<T> {
    (!is_empty(&value)).then_some(value)
}

fn seconds(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
