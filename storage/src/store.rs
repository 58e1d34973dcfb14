//! The handle everybody holds, and how one call is made: a time limit for each attempt, a class for each failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::args::StoreArgs;
use crate::client;
use crate::clock::StoreClock;
use crate::credentials::FileCredentials;
use crate::error::{StoreError, StoreErrorKind, Target};
use crate::observe::{Action, Observer};
use crate::presign::Presigner;
use crate::resolve::LastGood;
use crate::retry::{self, RetryBudget};
use crate::trust::Connections;
use tracing::Instrument as _;

/// The bucket of this cell. Clones are cheap and share connections, clock and retry budget.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    presigner: Arc<Presigner>,
    observer: Option<Arc<dyn Observer>>,
}

struct Inner {
    client: Client,
    target: Target,
    clock: StoreClock,
    budget: RetryBudget,
    short: Duration,
    tls: bool,
    connections: Connections,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Target { endpoint, bucket } = &self.inner.target;
        f.debug_struct("Store")
            .field("endpoint", endpoint)
            .field("bucket", bucket)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Reads flags and credentials and asks the store once, so that a wrong endpoint, bucket or key is found here.
    ///
    /// # Errors
    /// With a message that names the flag to check; `is_retryable` if waiting may help.
    pub async fn connect(args: &StoreArgs) -> Result<Self, StoreError> {
        let store = Self::new(args)?;
        // No object of this name exists; the answer tells bucket and credentials apart, which HEAD cannot.
        match store.ask_once().await {
            Ok(()) => Ok(store),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(store),
            Err(mut error) => {
                error.action = format!("connect to the store at {}", args.store_endpoint);
                Err(error)
            }
        }
    }

    /// As `connect` without asking the store.
    ///
    /// # Errors
    /// If a flag or a credential file is wrong.
    pub fn new(args: &StoreArgs) -> Result<Self, StoreError> {
        Self::resolving(args, LastGood::system())
    }

    /// As `new`, with other name servers than the system's.
    ///
    /// # Errors
    /// As those of `new`.
    #[cfg(feature = "testing")]
    pub fn with_names(
        args: &StoreArgs,
        lookup: crate::resolve::Lookup,
    ) -> Result<Self, StoreError> {
        Self::resolving(args, LastGood::over(lookup))
    }

    fn resolving(args: &StoreArgs, names: LastGood) -> Result<Self, StoreError> {
        let clock = StoreClock::new();
        let endpoint = client::endpoint(&args.store_endpoint, "--store-endpoint")?;
        let https = endpoint.scheme() == "https";
        let credentials = Arc::new(FileCredentials::new(&args.store_credentials_dir));
        credentials.load()?;
        let connections = Connections::new(https, args.store_ca_file.as_deref(), names)?;
        let config = client::base(args, &clock, connections.clone(), Arc::clone(&credentials));
        let presign_url = args
            .store_presign_endpoint
            .as_deref()
            .unwrap_or(&args.store_endpoint);
        let presigner = Presigner::new(presign_url, &args.store_region, credentials)?;
        let target = Target {
            endpoint: args.store_endpoint.clone(),
            bucket: args.store_bucket.clone(),
        };
        let inner = Inner {
            client: Client::from_conf(config),
            target,
            clock,
            budget: RetryBudget::new(),
            short: Duration::from_secs(args.store_timeout_seconds),
            tls: https,
            connections,
        };
        Ok(Self {
            inner: Arc::new(inner),
            presigner: Arc::new(presigner),
            observer: None,
        })
    }

    /// The same store; every call over this handle and its clones is told to `observer`.
    #[must_use]
    pub fn observed(self, observer: Arc<dyn Observer>) -> Self {
        Self {
            observer: Some(observer),
            ..self
        }
    }

    /// The same store, presigning for another endpoint (a pool's `service.storeEndpoint`).
    ///
    /// # Errors
    /// `Invalid` if the URL is more than scheme and host.
    pub fn with_presign_endpoint(&self, url: &str) -> Result<Self, StoreError> {
        let presigner = self.presigner.for_host(url)?;
        Ok(Self {
            inner: Arc::clone(&self.inner),
            presigner: Arc::new(presigner),
            observer: self.observer.clone(),
        })
    }

    /// Name of the bucket.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.inner.target.bucket
    }

    /// URL of the store for own calls.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.inner.target.endpoint
    }

    /// Store minus local clock in whole seconds, by the `Date` of the last answer; None before the first.
    #[must_use]
    pub fn store_time(&self) -> Option<i64> {
        self.inner.clock.skew_seconds()
    }

    /// What the store's clock shows now, as far as its last answer tells; the local clock before the first.
    #[must_use]
    pub fn now(&self) -> jiff::Timestamp {
        let skew = jiff::SignedDuration::from_secs(self.store_time().unwrap_or(0));
        let local = jiff::Timestamp::now();
        local.checked_add(skew).unwrap_or(local)
    }

    async fn ask_once(&self) -> Result<(), StoreError> {
        self.get_bounded(&format!("{}absent", crate::keys::SELF_TEST), 1024)
            .await
            .map(|_| ())
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    pub(crate) fn presigner(&self) -> &Presigner {
        &self.presigner
    }

    /// Over TLS no payload is hashed for its signature; the CRC protects it.
    pub(crate) fn is_tls(&self) -> bool {
        self.inner.tls
    }

    /// Limit of a call that carries little.
    pub(crate) fn short(&self) -> Duration {
        self.inner.short
    }

    /// Limit of a call that carries a part, or makes the store assemble an object.
    pub(crate) fn long(&self) -> Duration {
        self.inner.short * 2
    }

    pub(crate) fn classify<E>(&self, action: &str, error: SdkError<E>) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        self.inner.target.classify(action, error)
    }

    /// One attempt under a time limit.
    pub(crate) fn once<'a, T: 'a>(
        &'a self,
        action: &'a Action,
        limit: Duration,
        call: impl Future<Output = Result<T, StoreError>> + 'a,
    ) -> impl Future<Output = Result<T, StoreError>> + 'a {
        let begun = Instant::now();
        let span = tracing::debug_span!(
            "store",
            otel.name = action.call.word(),
            otel.kind = "client"
        );
        // Not in the state of this future: the client's own is large, and a request that only waits for its body would
        // hold room for all the calls that may follow.
        let call = Box::pin(call.instrument(span));
        async move {
            let done = match tokio::time::timeout(limit, call).await {
                Ok(done) => done,
                Err(_) => {
                    self.inner.connections.are_silent();
                    Err(self.inner.target.timed_out(action, limit.as_secs_f64()))
                }
            };
            if done.is_ok() {
                self.inner.budget.earn();
            }
            if let Some(observer) = &self.observer {
                let ended = done.as_ref().map(|_| ()).map_err(|error| error.kind);
                observer.observed(action.call, ended, begun.elapsed());
            }
            done
        }
    }

    /// Several attempts of an idempotent, unconditional call, each under the limit.
    pub(crate) async fn retrying<T, F>(
        &self,
        action: &Action,
        limit: Duration,
        call: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut retry = 0;
        loop {
            let error = match self.once(action, limit, call()).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            retry += 1;
            if retry >= retry::ATTEMPTS || !error.is_retryable() || !self.inner.budget.spend() {
                return Err(error);
            }
            tracing::debug!(
                %action,
                kind = error.kind.label(),
                retry,
                "retrying a call to the store"
            );
            tokio::time::sleep(retry::delay(retry, rand::random())).await;
        }
    }
}
