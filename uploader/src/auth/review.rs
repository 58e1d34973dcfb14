//! Tokens of Kubernetes ServiceAccounts, proved by the API server (TokenReview). Answers are kept for
//! a short time by the token's hash; how many are asked at once is bounded, and nothing is asked
//! about tokens that are not made for us. Anybody can write a token that seems to be: what such ones take is kept
//! apart from what those have whose token was good.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
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
/// Reviews at a time of tokens that were good, and as many of others.
const AT_ONCE: usize = 16;
const AWAY: Denied = Denied::Unavailable("the API server cannot be asked about the token");
/// Issuer of owners that are ServiceAccounts.
const ISSUER: &str = "kubernetes";
const PREFIX: &str = "system:serviceaccount:";

/// See the module; clones share what is kept.
#[derive(Clone)]
pub(super) struct Reviews {
    api: Api<TokenReview>,
    config: Arc<ReviewConfig>,
    kept: Arc<Mutex<Kept>>,
    known: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

type Hash = [u8; 32];
type Asked = BoxFuture<'static, Result<Caller, Denied>>;

/// What is known of tokens.
struct Kept {
    /// Those that were good when they were asked about last, and until when they are.
    good: LruCache<Hash, (Caller, Instant)>,
    refused: LruCache<Hash, Instant>,
    /// Reviews that run: whoever sends the same token waits for the same answer.
    asked: HashMap<Hash, WeakShared<Asked>>,
}

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
            kept: Arc::new(Mutex::new(Kept::new())),
            known: Arc::new(Semaphore::new(AT_ONCE)),
            strangers: Arc::new(Semaphore::new(AT_ONCE)),
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
        let hash: Hash = Sha256::digest(token.as_bytes()).into();
        let asked = {
            let mut kept = self.kept();
            if let Some(verdict) = kept.verdict(&hash) {
                return verdict;
            }
            match kept.asked(&hash) {
                Some(asked) => asked,
                None => self.ask(&mut kept, hash, token)?,
            }
        };
        asked.await
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a review, which goes on while anybody waits for it.
    fn ask(&self, kept: &mut Kept, hash: Hash, token: &str) -> Result<Shared<Asked>, Denied> {
        let places = match kept.good.contains(&hash) {
            true => &self.known,
            false => &self.strangers,
        };
        let place = Arc::clone(places).try_acquire_owned().map_err(|_| AWAY)?;
        let review = Wiped(TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![self.config.audience.clone()]),
            },
            ..TokenReview::default()
        });
        let reviews = self.clone();
        let asked = async move {
            let status = reviews.review(&review).await?;
            let verdict = judge(&reviews.config, &status);
            reviews.kept().keep(hash, &verdict);
            drop(place);
            verdict
        };
        let asked = asked.boxed().shared();
        kept.begin(hash, &asked);
        Ok(asked)
    }

    async fn review(&self, review: &Wiped) -> Result<TokenReviewStatus, Denied> {
        let params = PostParams::default();
        let asked = self.api.create(&params, &review.0);
        match tokio::time::timeout(TIMEOUT, asked).await {
            Ok(Ok(review)) => Ok(Wiped(review).0.status.take().unwrap_or_default()),
            Ok(Err(error)) => {
                tracing::warn!(%error, "review a token");
                Err(AWAY)
            }
            Err(_) => Err(AWAY),
        }
    }
}

impl Kept {
    fn new() -> Self {
        Self {
            good: LruCache::new(KEPT),
            refused: LruCache::new(KEPT),
            asked: HashMap::new(),
        }
    }

    /// The last answer, while it is believed.
    fn verdict(&mut self, hash: &Hash) -> Option<Result<Caller, Denied>> {
        let now = Instant::now();
        let refused = self.refused.get(hash).is_some_and(|until| now < *until);
        let good = self.good.get(hash).filter(|(_, until)| now < *until);
        match refused {
            true => Some(Err(Denied::Unauthenticated)),
            false => good.map(|(caller, _)| Ok(caller.clone())),
        }
    }

    fn keep(&mut self, hash: Hash, verdict: &Result<Caller, Denied>) {
        match verdict {
            Ok(caller) => {
                let until = Instant::now() + GOOD_FOR;
                self.good.put(hash, (caller.clone(), until));
            }
            Err(_) => {
                self.good.pop(&hash);
                self.refused.put(hash, Instant::now() + BAD_FOR);
            }
        }
    }

    /// The review of this token that runs.
    fn asked(&self, hash: &Hash) -> Option<Shared<Asked>> {
        let asked = self.asked.get(hash)?.upgrade()?;
        asked.peek().is_none().then_some(asked)
    }

    /// Remembers a review, and forgets those that are over: they had places, so they are few.
    fn begin(&mut self, hash: Hash, asked: &Shared<Asked>) {
        let runs = |asked: &WeakShared<Asked>| {
            let asked = asked.upgrade();
            asked.is_some_and(|asked| asked.peek().is_none())
        };
        self.asked.retain(|_, asked| runs(asked));
        self.asked
            .extend(asked.downgrade().map(|asked| (hash, asked)));
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
