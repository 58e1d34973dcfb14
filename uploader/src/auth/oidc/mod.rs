//! JWTs of configured issuers. Everything that decides comes from the configuration: algorithms,
//! audience, and where the keys are. The token's header only names one of the issuer's keys.

mod claims;
mod jwks;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::config::IssuerConfig;
use super::{Caller, Denied};
use jwks::Jwks;

/// Longer tokens are not looked at.
const MAX_TOKEN_BYTES: usize = 8 << 10;
const MAX_KID_BYTES: usize = 256;

/// All issuers; clones share their keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Issuers(Arc<Vec<Issuer>>);

#[derive(Debug)]
struct Issuer {
    config: IssuerConfig,
    validation: Validation,
    jwks: Arc<Jwks>,
}

#[derive(Deserialize)]
struct Unverified {
    iss: String,
}

/// Whether this is three parts in Base64 of which the first is JSON.
pub(super) fn is_jwt(token: &str) -> bool {
    token.starts_with("eyJ") && token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// The claims of a token that nobody has proved: only good for choosing who is to prove it.
pub(super) fn unverified<T: for<'a> Deserialize<'a>>(token: &str) -> Option<T> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&claims).ok()
}

impl Issuers {
    /// From the access file.
    ///
    /// # Errors
    /// When no client can be made for an issuer.
    pub(super) fn new(configs: Vec<IssuerConfig>, insecure: bool) -> Result<Self, String> {
        let all = configs
            .into_iter()
            .map(|config| Issuer::new(config, insecure));
        Ok(Self(Arc::new(all.collect::<Result<_, _>>()?)))
    }

    /// Whether this issuer is one of them.
    pub(super) fn know(&self, token: &str) -> bool {
        self.of(token).is_some()
    }

    fn of(&self, token: &str) -> Option<&Issuer> {
        let Unverified { iss } = unverified(token)?;
        self.0.iter().find(|issuer| issuer.config.issuer == iss)
    }

    /// The caller that a token stands for.
    ///
    /// # Errors
    /// When the token proves nothing, or the issuer's keys cannot be had.
    pub(super) async fn check(&self, token: &str) -> Result<Caller, Denied> {
        self.of(token)
            .ok_or(Denied::Unauthenticated)?
            .check(token)
            .await
    }
}

impl Issuer {
    fn new(config: IssuerConfig, insecure: bool) -> Result<Self, String> {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.algorithms = config.algorithms.clone();
        validation.leeway = config.leeway_seconds;
        validation.validate_nbf = true;
        validation.set_audience(&config.audiences);
        validation.set_issuer(&[&config.issuer]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        let jwks = Jwks::new(&config, insecure)?;
        Ok(Self {
            config,
            validation,
            jwks: Arc::new(jwks),
        })
    }

    async fn check(&self, token: &str) -> Result<Caller, Denied> {
        let header = decode_header(token).map_err(|_| Denied::Unauthenticated)?;
        let kid = header.kid.as_deref();
        let odd = header.crit.is_some() || kid.is_some_and(|kid| kid.len() > MAX_KID_BYTES);
        if odd || !self.config.algorithms.contains(&header.alg) {
            return Err(Denied::Unauthenticated);
        }
        let key = self.jwks.key(kid, header.alg).await?;
        let mut validation = self.validation.clone();
        // A key is used with the one algorithm that it was chosen for.
        validation.algorithms = vec![header.alg];
        let proved = decode::<Map<String, Value>>(token, &key, &validation);
        let claims = proved.map_err(|_| Denied::Unauthenticated)?.claims;
        claims::caller(&self.config, &claims).ok_or(Denied::Unauthenticated)
    }
}
