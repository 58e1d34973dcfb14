//! The access file: whose tokens are accepted beside API keys, and how much each may do. What could
//! let in more than was meant is refused at start, with the name of the setting.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jsonwebtoken::Algorithm;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use url::{Host, Url};

use crate::limits::LimitsConfig;

/// Clocks may differ by so much at most.
const MAX_LEEWAY_SECONDS: u64 = 60;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessConfig {
    /// Issuers of JWTs.
    #[serde(default)]
    pub issuers: Vec<IssuerConfig>,
    /// Tokens of Kubernetes ServiceAccounts.
    #[serde(default)]
    pub token_review: Option<ReviewConfig>,
    /// Limits of clients.
    #[serde(default)]
    pub limits: LimitsConfig,
}

/// One issuer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuerConfig {
    /// The claim `iss`, to the letter.
    pub issuer: String,
    /// One of them must be in the claim `aud`.
    pub audiences: Vec<String>,
    /// Accepted signatures; never those with a shared secret.
    #[serde(default = "algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// Where the keys are; absent: as `<issuer>/.well-known/openid-configuration` says.
    #[serde(default, deserialize_with = "url_or_none")]
    pub jwks_url: Option<Url>,
    /// Authority of the issuer's certificate, PEM; absent: the public ones.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How much clocks may differ.
    #[serde(default = "leeway")]
    pub leeway_seconds: u64,
    /// The tenant of the issuer's callers.
    #[serde(with = "serde_yaml::with::singleton_map")]
    pub tenant: Tenant,
    /// What callers may do.
    #[serde(default)]
    pub scopes: Scopes,
}

/// Where the tenant comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Tenant {
    /// The same for all.
    Value(String),
    /// A claim with text.
    Claim(String),
}

/// What a claim gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scopes {
    /// The claim with words: one text with blanks between, or a list. Words that begin with `kinora:` are scopes.
    #[serde(default)]
    pub claim: Option<String>,
    /// Scopes by other words of the claim.
    #[serde(default)]
    pub roles: BTreeMap<String, BTreeSet<String>>,
    /// Scopes of every caller.
    #[serde(default)]
    pub grant: BTreeSet<String>,
}

/// Tokens of ServiceAccounts.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReviewConfig {
    /// The audience that the tokens are made for.
    pub audience: String,
    /// The tenant of all; absent: the namespace of the ServiceAccount.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Scopes by `<namespace>/<name>`, or by `<namespace>/*`. Others are not let in.
    pub accounts: BTreeMap<String, BTreeSet<String>>,
}

/// A URL from text.
///
/// # Errors
/// When it is none.
pub(super) fn url<'de, D: Deserializer<'de>>(from: D) -> Result<Url, D::Error> {
    let text = String::deserialize(from)?;
    Url::parse(&text).map_err(|error| D::Error::custom(format!("`{text}`: {error}")))
}

fn url_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Url>, D::Error> {
    url(from).map(Some)
}

fn algorithms() -> Vec<Algorithm> {
    vec![Algorithm::RS256, Algorithm::ES256]
}

fn leeway() -> u64 {
    30
}

impl AccessConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is missing, or a setting in it is wrong or too open.
    pub fn read(path: &Path, insecure: bool) -> Result<Self, String> {
        let at = |problem: String| format!("--access-file {}: {problem}", path.display());
        let text = std::fs::read_to_string(path).map_err(|cause| at(cause.to_string()))?;
        Self::parse(&text, insecure).map_err(at)
    }

    /// Reads the YAML.
    ///
    /// # Errors
    /// As `read`.
    pub fn parse(text: &str, insecure: bool) -> Result<Self, String> {
        let file: Self = serde_yaml::from_str::<Option<_>>(text)
            .map_err(|cause| cause.to_string())?
            .unwrap_or_default();
        let mut seen = BTreeSet::new();
        for issuer in &file.issuers {
            let at = |problem: String| format!("issuer {}: {problem}", issuer.issuer);
            issuer.check(insecure).map_err(at)?;
            if !seen.insert(&issuer.issuer) {
                return Err(at("it is there twice".into()));
            }
        }
        if let Some(review) = &file.token_review {
            review.check().map_err(|p| format!("tokenReview: {p}"))?;
        }
        file.limits.check().map_err(|p| format!("limits: {p}"))?;
        Ok(file)
    }
}

impl IssuerConfig {
    fn check(&self, insecure: bool) -> Result<(), String> {
        if self.issuer.is_empty() {
            return Err("issuer must not be empty".into());
        }
        if self.audiences.iter().all(String::is_empty) {
            return Err("audiences must name at least one".into());
        }
        if self.algorithms.is_empty() {
            return Err("algorithms must name at least one".into());
        }
        let shared = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        if let Some(shared) = self.algorithms.iter().find(|a| shared.contains(a)) {
            return Err(format!(
                "algorithms: {shared:?} signs with a shared secret; use RS256, PS256, ES256 or EdDSA"
            ));
        }
        if self.leeway_seconds > MAX_LEEWAY_SECONDS {
            return Err(format!(
                "leewaySeconds must be {MAX_LEEWAY_SECONDS} or less"
            ));
        }
        if let Some(url) = &self.jwks_url {
            safe(url, insecure).map_err(|p| format!("jwksUrl: {p}"))?;
        } else {
            let url = Url::parse(&self.issuer)
                .map_err(|_| "it is no URL, so jwksUrl is needed".to_owned())?;
            safe(&url, insecure)?;
        }
        if let Tenant::Value(value) = &self.tenant {
            tenant(value).ok_or("tenant.value must have 1 to 128 characters")?;
        }
        known(
            self.scopes
                .grant
                .iter()
                .chain(self.scopes.roles.values().flatten()),
        )
    }
}

