//! The seam to Kubernetes: create, look at, and cancel VideoJobs. Tests put a map in its place.

mod breaker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use kinora_crds::VideoJob;
use kinora_crds::names::{MANAGER_UPLOADER, tells_full};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use breaker::Breaker;

const TIMEOUT: Duration = Duration::from_secs(10);
/// After a call without an answer the next one is made so much later.
pub const PAUSE: Duration = Duration::from_secs(5);

/// Why Kubernetes did not do it.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Not reachable, overloaded, or no clear answer: try again later.
    #[error("{action}: Kubernetes is away: {cause}")]
    Away {
        /// What was attempted.
        action: String,
        /// What it said.
        cause: String,
    },
    /// It hangs: any other call would wait as long.
    #[error("{action}: no answer from Kubernetes within 10 s")]
    Silent {
        /// What was attempted.
        action: String,
    },
    /// It has no room: a quota of the namespace is used up, or etcd's space. Any other job meets the same.
    #[error("{action}: Kubernetes is full: {cause}")]
    Full {
        /// What was attempted.
        action: String,
        /// What it said.
        cause: String,
    },
    /// It refuses: permissions, admission, or a schema that is too old.
    #[error("{action}: Kubernetes refuses: {cause}")]
    Refused {
        /// What was attempted.
        action: String,
        /// What it said.
        cause: String,
    },
}

impl SinkError {
    /// Whether any other job would meet the same.
    #[must_use]
    pub fn meets_all(&self) -> bool {
        match self {
            Self::Away { .. } | Self::Silent { .. } | Self::Full { .. } => true,
            Self::Refused { .. } => false,
        }
    }
}

/// Where VideoJobs go.
pub trait JobSink: Send + Sync + 'static {
    /// Creates the job; one that is there already for the same upload is success.
    fn create<'a>(&'a self, job: &'a VideoJob) -> BoxFuture<'a, Result<(), SinkError>>;
    /// The job of this name.
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<VideoJob>, SinkError>>;
    /// Asks for its end; false if there is no such job.
    fn cancel<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, SinkError>>;
}

/// The VideoJobs of a replica. While the sink hangs, those who have a client to answer are told at once that it is away.
pub struct Jobs {
    sink: Arc<dyn JobSink>,
    creates: Breaker,
    gets: Breaker,
}

impl From<Arc<dyn JobSink>> for Jobs {
    fn from(sink: Arc<dyn JobSink>) -> Self {
        Self::pausing(sink, PAUSE)
    }
}

impl Jobs {
    /// Jobs of a sink that is left alone for `pause` after a call without an answer.
    #[must_use]
    pub fn pausing(sink: Arc<dyn JobSink>, pause: Duration) -> Self {
        Self {
            sink,
            creates: Breaker::new(pause),
            gets: Breaker::new(pause),
        }
    }

    /// As [`JobSink::create`].
    ///
    /// # Errors
    /// Also when it was not asked, as it does not answer.
    pub async fn create(&self, job: &VideoJob) -> Result<(), SinkError> {
        if !self.creates.lets_through(Instant::now()) {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            return Err(hangs(format!("create VideoJob {name}")));
        }
        self.create_patiently(job).await
    }

    /// The same for those who can wait: the sink is asked in any case.
    ///
    /// # Errors
    /// As [`JobSink::create`].
    pub async fn create_patiently(&self, job: &VideoJob) -> Result<(), SinkError> {
        let done = self.sink.create(job).await;
        // What is written and what is read go through the same etcd; but an answer to a read says nothing about writes.
        noted(&[&self.creates, &self.gets], done)
    }

    /// As [`JobSink::get`].
    ///
    /// # Errors
    /// Also when it was not asked, as it does not answer.
    pub async fn get(&self, name: &str) -> Result<Option<VideoJob>, SinkError> {
        if !self.gets.lets_through(Instant::now()) {
            return Err(hangs(format!("get VideoJob {name}")));
        }
        noted(&[&self.gets], self.sink.get(name).await)
    }

    /// As [`JobSink::cancel`].
    ///
    /// # Errors
    /// As it says.
    pub async fn cancel(&self, name: &str) -> Result<bool, SinkError> {
        self.sink.cancel(name).await
    }
}

