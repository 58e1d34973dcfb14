//! The Kubernetes API of Kinora, `kinora.dev/v1alpha1`: three kinds, their conditions, and the names every other
//! crate must agree on. Types only: nothing here talks to an API server, reads a clock or decides anything.
//!
//! [`definitions`] gives the CustomResourceDefinitions; `crdgen` writes them to `generated/`. The types read whatever
//! an API server sends (unknown fields are ignored) and write only what is set.

pub mod cel_cases;
pub mod conditions;
pub mod events;
pub mod job;
pub mod names;
pub mod pool;
pub mod redrive;
mod schema;
pub mod state;

pub use job::{
    Failure, JobSource, Output, PoolRef, Progress, VideoJob, VideoJobSpec, VideoJobStatus,
    WorkerRef,
};
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
pub use pool::{
    Adaptive, Breaker, Execution, Fairness, Limits, PoolRetention, ProcessingService, Protocol,
    Retry, Scaling, ScalingMode, SecretKeyRef, SecretRef, TenantShare, VideoWorkerPool,
    VideoWorkerPoolSpec, VideoWorkerPoolStatus, WorkerEnv, WorkerEnvSource, WorkerResources,
    WorkerTemplate,
};
pub use redrive::{VideoJobRedrive, VideoJobRedriveSpec, VideoJobRedriveStatus};
pub use schema::{Definition, DefinitionError, definitions};
