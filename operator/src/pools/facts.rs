//! What a VideoWorkerPool's spec means to the core, and whether it can be served at all. Pure.

use std::time::Duration;

use kinora_crds::conditions::reason;
use kinora_crds::{Execution, Protocol, VideoWorkerPool, VideoWorkerPoolSpec};
use kube::ResourceExt;

use crate::ports::{PoolFacts, PoolKey, TenantFacts};

/// Why a pool is not served: reason and message of its Stalled condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Reason, a constant of the API.
    pub reason: &'static str,
    /// For people: what is wrong and what to do.
    pub message: String,
}

/// Key of a pool.
pub fn key(pool: &VideoWorkerPool) -> PoolKey {
    PoolKey {
        namespace: pool.namespace().unwrap_or_default(),
        name: pool.name_any(),
    }
}

/// The core's view of a pool. One that cannot be served takes no claims.
pub fn facts(pool: &VideoWorkerPool, reserved_secrets: &[String]) -> PoolFacts {
    let spec = &pool.spec;
    let created = pool.metadata.creation_timestamp.as_ref();
    PoolFacts {
        service: service(spec),
        is_default: spec.is_default(),
        created_ms: created.map_or(i64::MAX, |time| time.0.as_millisecond()),
        suspended: spec.is_suspended() || problem(spec, reserved_secrets).is_some(),
        timeout_ms: millis(spec.call_timeout()),
        slots: count(spec.slots_per_worker()),
        outputs: spec.service.outputs.clone(),
        store_endpoint: spec.service.store_endpoint.clone(),
        rate_per_second: spec.rate_per_second(),
        burst: count(spec.burst()),
        max_in_flight: Some(calls_at_once(spec)),
        max_failures: count(spec.max_failures()),
        interruption_limit: count(spec.interruption_limit()),
        backoff_base_ms: millis(spec.backoff_base()),
        backoff_cap_ms: millis(spec.backoff_max()),
        dead_letter_ttl_ms: millis(spec.dead_letter_retention()),
        report_progress: spec.report_progress.unwrap_or(false),
        pod_start_ms: makes_pods(spec).then(|| millis(spec.pod_start_deadline())),
        adaptive: spec.is_adaptive(),
        min_in_flight: count(spec.min_in_flight()),
        breaker_ratio: spec.breaker_failure_ratio(),
        breaker_min_calls: count(spec.breaker_min_calls()),
        breaker_open_ms: millis(spec.breaker_open()),
        breaker_probes: count(spec.breaker_probes()),
        default_weight: count(spec.default_weight()),
        aging_ms: millis(spec.aging()),
        tenants: tenants(spec),
    }
}

/// What other words here call another service, or the same one as somebody else.
fn service(spec: &VideoWorkerPoolSpec) -> String {
    let secret = |name: Option<&String>| name.cloned().unwrap_or_default();
    let token = spec.service.token_secret_ref.as_ref().map(|s| &s.name);
    let ca = spec.service.tls_secret_ref.as_ref().map(|s| &s.name);
    let (token, ca) = (secret(token), secret(ca));
    format!(
        "{:?} {} {token} {ca}",
        spec.protocol(),
        spec.service.endpoint
    )
}

fn tenants(spec: &VideoWorkerPoolSpec) -> Vec<TenantFacts> {
    let listed = spec.fairness.iter().flat_map(|f| &f.tenants);
    let share = |tenant: &kinora_crds::TenantShare| TenantFacts {
        name: tenant.name.clone(),
        weight: count(tenant.weight.unwrap_or_else(|| spec.default_weight())),
        max_in_flight: tenant.max_in_flight.map(count),
    };
    listed.map(share).collect()
}