fn hangs(action: String) -> SinkError {
    SinkError::Away {
        action,
        cause: "it did not answer a moment ago".into(),
    }
}

fn noted<T>(breakers: &[&Breaker], done: Result<T, SinkError>) -> Result<T, SinkError> {
    let is_silent = matches!(done, Err(SinkError::Silent { .. }));
    for breaker in breakers {
        match is_silent {
            true => breaker.open(Instant::now()),
            false => breaker.close(),
        }
    }
    done
}

/// VideoJobs of one namespace of a real cluster.
#[derive(Clone)]
pub struct KubeSink {
    api: Api<VideoJob>,
}

impl KubeSink {
    /// Jobs of `namespace`. Nothing is sent yet.
    #[must_use]
    pub fn new(client: kube::Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
        }
    }

    async fn created(&self, job: &VideoJob) -> Result<(), SinkError> {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let action = format!("create VideoJob {name}");
        let params = PostParams {
            field_manager: Some(MANAGER_UPLOADER.into()),
            ..PostParams::default()
        };
        match limited(&action, self.api.create(&params, job)).await {
            Ok(_) => Ok(()),
            Err(Failure::Status(409)) => self.same_upload(job, name, action).await,
            Err(failure) => Err(failure.into_error(action)),
        }
    }

    /// AlreadyExists is success only for the same upload.
    async fn same_upload(
        &self,
        job: &VideoJob,
        name: &str,
        action: String,
    ) -> Result<(), SinkError> {
        let Some(there) = self.found(name).await? else {
            // It has come and gone between the two calls.
            return Err(SinkError::Away {
                action,
                cause: "it was there and is gone".into(),
            });
        };
        if there.is_upload() && there.spec.source.key == job.spec.source.key {
            return Ok(());
        }
        Err(SinkError::Refused {
            action,
            cause: "its name is taken by another job".into(),
        })
    }

    async fn found(&self, name: &str) -> Result<Option<VideoJob>, SinkError> {
        let action = format!("get VideoJob {name}");
        limited(&action, self.api.get_opt(name))
            .await
            .map_err(|failure| failure.into_error(action))
    }

    async fn cancelled(&self, name: &str) -> Result<bool, SinkError> {
        let action = format!("cancel VideoJob {name}");
        let params = PatchParams {
            field_manager: Some(MANAGER_UPLOADER.into()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({"spec": {"cancelRequested": true}}));
        match limited(&action, self.api.patch(name, &params, &patch)).await {
            Ok(_) => Ok(true),
            Err(Failure::Status(404)) => Ok(false),
            Err(failure) => Err(failure.into_error(action)),
        }
    }
}

impl JobSink for KubeSink {
    fn create<'a>(&'a self, job: &'a VideoJob) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.created(job))
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<VideoJob>, SinkError>> {
        Box::pin(self.found(name))
    }

    fn cancel<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, SinkError>> {
        Box::pin(self.cancelled(name))
    }
}

enum Failure {
    /// An answer that callers decide by.
    Status(u16),
    Refused(String),
    Full(String),
    Away(String),
    Silent,
}

impl Failure {
    fn into_error(self, action: String) -> SinkError {
        match self {
            Self::Status(code) => SinkError::Refused {
                action,
                cause: format!("status {code}"),
            },
            Self::Refused(cause) => SinkError::Refused { action, cause },
            Self::Full(cause) => SinkError::Full { action, cause },
            Self::Away(cause) => SinkError::Away { action, cause },
            Self::Silent => SinkError::Silent { action },
        }
    }
}

async fn limited<T>(
    action: &str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(TIMEOUT, call).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(kube::Error::Api(status))) => Err(match status.code {
            _ if tells_full(&status.message) => Failure::Full(status.message),
            409 if status.reason == "AlreadyExists" => Failure::Status(409),
            // A 404 to a create is a missing namespace or CRD, not a missing job.
            404 if !action.starts_with("create") => Failure::Status(404),
            400..=428 | 430..=499 => Failure::Refused(status.message),
            _ => Failure::Away(status.message),
        }),
        Ok(Err(error)) => Err(Failure::Away(error.to_string())),
        Err(_) => Err(Failure::Silent),
    }
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
