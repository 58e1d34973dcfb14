//! The keys of one issuer, as it publishes them. They are read again when they are old, and when a
//! token names one that is not among them, but not more often than every ten seconds; meanwhile, and
//! while the issuer cannot be reached, the ones that were read last go on. Only a token whose key is
//! not among them waits, and the first one after a quiet time; no client that goes away ends a read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::super::Denied;
use super::super::config::{self, IssuerConfig, safe};

const TIMEOUT: Duration = Duration::from_secs(5);
/// Keys that were taken back are refused after this and one more reading.
pub(super) const FRESH_FOR: Duration = Duration::from_secs(600);
/// Nobody came for so long that a key that was taken back may still be among them.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(1_200);
const TRIED_EVERY: Duration = Duration::from_secs(10);
const MAX_ANSWER_BYTES: usize = 256 << 10;
const MAX_KEYS: usize = 64;
/// 2,048 bits in Base64.
const MIN_RSA_DIGITS: usize = 341;

#[derive(Debug)]
pub(super) struct Jwks {
    source: Source,
    insecure: bool,
    config: IssuerConfig,
    /// Without a file of authorities, which may change.
    http: Option<reqwest::Client>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
enum Source {
    Keys(Url),
    Discovery { url: Url, issuer: String },
}

#[derive(Debug, Default)]
struct Seen {
    keys: Arc<Vec<Key>>,
    read: Option<Instant>,
    tried: Option<Instant>,
    /// Cancelled when the last try has ended.
    ended: Option<CancellationToken>,
    /// The last try has brought none: a key that is not known may be published all the same.
    failed: bool,
}

struct Key {
    kid: Option<String>,
    alg: Option<KeyAlgorithm>,
    kind: Kind,
    key: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?}, {:?})", self.kid, self.kind)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    Ec,
    Ed,
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    #[serde(deserialize_with = "config::url")]
    jwks_uri: Url,
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

impl Jwks {
    pub(super) fn new(config: &IssuerConfig, insecure: bool) -> Result<Self, String> {
        let issuer = config.issuer.clone();
        let source = match &config.jwks_url {
            Some(url) => Source::Keys(url.clone()),
            None => {
                let path = "/.well-known/openid-configuration";
                let url = format!("{}{path}", issuer.trim_end_matches('/'));
                let url = Url::parse(&url).map_err(|error| format!("issuer {issuer}: {error}"))?;
                Source::Discovery { url, issuer }
            }
        };
        // A file that cannot be used is told at the start.
        let http = client(config)?;
        Ok(Self {
            source,
            insecure,
            config: config.clone(),
            http: config.ca_file.is_none().then_some(http),
            seen: Mutex::default(),
        })
    }

    /// The key that a token names, for its algorithm.
    pub(super) async fn key(
        self: &Arc<Self>,
        kid: Option<&str>,
        alg: Algorithm,
    ) -> Result<DecodingKey, Denied> {
        let may_go_on = !self.is_older_than(STALE_AFTER) || self.seen().failed;
        if let Some(key) = self.find(kid, alg).filter(|_| may_go_on) {
            if self.is_older_than(FRESH_FOR) {
                self.read_again();
            }
            return Ok(key);
        }
        self.read_again().cancelled().await;
        let found = self.find(kid, alg);
        let none = {
            let seen = self.seen();
            seen.keys.is_empty() || seen.failed
        };
        found.ok_or(if none {
            Denied::Unavailable("the keys of the issuer cannot be read")
        } else {
            Denied::Unauthenticated
        })
    }

