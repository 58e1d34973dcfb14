//! API keys, in a directory (a mounted Secret): one file for each key id. Only the SHA-256 of a
//! secret is stored; comparison takes the same time whatever was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use constant_time_eq::constant_time_eq_32;
use kinora_upload_engine::Owner;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::tokens::PREFIX;
use super::{Caller, Denied};

/// Issuer of owners that are API keys.
pub const ISSUER: &str = "apikey";

#[derive(Deserialize)]
struct KeyFile {
    sha256: String,
    tenant: String,
    #[serde(default)]
    scopes: BTreeSet<String>,
}

#[derive(Clone)]
struct Key {
    sha256: [u8; 32],
    tenant: String,
    scopes: BTreeSet<String>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({}, {:?})", self.tenant, self.scopes)
    }
}

/// Keys that cannot be used at start.
#[derive(Debug, thiserror::Error)]
#[error("read --api-keys-dir {path}: {problem}")]
pub struct KeysError {
    path: String,
    problem: String,
}

/// The API keys; clones share what was read last.
#[derive(Clone, Debug)]
pub struct Keys {
    dir: PathBuf,
    keys: Arc<RwLock<Arc<BTreeMap<String, Key>>>>,
}

impl Keys {
    /// Reads all keys of a directory.
    ///
    /// # Errors
    /// When the directory cannot be read, or a file in it is not a key.
    pub fn read(dir: &Path) -> Result<Self, KeysError> {
        let keys = read_all(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            keys: Arc::new(RwLock::new(Arc::new(keys))),
        })
    }

    /// Reads the directory again; a broken one leaves the keys as they were.
    ///
    /// # Errors
    /// As `read`.
    pub fn reload(&self) -> Result<(), KeysError> {
        let keys = Arc::new(read_all(&self.dir)?);
        match self.keys.write() {
            Ok(mut slot) => *slot = keys,
            Err(poisoned) => *poisoned.into_inner() = keys,
        }
        Ok(())
    }

    /// The caller that a key belongs to.
    ///
    /// # Errors
    /// When there is no such key, or its secret is another.
    pub(super) fn check(&self, token: &str) -> Result<Caller, Denied> {
        let (id, secret) = token.split_once('.').ok_or(Denied::Unauthenticated)?;
        let keys = match self.keys.read() {
            Ok(keys) => Arc::clone(&keys),
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        };
        let hash: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let key = keys.get(id);
        // An unknown id costs the same comparison.
        let good = constant_time_eq_32(&hash, &key.map_or([0; 32], |key| key.sha256));
        let key = key.filter(|_| good).ok_or(Denied::Unauthenticated)?;
        Ok(Caller {
            owner: Owner {
                iss: ISSUER.into(),
                sub: id.into(),
            },
            tenant: key.tenant.clone(),
            scopes: key.scopes.clone(),
        })
    }
}

fn read_all(dir: &Path) -> Result<BTreeMap<String, Key>, KeysError> {
    let fail = |problem: String| KeysError {
        path: dir.display().to_string(),
        problem,
    };
    let entries = std::fs::read_dir(dir).map_err(|cause| fail(cause.to_string()))?;
    let mut keys = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(|cause| fail(cause.to_string()))?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        // A mounted Secret has `..data` and its dated directory beside the keys.
        if name.is_empty() || name.starts_with('.') || !path.is_file() {
            continue;
        }
        // A client's `<id>.<secret>` would never lead to it.
        if name.contains('.') || name.starts_with(PREFIX) {
            return Err(fail(format!(
                "key {name}: no client can use it; rename the entry to one without `.` that does not begin with `{PREFIX}`"
            )));
        }
        let key = read_one(&path).map_err(|problem| fail(format!("key {name}: {problem}")))?;
        keys.insert(name, key);
    }
    Ok(keys)
}

