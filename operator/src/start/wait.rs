//! Waiting for what a start needs: says what is missing, in the log and at /readyz, and tries until it is there.

use std::time::{Duration, Instant};

use kinora_storage::{Store, StoreArgs};
use kube::Client;
use tokio::sync::watch;

use crate::core::Admission;
use crate::http::Readiness;
use crate::tls::{TlsError, keeper::Keeper};

const PAUSE: Duration = Duration::from_secs(2);
/// A store that does not answer is no reason to leave the cluster without an operator for longer than this; one that
/// answers with a refusal is: bucket or credentials are wrong.
const STORE_PATIENCE: Duration = Duration::from_secs(15);

/// The dispatch CA, made if need be.
pub(super) async fn for_ca(
    client: &Client,
    namespace: &str,
    ready: &watch::Sender<Readiness>,
) -> Keeper {
    loop {
        match Keeper::start(client, namespace).await {
            Ok(keeper) => return keeper,
            Err(TlsError::LostRace) => {}
            Err(error) => {
                let text = with_causes(&error);
                tracing::error!(error = text, "waits for the dispatch CA");
                ready.send_replace(Some(format!("waits for the dispatch CA: {text}")));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A store that answers, or a store that is only unreachable and has been for a while.
pub(super) async fn for_store(args: &StoreArgs, ready: &watch::Sender<Readiness>) {
    let began = Instant::now();
    loop {
        match Store::connect(args).await {
            Ok(_) => return,
            Err(error) if error.is_retryable() && began.elapsed() >= STORE_PATIENCE => {
                tracing::error!(%error, "the store is away: starting without it, jobs wait until it is back");
                return;
            }
            Err(error) => {
                tracing::error!(%error, kind = error.kind.label(), "waits for the store");
                ready.send_replace(Some(format!("waits for the store: {error}")));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Ready once jobs and pools were listed; from then on admission is answered too.
pub(super) async fn for_listing(
    mut synced: watch::Receiver<bool>,
    mut admission: watch::Receiver<Admission>,
    ready: watch::Sender<Readiness>,
    counted: watch::Sender<Option<Admission>>,
) {
    ready.send_replace(Some(
        "waits for the first listing of jobs and pools; are the CRDs installed?".to_owned(),
    ));
    if synced.wait_for(|synced| *synced).await.is_err() {
        return;
    }
    tracing::info!("ready");
    ready.send_replace(None);
    loop {
        let now = *admission.borrow_and_update();
        counted.send_replace(Some(now));
        if admission.changed().await.is_err() {
            return;
        }
    }
}

/// An error with what is behind it, on one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
