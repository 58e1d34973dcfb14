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
        let authority = load(client, namespace, None, now).await?;
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

    /// Another look at the Secret: what is held goes back if it was emptied, for instance by a new install.
    async fn pass(&mut self, now: Timestamp) -> Result<(), TlsError> {
        let authority = load(&self.client, &self.namespace, Some(&self.authority), now).await?;
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kinora_crds::names;
    use serde_json::{Value, json};

    use super::*;
    use crate::stub;

    /// An API server with this one object, which it patches, and refuses to patch by what is outdated.
    fn client(secret: &Arc<Mutex<Value>>) -> Client {
        let secret = Arc::clone(secret);
        stub::client(move |_, patch| {
            let mut secret = secret.lock().unwrap();
            if secret.is_null() {
                return stub::missing();
            }
            if let Value::Object(data) = &patch["data"] {
                let version = secret["metadata"]["resourceVersion"].clone();
                if patch["metadata"]["resourceVersion"] != version {
                    return (
                        409,
                        json!({"kind": "Status", "code": 409, "reason": "Conflict"}),
                    );
                }
                let entries = data.iter().filter(|(_, value)| !value.is_null());
                secret["data"] = entries.map(|(k, v)| (k.clone(), v.clone())).collect();
                secret["metadata"] = shipped(&format!("{version}+"))["metadata"].take();
            }
            (200, secret.clone())
        })
    }

    /// As the chart ships it.
    fn shipped(version: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": names::DISPATCH_CA, "resourceVersion": version},
        })
    }

    #[tokio::test]
    async fn a_secret_that_was_emptied_gets_back_what_this_replica_holds() {
        let secret = Arc::new(Mutex::new(shipped("1")));
        let client = client(&secret);
        let mut keeper = Keeper::start(&client, "kinora-system").await.unwrap();
        let before = secret.lock().unwrap()["data"].clone();
        assert!(before["attempt.key"].is_string(), "{before}");

        *secret.lock().unwrap() = Value::Null;
        keeper.pass(Timestamp::now()).await.unwrap_err();
        assert!(secret.lock().unwrap().is_null(), "the chart makes it");

        *secret.lock().unwrap() = shipped("7");
        let bundle = keeper.bundle();
        keeper.pass(Timestamp::now()).await.unwrap();
        assert_eq!(secret.lock().unwrap()["data"], before);
        assert!(
            !bundle.has_changed().unwrap(),
            "workers trust what they did"
        );
    }

    #[tokio::test]
    async fn what_another_replica_stored_counts_more_than_what_is_held() {
        let secret = Arc::new(Mutex::new(shipped("1")));
        let client = client(&secret);
        let mut keeper = Keeper::start(&client, "kinora-system").await.unwrap();
        *secret.lock().unwrap() = shipped("7");
        let other = Keeper::start(&client, "kinora-system").await.unwrap();
        let theirs = secret.lock().unwrap().clone();
        keeper.pass(Timestamp::now()).await.unwrap();
        assert_eq!(*secret.lock().unwrap(), theirs);
        assert_eq!(keeper.attempt_key(), other.attempt_key());
    }
}