/// Why this spec cannot be served, if it cannot.
pub fn problem(spec: &VideoWorkerPoolSpec, reserved_secrets: &[String]) -> Option<Problem> {
    let invalid = |message: String| {
        Some(Problem {
            reason: reason::INVALID_SPEC,
            message,
        })
    };
    match spec.execution() {
        Execution::Leased | Execution::PodPerAttempt => {}
        Execution::Unknown => {
            return invalid(
                "execution is a word that this version does not know; use Leased or PodPerAttempt"
                    .to_owned(),
            );
        }
    }
    match spec.protocol() {
        Protocol::Grpc if has_path(&spec.service.endpoint) => {
            return invalid(
                "service.endpoint has a path, which only protocol Http knows; give scheme, host and port".to_owned(),
            );
        }
        Protocol::Grpc | Protocol::Http => {}
        Protocol::Unknown => {
            return invalid(
                "service.protocol is a word that this version does not know; use Grpc or Http"
                    .to_owned(),
            );
        }
    }
    if spec.service.endpoint.starts_with("https://") != spec.service.tls_secret_ref.is_some() {
        return invalid(
            "service.tlsSecretRef belongs to an https:// endpoint, and an https:// endpoint needs it: name a Secret with ca.crt"
                .to_owned(),
        );
    }
    let named = secrets(spec)
        .into_iter()
        .find(|(_, name)| reserved_secrets.contains(name));
    named.and_then(|(field, name)| {
        invalid(format!("{field} names Secret {name}, which is Kinora's own and is never given to workers; name another"))
    })
}

/// Whether each attempt has a pod of its own.
pub fn makes_pods(spec: &VideoWorkerPoolSpec) -> bool {
    spec.execution() == Execution::PodPerAttempt
}

/// What the service takes; where each call is a pod, also what the pool may have of pods.
fn calls_at_once(spec: &VideoWorkerPoolSpec) -> u32 {
    let calls = count(spec.max_in_flight());
    match makes_pods(spec) {
        true => calls.min(count(spec.max_replicas())),
        false => calls,
    }
}

/// Whether more than `/` follows host and port.
fn has_path(endpoint: &str) -> bool {
    let rest = endpoint
        .split_once("://")
        .map_or(endpoint, |(_, rest)| rest);
    rest.split_once('/')
        .is_some_and(|(_, path)| !path.is_empty())
}

/// Every Secret that the spec names, with its field.
fn secrets(spec: &VideoWorkerPoolSpec) -> Vec<(&'static str, String)> {
    let mut named = Vec::new();
    let service = &spec.service;
    named.extend(
        service
            .tls_secret_ref
            .iter()
            .map(|s| ("service.tlsSecretRef", s.name.clone())),
    );
    named.extend(
        service
            .token_secret_ref
            .iter()
            .map(|s| ("service.tokenSecretRef", s.name.clone())),
    );
    if let Some(template) = &spec.template {
        let env = template
            .env
            .iter()
            .filter_map(|env| env.value_from.secret_key_ref.as_ref());
        named.extend(env.map(|s| ("template.env", s.name.clone())));
        named.extend(
            template
                .image_pull_secrets
                .iter()
                .map(|s| ("template.imagePullSecrets", s.name.clone())),
        );
    }
    named
}

