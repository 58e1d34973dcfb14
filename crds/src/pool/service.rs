//! The processing service of a pool: address, credentials, and the limits it may be called with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The service that processes the videos.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessingService {
    /// Grpc (when absent): kinora.processing.v1. Http: one POST with the same as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Its address, `http://host:port` or `https://host:port`.
    #[schemars(
        length(min = 8, max = 512),
        regex(pattern = r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")
    )]
    pub endpoint: String,
    /// Address under which service and workers reach the object store; the operator's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 8, max = 512),
        regex(pattern = r"^https?://[^\s/?#@]+/?$")
    )]
    pub store_endpoint: Option<String>,
    /// Secret with `ca.crt`, and `tls.crt` and `tls.key` for a client certificate. Mounted into the workers, never read
    /// by the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_secret_ref: Option<SecretRef>,
    /// Secret with a bearer token for the service. Mounted into the workers, never read by the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
    /// Names of the files a call must produce; each gets a URL to be PUT to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub outputs: Vec<String>,
    /// Seconds after which a call is given up; 600 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: Option<i64>,
    /// What all workers together may ask of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Whether to step below the limits while the service throttles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<Adaptive>,
    /// When to stop calling a service that fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
}

/// How the service is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// gRPC, kinora.processing.v1.
    #[default]
    Grpc,
    /// HTTP with JSON.
    Http,
    /// A word of a newer API; such a pool is not served.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A Secret in the pool's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// An entry of a Secret in the pool's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The entry; `token` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// Limits over all workers of the pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Calls started per second; may be a fraction. No limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    // Exclusive above 0: the API server compares a whole number with the whole part of a minimum such as 0.001.
    #[schemars(range(min = 0.0, max = 100_000.0), extend("exclusiveMinimum" = true))]
    pub rate_per_second: Option<f64>,
    /// Calls that may start at once after a pause; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub burst: Option<i32>,
    /// Calls in flight at a time; 100 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_in_flight: Option<i32>,
}

/// Adaptive limit: down at once when the service throttles, slowly up again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Adaptive {
    /// Whether it is on; true when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Calls in flight that are always allowed; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub min_in_flight: Option<i32>,
}

/// Circuit breaker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Breaker {
    /// Share of failed calls that opens it, above 0 and at most 1; 0.5 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMinimum" = true))]
    pub failure_ratio: Option<f64>,
    /// Calls it must have seen before it opens; 20 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub min_calls: Option<i32>,
    /// Seconds it stays open before it probes; 30 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub open_seconds: Option<i64>,
    /// Calls it lets through as probes; 3 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub probes: Option<i32>,
}