    /// As if the last try were long ago, or the last reading so long.
    #[cfg(test)]
    pub(super) fn forget_when(&self, tried: bool, read: Duration) {
        let mut seen = self.seen();
        seen.tried = seen.tried.filter(|_| !tried);
        seen.read = seen.read.and_then(|at| at.checked_sub(read));
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_older_than(&self, age: Duration) -> bool {
        self.seen().read.is_none_or(|read| read.elapsed() > age)
    }

    fn find(&self, kid: Option<&str>, alg: Algorithm) -> Option<DecodingKey> {
        let keys = Arc::clone(&self.seen().keys);
        let mut fitting = keys.iter().filter(|key| key.fits(kid, alg));
        let key = fitting.next()?;
        // Without a name it must be clear which one is meant.
        (kid.is_some() || fitting.next().is_none()).then(|| key.key.clone())
    }

    /// Begins to read the keys, once for all who wait, no more often than every ten seconds; cancelled when the last
    /// try has ended.
    pub(super) fn read_again(self: &Arc<Self>) -> CancellationToken {
        let mut seen = self.seen();
        let recent = seen
            .tried
            .is_some_and(|tried| tried.elapsed() < TRIED_EVERY);
        if let Some(ended) = &seen.ended
            && (recent || !ended.is_cancelled())
        {
            return ended.clone();
        }
        let ended = CancellationToken::new();
        (seen.tried, seen.failed) = (Some(Instant::now()), true);
        seen.ended = Some(ended.clone());
        let (jwks, ends) = (Arc::clone(self), ended.clone().drop_guard());
        tokio::spawn(async move {
            jwks.take_in(jwks.read().await);
            drop(ends);
        });
        ended
    }

    fn take_in(&self, read: Result<Vec<Key>, String>) {
        match read {
            Ok(keys) => {
                let mut seen = self.seen();
                seen.keys = Arc::new(keys);
                seen.read = Some(Instant::now());
                seen.failed = false;
            }
            Err(problem) => {
                tracing::warn!(problem, "the keys of a token issuer stay as they were");
            }
        }
    }

    async fn read(&self) -> Result<Vec<Key>, String> {
        let http = match &self.http {
            Some(http) => http.clone(),
            None => client(&self.config)?,
        };
        let url = match &self.source {
            Source::Keys(url) => url.clone(),
            Source::Discovery { url, issuer } => {
                let found: Discovered = get(&http, url).await?;
                if found.issuer != *issuer {
                    return Err(format!("{url} speaks for another issuer"));
                }
                safe(&found.jwks_uri, self.insecure)?;
                found.jwks_uri
            }
        };
        let published: Published = get(&http, &url).await?;
        let keys = published.keys.into_iter().take(MAX_KEYS);
        let keys: Vec<Key> = keys.filter_map(Key::read).collect();
        if keys.is_empty() {
            return Err(format!("{url} has no key that can be used"));
        }
        Ok(keys)
    }
}

async fn get<T: DeserializeOwned>(http: &reqwest::Client, url: &Url) -> Result<T, String> {
    let at = |problem: &dyn std::fmt::Display| format!("read {url}: {problem}");
    let answer = http.get(url.clone()).send().await;
    let mut answer = answer
        .and_then(reqwest::Response::error_for_status)
        .map_err(|error| at(&error))?;
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| at(&error))? {
        text.extend_from_slice(&chunk);
        if text.len() > MAX_ANSWER_BYTES {
            return Err(at(&"it is longer than 256 KiB"));
        }
    }
    serde_json::from_slice(&text).map_err(|error| at(&error))
}

impl Key {
    /// A published key that proves signatures; others are left out.
    fn read(published: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(published).ok()?;
        let kind = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) if rsa.n.len() >= MIN_RSA_DIGITS => Kind::Rsa,
            AlgorithmParameters::EllipticCurve(_) => Kind::Ec,
            AlgorithmParameters::OctetKeyPair(_) => Kind::Ed,
            // A shared secret has no place in public.
            AlgorithmParameters::RSA(_) | AlgorithmParameters::OctetKey(_) => return None,
        };
        let signs = jwk.common.public_key_use.as_ref();
        if signs.is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
            return None;
        }
        Some(Self {
            key: DecodingKey::from_jwk(&jwk).ok()?,
            kid: jwk.common.key_id,
            alg: jwk.common.key_algorithm,
            kind,
        })
    }

    fn fits(&self, kid: Option<&str>, alg: Algorithm) -> bool {
        use Algorithm as A;
        let kind = match alg {
            A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512 => Kind::Rsa,
            A::ES256 | A::ES384 => Kind::Ec,
            A::EdDSA => Kind::Ed,
            A::HS256 | A::HS384 | A::HS512 => return false,
        };
        let named = kid.is_none_or(|kid| self.kid.as_deref() == Some(kid));
        let meant = self
            .alg
            .is_none_or(|own| own.to_string() == format!("{alg:?}"));
        self.kind == kind && named && meant
    }
}

/// A client that trusts the public authorities, or the issuer's own, and goes nowhere else.
fn client(config: &IssuerConfig) -> Result<reqwest::Client, String> {
    let at = |problem: String| format!("issuer {}: {problem}", config.issuer);
    let authorities = match &config.ca_file {
        Some(path) => {
            let pem = std::fs::read(path)
                .map_err(|cause| at(format!("caFile {}: {cause}", path.display())))?;
            let found = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| at(error.to_string()))?;
            if found.is_empty() {
                return Err(at(format!(
                    "caFile {}: no PEM certificate in it",
                    path.display()
                )));
            }
            found
        }
        None => webpki_root_certs::TLS_SERVER_ROOT_CERTS
            .iter()
            .filter_map(|der| reqwest::Certificate::from_der(der).ok())
            .collect(),
    };
    reqwest::Client::builder()
        .tls_certs_only(authorities)
        .redirect(Policy::none())
        .timeout(TIMEOUT)
        .build()
        .map_err(|error| at(error.to_string()))
}