fn count(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pool(spec: &Value) -> VideoWorkerPool {
        serde_json::from_value(json!({
            "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoWorkerPool",
            "metadata": {"name": "default", "namespace": "videos", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn a_pool_that_cannot_be_served_says_which_field_and_takes_no_claims() {
        let own = ["kinora-store".to_owned()];
        let with = |extra: &Value| {
            let mut spec = json!({"service": {"endpoint": "http://svc:50051"}});
            for (key, value) in extra.as_object().unwrap() {
                spec[key] = value.clone();
            }
            pool(&spec)
        };
        let endpoint = "http://svc:50051";
        let table = [
            ("a plain pool", json!({}), None),
            (
                "pod per attempt",
                json!({"execution": "PodPerAttempt"}),
                None,
            ),
            (
                "a newer word",
                json!({"execution": "Moonshot"}),
                Some("does not know"),
            ),
            (
                "HTTP with a path",
                json!({"service": {"endpoint": "http://svc:80/v1/process", "protocol": "Http"}}),
                None,
            ),
            (
                "gRPC with a path",
                json!({"service": {"endpoint": "http://svc:80/v1/process"}}),
                Some("has a path"),
            ),
            (
                "gRPC with a slash",
                json!({"service": {"endpoint": "http://svc:80/"}}),
                None,
            ),
            (
                "TLS without a CA",
                json!({"service": {"endpoint": "https://svc:443"}}),
                Some("tlsSecretRef"),
            ),
            (
                "a CA without TLS",
                json!({"service": {"endpoint": endpoint, "tlsSecretRef": {"name": "svc-tls"}}}),
                Some("tlsSecretRef"),
            ),
            (
                "a TLS secret",
                json!({"service": {"endpoint": "https://svc:443", "tlsSecretRef": {"name": "kinora-store"}}}),
                Some("tlsSecretRef"),
            ),
            (
                "a token secret",
                json!({"service": {"endpoint": endpoint, "tokenSecretRef": {"name": "kinora-store"}}}),
                Some("tokenSecretRef"),
            ),
            (
                "an environment variable",
                json!({"template": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "kinora-store"}}}]}}),
                Some("template.env"),
            ),
            (
                "a pull secret",
                json!({"template": {"imagePullSecrets": [{"name": "kinora-store"}]}}),
                Some("imagePullSecrets"),
            ),
            (
                "a secret of its own",
                json!({"template": {"imagePullSecrets": [{"name": "regcred"}]}}),
                None,
            ),
        ];
        for (name, extra, want) in table {
            let pool = with(&extra);
            let got = problem(&pool.spec, &own);
            assert_eq!(got.is_some(), want.is_some(), "{name}: {got:?}");
            assert_eq!(facts(&pool, &own).suspended, want.is_some(), "{name}");
            if let (Some(problem), Some(word)) = (got, want) {
                assert!(
                    problem.message.contains(word),
                    "{name}: {}",
                    problem.message
                );
            }
        }
    }

    #[test]
    fn absent_fields_mean_the_documented_defaults() {
        let facts = facts(
            &pool(&json!({"service": {"endpoint": "http://svc:1", "outputs": ["video"]}})),
            &[],
        );
        let want = PoolFacts {
            service: "Grpc http://svc:1  ".to_owned(),
            is_default: false,
            created_ms: 1_767_225_600_000,
            suspended: false,
            timeout_ms: 600_000,
            slots: 1,
            outputs: vec!["video".to_owned()],
            store_endpoint: None,
            rate_per_second: None,
            burst: 1,
            max_in_flight: Some(100),
            max_failures: 5,
            interruption_limit: 20,
            backoff_base_ms: 10_000,
            backoff_cap_ms: 600_000,
            dead_letter_ttl_ms: 1_209_600_000,
            report_progress: false,
            pod_start_ms: None,
            adaptive: true,
            min_in_flight: 1,
            breaker_ratio: 0.5,
            breaker_min_calls: 20,
            breaker_open_ms: 30_000,
            breaker_probes: 3,
            default_weight: 1,
            aging_ms: 900_000,
            tenants: Vec::new(),
        };
        assert_eq!(facts, want);
    }

    #[test]
    fn a_pool_with_a_pod_for_each_attempt_has_no_more_calls_than_pods() {
        let spec = json!({
            "execution": "PodPerAttempt", "podStartDeadlineSeconds": 60, "scaling": {"maxReplicas": 3},
            "service": {"endpoint": "http://svc:1", "limits": {"maxInFlight": 50}},
        });
        let facts = facts(&pool(&spec), &[]);
        assert_eq!(
            (facts.pod_start_ms, facts.max_in_flight),
            (Some(60_000), Some(3))
        );
    }
}