impl ReviewConfig {
    fn check(&self) -> Result<(), String> {
        if self.audience.is_empty() {
            return Err("audience must not be empty; use one that is Kinora's alone".into());
        }
        if self.accounts.is_empty() {
            return Err(
                "accounts must name who is let in, such as `backend/*: [kinora:upload]`".into(),
            );
        }
        for name in self.accounts.keys() {
            if name.split('/').filter(|part| !part.is_empty()).count() != 2 {
                return Err(format!("accounts: `{name}` is no <namespace>/<name>"));
            }
        }
        if let Some(value) = &self.tenant {
            tenant(value).ok_or("tenant must have 1 to 128 characters")?;
        }
        known(self.accounts.values().flatten())
    }
}

/// A tenant's name, if it is one.
pub(super) fn tenant(value: &str) -> Option<&str> {
    (!value.is_empty() && value.len() <= 128 && !value.contains(char::is_control)).then_some(value)
}

fn known<'a>(scopes: impl Iterator<Item = &'a String>) -> Result<(), String> {
    for scope in scopes {
        if !super::SCOPES.contains(&scope.as_str()) {
            return Err(format!(
                "scopes: `{scope}` is none; there are {}",
                super::SCOPES.join(", ")
            ));
        }
    }
    Ok(())
}

/// Keys must come over TLS: who can change them on the way can be anybody.
pub(super) fn safe(url: &Url, insecure: bool) -> Result<(), String> {
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => return Err(format!("`{url}` has no host")),
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback || insecure => Ok(()),
        _ => Err(format!("`{url}` must begin with https://")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers: S9
    #[test]
    fn what_would_let_in_too_many_is_refused_at_start() {
        let base = "issuer: https://id.example, audiences: [kinora], tenant: {value: acme}";
        let cases = [
            ("the least", base.to_owned(), true),
            (
                "by claim",
                base.replace("{value: acme}", "{claim: org}"),
                true,
            ),
            ("plain HTTP", base.replace("https", "http"), false),
            (
                "on loopback",
                base.replace("https://id.example", "http://127.0.0.1:9"),
                true,
            ),
            ("no audience", base.replace("[kinora]", "[]"), false),
            ("an empty audience", base.replace("[kinora]", "['']"), false),
            (
                "no tenant",
                base.replace(", tenant: {value: acme}", ""),
                false,
            ),
            ("an empty tenant", base.replace("acme", "''"), false),
            (
                "a shared secret",
                format!("{base}, algorithms: [RS256, HS256]"),
                false,
            ),
            ("no algorithm", format!("{base}, algorithms: []"), false),
            ("none", format!("{base}, algorithms: [none]"), false),
            ("EdDSA", format!("{base}, algorithms: [EdDSA]"), true),
            ("a long leeway", format!("{base}, leewaySeconds: 61"), false),
            (
                "keys over plain HTTP",
                format!("{base}, jwksUrl: 'http://id.example/k'"),
                false,
            ),
            ("a typo", format!("{base}, audience: x"), false),
            (
                "an unknown scope",
                format!("{base}, scopes: {{grant: [root]}}"),
                false,
            ),
            (
                "a scope",
                format!("{base}, scopes: {{grant: ['kinora:upload']}}"),
                true,
            ),
        ];
        for (name, issuer, want) in cases {
            let got = AccessConfig::parse(&format!("issuers: [{{{issuer}}}]"), false);
            assert_eq!(got.is_ok(), want, "{name}: {got:?}");
        }
        let twice = format!("issuers: [{{{base}}}, {{{base}}}]");
        assert!(AccessConfig::parse(&twice, false).is_err());
        let review = "tokenReview: {audience: kinora, accounts: {'back/*': ['kinora:upload']}}";
        assert!(AccessConfig::parse(review, false).is_ok());
        for (from, to) in [
            ("audience: kinora", "audience: ''"),
            ("'back/*'", "back"),
            ("kinora:upload", "admin"),
            ("{'back/*': ['kinora:upload']}", "{}"),
        ] {
            assert!(
                AccessConfig::parse(&review.replace(from, to), false).is_err(),
                "{to}"
            );
        }
        assert!(
            AccessConfig::parse("", false).is_ok(),
            "nothing is configured"
        );
    }

    /// What the chart's schema takes, and what it writes when nothing is set, is what is read here.
    #[test]
    fn the_chart_s_values_are_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let read = |path: &str| -> serde_yaml::Value {
            let text = std::fs::read_to_string(root.join(path)).unwrap();
            serde_yaml::from_str(&text).unwrap()
        };
        let full = &read("charts/kinora/ci/access-values.yaml")["access"];
        let full = AccessConfig::parse(&serde_yaml::to_string(full).unwrap(), false).unwrap();
        assert_eq!(full.issuers.len(), 1);
        assert_eq!(full.token_review.unwrap().accounts.len(), 2);
        assert_eq!(full.limits.owner.bytes_per_day, 5_000_000_000);
        let rendered = read("manifests/base/uploader-config.yaml");
        let text = rendered["data"]["access.yaml"].as_str().unwrap();
        let none = AccessConfig::parse(text, false).unwrap();
        assert!(none.issuers.is_empty() && none.token_review.is_none());
        assert_eq!(none.limits.connections, LimitsConfig::default().connections);
    }
}
