//! From proved claims to a caller: whose, of which tenant, with which scopes. Pure.

use std::collections::BTreeSet;

use kinora_upload_engine::Owner;
use serde_json::{Map, Value};

use super::super::config::{self, IssuerConfig, Scopes, Tenant};
use super::super::{Caller, SCOPES};

const MAX_SUBJECT_BYTES: usize = 256;

/// The caller, if the claims name one.
pub(super) fn caller(config: &IssuerConfig, claims: &Map<String, Value>) -> Option<Caller> {
    let sub = claims.get("sub")?.as_str()?;
    if sub.is_empty() || sub.len() > MAX_SUBJECT_BYTES {
        return None;
    }
    let tenant = match &config.tenant {
        Tenant::Value(value) => value,
        Tenant::Claim(name) => claims.get(name)?.as_str()?,
    };
    Some(Caller {
        owner: Owner {
            iss: config.issuer.clone(),
            sub: sub.to_owned(),
        },
        tenant: config::tenant(tenant)?.to_owned(),
        scopes: scopes(&config.scopes, claims),
    })
}

fn scopes(config: &Scopes, claims: &Map<String, Value>) -> BTreeSet<String> {
    let mut all = config.grant.clone();
    let said = config.claim.as_ref().and_then(|name| claims.get(name));
    let words: Vec<&str> = match said {
        Some(Value::String(text)) => text.split_ascii_whitespace().collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(_) | None => Vec::new(),
    };
    for word in words {
        if SCOPES.contains(&word) {
            all.insert(word.to_owned());
        }
        all.extend(config.roles.get(word).into_iter().flatten().cloned());
    }
    all
}
