//! Tokens of Kubernetes ServiceAccounts, proved by the API server (TokenReview). Answers are kept for
//! a short time by the token's hash; how many are asked at once is bounded, and nothing is asked
//! about tokens that are not made for us.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kinora_upload_engine::Owner;
use kube::api::PostParams;
use kube::{Api, Client};
use lru::LruCache;
use secrecy::zeroize::Zeroize;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::config::ReviewConfig;
use super::{Caller, Denied, oidc};

const TIMEOUT: Duration = Duration::from_secs(5);
/// A token that was taken back is refused after this.
const GOOD_FOR: Duration = Duration::from_secs(60);
const BAD_FOR: Duration = Duration::from_secs(10);
const KEPT: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
const AT_ONCE: usize = 16;
/// Issuer of owners that are ServiceAccounts.
const ISSUER: &str = "kubernetes";
const PREFIX: &str = "system:serviceaccount:";

/// See the module; clones share what is kept.
#[derive(Clone)]
pub(super) struct Reviews {
    api: Api<TokenReview>,
    config: Arc<ReviewConfig>,
    kept: Arc<Mutex<Kept>>,
    places: Arc<Semaphore>,
}

type Kept = LruCache<[u8; 32], (Result<Caller, Denied>, Instant)>;

impl std::fmt::Debug for Reviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviews").finish_non_exhaustive()
    }
}

/// What a token says of itself.
#[derive(Deserialize)]
struct Said {
    aud: OneOrMore,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Reviews {
    pub(super) fn new(client: Client, config: ReviewConfig) -> Self {
        Self {
            api: Api::all(client),
            config: Arc::new(config),
            kept: Arc::new(Mutex::new(LruCache::new(KEPT))),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// The caller that a token stands for.
    ///
    /// # Errors
    /// When the API server does not vouch for it, or cannot be asked.
    pub(super) async fn check(&self, token: &str) -> Result<Caller, Denied> {
        let said: Said = oidc::unverified(token).ok_or(Denied::Unauthenticated)?;
        let meant = match &said.aud {
            OneOrMore::One(one) => *one == self.config.audience,
            OneOrMore::More(all) => all.contains(&self.config.audience),
        };
        if !meant {
            return Err(Denied::Unauthenticated);
        }
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(kept) = self.kept(&hash) {
            return kept;
        }
        let status = self.ask(token).await?;
        let caller = judge(&self.config, &status);
        let long = if caller.is_ok() { GOOD_FOR } else { BAD_FOR };
        let until = Instant::now() + long;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.put(hash, (caller.clone(), until));
        caller
    }

    fn kept(&self, hash: &[u8; 32]) -> Option<Result<Caller, Denied>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (caller, until) = kept.get(hash)?;
        (Instant::now() < *until).then(|| caller.clone())
    }

    async fn ask(&self, token: &str) -> Result<TokenReviewStatus, Denied> {
        let away = Denied::Unavailable("the API server cannot be asked about the token");
        let _place = self.places.try_acquire().map_err(|_| away)?;
        let review = Wiped(TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![self.config.audience.clone()]),
            },
            ..TokenReview::default()
        });
        let params = PostParams::default();
        let asked = self.api.create(&params, &review.0);
        match tokio::time::timeout(TIMEOUT, asked).await {
            Ok(Ok(review)) => Ok(Wiped(review).0.status.take().unwrap_or_default()),
            Ok(Err(error)) => {
                tracing::warn!(%error, "review a token");
                Err(away)
            }
            Err(_) => Err(away),
        }
    }
}

/// A review, whose token is wiped with it; the API server's answer repeats the token.
struct Wiped(TokenReview);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.spec.token.zeroize();
    }
}

/// The ServiceAccount that an answer vouches for, if it is one of ours to let in.
fn judge(config: &ReviewConfig, status: &TokenReviewStatus) -> Result<Caller, Denied> {
    let audiences = status.audiences.as_deref().unwrap_or_default();
    if status.authenticated != Some(true) || !audiences.contains(&config.audience) {
        return Err(Denied::Unauthenticated);
    }
    let user = status
        .user
        .as_ref()
        .and_then(|user| user.username.as_deref());
    let account = user.and_then(|name| name.strip_prefix(PREFIX)?.split_once(':'));
    let (namespace, name) = account.ok_or(Denied::Unauthenticated)?;
    let scopes = [format!("{namespace}/{name}"), format!("{namespace}/*")];
    let mut scopes = scopes.iter().filter_map(|key| config.accounts.get(key));
    let scopes = scopes.next().ok_or(Denied::Unauthenticated)?;
    Ok(Caller {
        owner: Owner {
            iss: ISSUER.into(),
            sub: format!("{PREFIX}{namespace}:{name}"),
        },
        tenant: config
            .tenant
            .clone()
            .unwrap_or_else(|| namespace.to_owned()),
        scopes: scopes.clone(),
    })
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
