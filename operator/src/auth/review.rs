//! Asks the API server whose token it is, a bounded number of times at once, and about one pod once at a time. Answers are
//! kept by the token's hash, so a reconnecting fleet does not become a storm of reviews: good ones for a minute, refusals for
//! 10 s and apart, so that forged tokens push no good answer out. Errors are never kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kinora_crds::names;
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::core::seams::AuthError;

const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);
const GOOD_FOR: Duration = Duration::from_secs(60);
const REFUSED_FOR: Duration = Duration::from_secs(10);
const KEPT: usize = 4096;
/// Reviews at once; each is a connection to the API server.
pub(super) const AT_ONCE: usize = 64;
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// The pod that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reviewed {
    pub(super) namespace: String,
    pub(super) pod_name: String,
    pub(super) pod_uid: String,
}

type Hash = [u8; 32];

/// TokenReviews with a short memory.
pub(super) struct Reviews {
    api: Api<TokenReview>,
    kept: Mutex<Kept>,
    places: Semaphore,
}

#[derive(Default)]
struct Kept {
    good: HashMap<Hash, (Reviewed, Instant)>,
    refused: HashMap<Hash, (String, Instant)>,
    /// Held while one is asked about, by the uid of the pod that its token claims.
    turns: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
}

impl Reviews {
    pub(super) fn new(client: Client) -> Self {
        Self {
            api: Api::all(client),
            kept: Mutex::default(),
            places: Semaphore::new(AT_ONCE),
        }
    }

    /// The pod of a token. `claimed_uid`: the pod's by the token's own word.
    pub(super) async fn review(
        &self,
        token: &str,
        claimed_uid: &str,
    ) -> Result<Reviewed, AuthError> {
        let hash: Hash = Sha256::digest(token.as_bytes()).into();
        if let Some(verdict) = self.kept().verdict(&hash) {
            return verdict;
        }
        let turn = self.kept().turn(claimed_uid);
        let _turn = turn.lock().await;
        // Whoever had the turn before may have asked about the same token.
        if let Some(verdict) = self.kept().verdict(&hash) {
            return verdict;
        }
        let Ok(_place) = self.places.acquire().await else {
            return Err(AuthError::Unavailable("no reviews any more".to_owned()));
        };
        let verdict = judge(self.ask(token).await?);
        self.kept().keep(hash, &verdict);
        verdict
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, token: &str) -> Result<TokenReviewStatus, AuthError> {
        let spec = TokenReviewSpec {
            token: Some(token.to_owned()),
            audiences: Some(vec![names::DISPATCH_AUDIENCE.to_owned()]),
        };
        let review = TokenReview {
            spec,
            ..TokenReview::default()
        };
        let params = PostParams::default();
        match tokio::time::timeout(REVIEW_TIMEOUT, self.api.create(&params, &review)).await {
            Err(_) => Err(AuthError::Unavailable(
                "review the token: no answer in time".to_owned(),
            )),
            Ok(Err(error)) => Err(AuthError::Unavailable(format!("review the token: {error}"))),
            Ok(Ok(review)) => Ok(review.status.unwrap_or_default()),
        }
    }
}

impl Kept {
    /// The last answer, while it is believed.
    fn verdict(&self, hash: &Hash) -> Option<Result<Reviewed, AuthError>> {
        let now = Instant::now();
        let good = self.good.get(hash).filter(|(_, until)| now < *until);
        let refused = self.refused.get(hash).filter(|(_, until)| now < *until);
        match (good, refused) {
            (Some((reviewed, _)), _) => Some(Ok(reviewed.clone())),
            (None, Some((why, _))) => Some(Err(AuthError::Refused(why.clone()))),
            (None, None) => None,
        }
    }

    fn keep(&mut self, hash: Hash, verdict: &Result<Reviewed, AuthError>) {
        match verdict {
            Ok(reviewed) => remember(&mut self.good, hash, reviewed.clone(), GOOD_FOR),
            Err(AuthError::Refused(why)) => {
                remember(&mut self.refused, hash, why.clone(), REFUSED_FOR);
            }
            Err(AuthError::Unavailable(_)) => {}
        }
    }

    fn turn(&mut self, pod_uid: &str) -> Arc<tokio::sync::Mutex<()>> {
        if self.turns.len() >= KEPT {
            self.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        self.turns.entry(pod_uid.to_owned()).or_default().clone()
    }
}

/// Remembers an answer; a full memory takes only what others have left.
fn remember<T>(kept: &mut HashMap<Hash, (T, Instant)>, hash: Hash, answer: T, time: Duration) {
    let now = Instant::now();
    if kept.len() >= KEPT {
        kept.retain(|_, (_, until)| now < *until);
    }
    if kept.len() < KEPT {
        kept.insert(hash, (answer, now + time));
    }
}

/// The pod in an answer, if it vouches for one, for our audience.
fn judge(status: TokenReviewStatus) -> Result<Reviewed, AuthError> {
    let refuse = |why: &str| Err(AuthError::Refused(why.to_owned()));
    if status.authenticated != Some(true) {
        return refuse(
            status
                .error
                .as_deref()
                .unwrap_or("the API server does not accept the token"),
        );
    }
    // A server that does not know audiences answers without them; its yes is not for us.
    if !status
        .audiences
        .unwrap_or_default()
        .iter()
        .any(|audience| audience == names::DISPATCH_AUDIENCE)
    {
        return refuse("the token is not for the audience kinora-dispatch");
    }
    let user = status.user.unwrap_or_default();
    let account = user
        .username
        .as_deref()
        .and_then(|name| name.strip_prefix("system:serviceaccount:"));
    let Some((namespace, _)) = account.and_then(|account| account.split_once(':')) else {
        return refuse("the token is no service account's");
    };
    let extra = user.extra.unwrap_or_default();
    let first = |key: &str| extra.get(key).and_then(|values| values.first()).cloned();
    match (first(POD_NAME), first(POD_UID)) {
        (Some(pod_name), Some(pod_uid)) => Ok(Reviewed {
            namespace: namespace.to_owned(),
            pod_name,
            pod_uid,
        }),
        _ => refuse("the token is not bound to a pod"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(change: impl Fn(&mut Value)) -> TokenReviewStatus {
        let mut status = json!({
            "authenticated": true,
            "audiences": ["kinora-dispatch"],
            "user": {
                "username": "system:serviceaccount:videos:default",
                "extra": {
                    "authentication.kubernetes.io/pod-name": ["w-1"],
                    "authentication.kubernetes.io/pod-uid": ["u1"],
                },
            },
        });
        change(&mut status);
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn only_a_pod_bound_token_for_our_audience_is_good() {
        let good = Reviewed {
            namespace: "videos".to_owned(),
            pod_name: "w-1".to_owned(),
            pod_uid: "u1".to_owned(),
        };
        assert_eq!(judge(status(|_| ())).unwrap(), good);
        type Change = fn(&mut Value);
        let table: [(&str, Change); 6] = [
            ("not authenticated", |s| s["authenticated"] = json!(false)),
            ("another audience", |s| {
                s["audiences"] = json!(["https://kubernetes.default.svc"]);
            }),
            ("no audience", |s| s["audiences"] = json!([])),
            ("a person", |s| s["user"]["username"] = json!("admin")),
            ("a token made by hand, bound to no pod", |s| {
                s["user"]["extra"] = json!({});
            }),
            ("no user", |s| s["user"] = Value::Null),
        ];
        for (name, change) in table {
            assert!(
                matches!(judge(status(change)), Err(AuthError::Refused(_))),
                "{name}"
            );
        }
    }
}
