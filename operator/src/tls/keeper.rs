//! Keeps what is served and what is published fresh: reads the Secret again and again, takes the steps that are due, signs
//! this replica another certificate in time. Every replica does; compare-and-swap lets one of them win each step.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;

use super::accept::Certificates;
use super::rotation::serving_is_old;
use super::store::load;
use super::{Authority, TlsError};

/// A step of the CA has a day; a kubelet takes minutes to show it.
const PERIOD: Duration = Duration::from_secs(600);
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// One replica's part of dispatch TLS.
pub struct Keeper {
    client: Client,
    namespace: String,
    authority: Authority,
    signed_at: Timestamp,
    certificates: Certificates,
    bundle: watch::Sender<String>,
}

impl Keeper {
    /// Reads the CA, made if need be, and signs the first certificate.
    ///
    /// # Errors
    /// [`TlsError`]; [`TlsError::LostRace`] is answered by calling again.
    pub async fn start(client: &Client, namespace: &str) -> Result<Keeper, TlsError> {
        let now = Timestamp::now();
        let authority = load(client, namespace, now).await?;
        let certificates = Certificates::new(&authority.serving(namespace, now)?)?;
        Ok(Keeper {
            bundle: watch::channel(authority.bundle()).0,
            client: client.clone(),
            namespace: namespace.to_owned(),
            authority,
            signed_at: now,
            certificates,
        })
    }

    /// What to serve with; follows every renewal.
    pub fn certificates(&self) -> Certificates {
        self.certificates.clone()
    }

    /// What workers have to trust, PEM; follows every step.
    pub fn bundle(&self) -> watch::Receiver<String> {
        self.bundle.subscribe()
    }

    /// Key with which the pods of attempts are marked.
    pub fn attempt_key(&self) -> Vec<u8> {
        self.authority.attempt_key().to_vec()
    }

    /// Runs until the process ends.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            while let Err(error) = self.pass(Timestamp::now()).await {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "keep dispatch TLS: trying again");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }

    async fn pass(&mut self, now: Timestamp) -> Result<(), TlsError> {
        let authority = load(&self.client, &self.namespace, now).await?;
        let same_ca = authority.current.certificate == self.authority.current.certificate;
        self.authority = authority;
        if !same_ca || serving_is_old(self.signed_at, now) {
            let serving = self.authority.serving(&self.namespace, now)?;
            self.certificates.replace(&serving)?;
            self.signed_at = now;
            tracing::info!("signed another certificate for dispatch");
        }
        let bundle = self.authority.bundle();
        self.bundle.send_if_modified(|known| {
            let changed = *known != bundle;
            if changed {
                *known = bundle;
            }
            changed
        });
        Ok(())
    }
}