fn read_one(path: &Path) -> Result<Key, String> {
    let text = std::fs::read(path).map_err(|cause| cause.to_string())?;
    let file: KeyFile = serde_json::from_slice(&text)
        .map_err(|cause| format!("{cause}; it must be {{\"sha256\", \"tenant\", \"scopes\"}}"))?;
    let bytes = hex::decode(file.sha256.trim()).map_err(|_| "sha256 must be hex".to_owned())?;
    let sha256 = bytes
        .try_into()
        .map_err(|_| "sha256 must have 64 hex digits".to_owned())?;
    if file.tenant.is_empty() || file.tenant.len() > 128 {
        return Err("tenant must have 1 to 128 characters".into());
    }
    Ok(Key {
        sha256,
        tenant: file.tenant,
        scopes: file.scopes,
    })
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use http::{HeaderMap, header};

    use super::super::{Action, Auth, Credential, SCOPE_TENANT, SCOPE_UPLOAD};
    use super::*;

    fn write(dir: &Path, id: &str, secret: &str, tenant: &str, scopes: &[&str]) {
        let sha256 = hex::encode(Sha256::digest(secret.as_bytes()));
        let json = serde_json::json!({"sha256": sha256, "tenant": tenant, "scopes": scopes});
        std::fs::write(dir.join(id), json.to_string()).unwrap();
    }

    fn with(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        headers
    }

    #[test]
    fn an_id_that_no_client_can_use_is_refused() {
        for id in ["phone.v2", "kut_phone"] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), id, "s3cret", "acme", &[SCOPE_UPLOAD]);
            let told = Keys::read(dir.path()).unwrap_err().to_string();
            assert!(told.contains(&format!("key {id}: ")), "{told}");
            assert!(told.contains("rename the entry"), "{told}");
        }
    }

    /// covers: S8, T26
    #[test]
    fn keys_are_checked_and_reloaded() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "phone", "s3cret", "acme", &[SCOPE_UPLOAD]);
        write(dir.path(), "admin", "root", "acme", &[SCOPE_TENANT]);
        write(dir.path(), "idle", "x", "acme", &[]);
        let keys = Keys::read(dir.path()).unwrap();
        let auth = Auth::of_keys(keys.clone());
        let ask = |mut headers: HeaderMap| {
            let proof = auth.prove(Credential::take(&mut headers), crate::auth::Now::default());
            proof.now_or_never().unwrap()?.permits(Action::Create, None)
        };
        let cases = [
            ("a good key", "Bearer phone.s3cret", Ok(false)),
            ("the scheme in lower case", "bearer phone.s3cret", Ok(false)),
            ("a tenant-wide key", "Bearer admin.root", Ok(true)),
            (
                "a wrong secret",
                "Bearer phone.secret",
                Err(Denied::Unauthenticated),
            ),
            (
                "an unknown key",
                "Bearer nobody.s3cret",
                Err(Denied::Unauthenticated),
            ),
            ("no secret", "Bearer phone", Err(Denied::Unauthenticated)),
            (
                "an empty secret",
                "Bearer phone.",
                Err(Denied::Unauthenticated),
            ),
            (
                "another scheme",
                "Basic phone.s3cret",
                Err(Denied::Unauthenticated),
            ),
            (
                "a key id that climbs",
                "Bearer ../phone.s3cret",
                Err(Denied::Unauthenticated),
            ),
            (
                "a key without a scope",
                "Bearer idle.x",
                Err(Denied::Forbidden(SCOPE_UPLOAD)),
            ),
        ];
        for (name, value, want) in cases {
            assert_eq!(ask(with(value)).map(|p| p.tenant_wide), want, "{name}");
        }
        assert_eq!(ask(HeaderMap::new()), Err(Denied::Unauthenticated));

        write(dir.path(), "phone", "rotated", "acme", &[SCOPE_UPLOAD]);
        keys.reload().unwrap();
        assert!(ask(with("Bearer phone.s3cret")).is_err());
        assert!(ask(with("Bearer phone.rotated")).is_ok());

        std::fs::write(dir.path().join("broken"), "{").unwrap();
        assert!(keys.reload().is_err(), "a broken file is an error");
        assert!(
            ask(with("Bearer phone.rotated")).is_ok(),
            "and changes nothing"
        );
    }
}
