//! Upload tokens: a backend asks for one, and a phone uses it alone, for one upload and until it
//! expires. Nothing is stored: a token is a signed statement (HMAC-SHA-256), its keys are files of a
//! mounted Secret. The key whose name sorts last signs, all of them prove, so keys can be rotated.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use kinora_storage::UploadId;
use kinora_upload_engine::{Owner, Principal};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::{Deserialize, Serialize};

use super::{Action, Denied};

/// How a token begins, so that people and scanners know it for a secret.
pub(super) const PREFIX: &str = "kut_";
const AUDIENCE: &str = "kinora-upload";
const MIN_KEY_BYTES: usize = 32;
const MAX_TOKEN_BYTES: usize = 4 << 10;
/// An upload lives no longer.
pub const MAX_SECONDS: u64 = 7 * 24 * 3600;

/// Signs and proves upload tokens; clones share the keys.
#[derive(Clone, Debug)]
pub struct UploadTokens {
    dir: PathBuf,
    keys: Arc<RwLock<Arc<Vec<SecretSlice<u8>>>>>,
}

/// Whose upload a token opens.
#[derive(Debug, Deserialize, Serialize)]
struct Claims {
    aud: String,
    exp: u64,
    upload: String,
    tenant: String,
    iss: String,
    sub: String,
}

impl UploadTokens {
    /// Reads the keys of a directory.
    ///
    /// # Errors
    /// When there is none, or one is too short.
    pub fn read(dir: &Path) -> Result<Self, String> {
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
    pub fn reload(&self) -> Result<(), String> {
        let keys = Arc::new(read_all(&self.dir)?);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    fn keys(&self) -> Arc<Vec<SecretSlice<u8>>> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A token for one upload of `owner`, good until `expires` (Unix seconds); none without a key.
    #[must_use]
    pub fn sign(
        &self,
        owner: &Owner,
        tenant: &str,
        id: &UploadId,
        expires: u64,
    ) -> Option<SecretString> {
        let claims = Claims {
            aud: AUDIENCE.into(),
            exp: expires,
            upload: id.to_string(),
            tenant: tenant.into(),
            iss: owner.iss.clone(),
            sub: owner.sub.clone(),
        };
        let keys = self.keys();
        let key = EncodingKey::from_secret(keys.last()?.expose_secret());
        let signed = Zeroizing::new(encode(&Header::new(Algorithm::HS256), &claims, &key).ok()?);
        Some([PREFIX, signed.as_str()].concat().into())
    }

    /// What a token opens at this time: the clock is the one that it was made by.
    ///
    /// # Errors
    /// When it proves nothing, or has expired.
    pub(super) fn check(&self, token: &str, now: u64) -> Result<Grant, Denied> {
        let signed = token.strip_prefix(PREFIX).ok_or(Denied::Unauthenticated)?;
        if signed.len() > MAX_TOKEN_BYTES {
            return Err(Denied::Unauthenticated);
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        let proved = self.keys().iter().rev().find_map(|key| {
            let key = DecodingKey::from_secret(key.expose_secret());
            decode::<Claims>(signed, &key, &validation).ok()
        });
        let claims = proved.ok_or(Denied::Unauthenticated)?.claims;
        if claims.exp <= now {
            return Err(Denied::Unauthenticated);
        }
        Ok(Grant(claims))
    }
}

/// What a token that was proved opens.
#[derive(Debug)]
pub(super) struct Grant(Claims);

impl Grant {
    /// The owner that it speaks for, on its upload.
    ///
    /// # Errors
    /// When it is another upload's, or not for this action.
    pub(super) fn for_action(
        &self,
        action: Action,
        id: Option<&UploadId>,
    ) -> Result<Principal, Denied> {
        let claims = &self.0;
        match action {
            Action::Write | Action::Status | Action::Cancel => {}
            Action::Create | Action::List | Action::Erase | Action::Delegate => {
                return Err(Denied::Forbidden(action.scope()));
            }
        }
        if id.is_none_or(|id| id.as_str() != claims.upload) {
            return Err(Denied::OtherUpload);
        }
        Ok(Principal {
            owner: Owner {
                iss: claims.iss.clone(),
                sub: claims.sub.clone(),
            },
            tenant: claims.tenant.clone(),
            tenant_wide: false,
        })
    }
}

fn read_all(dir: &Path) -> Result<Vec<SecretSlice<u8>>, String> {
    let at = |problem: String| format!("--upload-token-keys-dir {}: {problem}", dir.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|cause| at(cause.to_string()))? {
        let path = entry.map_err(|cause| at(cause.to_string()))?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if !name.is_empty() && !name.starts_with('.') && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let mut keys = Vec::new();
    for path in files {
        let text = std::fs::read(&path).map_err(|cause| at(cause.to_string()))?;
        let text = Zeroizing::new(text);
        let key = text.trim_ascii().to_vec();
        if key.len() < MIN_KEY_BYTES {
            let name = path.display();
            return Err(at(format!("{name} needs at least {MIN_KEY_BYTES} bytes")));
        }
        keys.push(key.into());
    }
    if keys.is_empty() {
        return Err(at("there is no key in it".into()));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> UploadId {
        UploadId::from_parts(&"a".parse().unwrap(), 1, n)
    }

    /// No clock of this machine.
    const NOW: u64 = 1_000_000;

    /// covers: S8, S9
    #[test]
    fn a_token_opens_one_upload_until_it_expires_and_keys_rotate() {
        let dir = tempfile::tempdir().unwrap();
        assert!(UploadTokens::read(dir.path()).is_err(), "no key");
        std::fs::write(dir.path().join("2026-01"), "short").unwrap();
        assert!(UploadTokens::read(dir.path()).is_err(), "too short");
        std::fs::write(dir.path().join("2026-01"), "1".repeat(32)).unwrap();
        let tokens = UploadTokens::read(dir.path()).unwrap();
        let owner = Owner {
            iss: "apikey".into(),
            sub: "backend".into(),
        };
        let (mine, other) = (id(1), id(2));
        let sign = |owner: &Owner, expires| {
            let token = tokens.sign(owner, "acme", &mine, expires).unwrap();
            token.expose_secret().to_owned()
        };
        let check = |token: &str, action, id| tokens.check(token, NOW)?.for_action(action, id);
        let token = sign(&owner, NOW + 60);
        let late = sign(&owner, NOW);
        let who = check(&token, Action::Write, Some(&mine)).unwrap();
        assert_eq!((who.owner, who.tenant.as_str()), (owner, "acme"));
        assert!(!who.tenant_wide);
        let bare = &token[PREFIX.len()..];
        let cut = &token[..token.len() - 2];
        let cases = [
            (
                "another upload",
                token.as_str(),
                Action::Write,
                Some(&other),
                Denied::OtherUpload,
            ),
            (
                "no upload",
                &token,
                Action::Status,
                None,
                Denied::OtherUpload,
            ),
            (
                "a create",
                &token,
                Action::Create,
                None,
                Denied::Forbidden("kinora:upload"),
            ),
            (
                "a list",
                &token,
                Action::List,
                Some(&mine),
                Denied::Forbidden("kinora:upload"),
            ),
            (
                "an erase",
                &token,
                Action::Erase,
                Some(&mine),
                Denied::Forbidden("kinora:erase"),
            ),
            (
                "another token",
                &token,
                Action::Delegate,
                Some(&mine),
                Denied::Forbidden("kinora:delegate"),
            ),
            (
                "too late",
                &late,
                Action::Write,
                Some(&mine),
                Denied::Unauthenticated,
            ),
            (
                "no prefix",
                bare,
                Action::Write,
                Some(&mine),
                Denied::Unauthenticated,
            ),
            (
                "cut",
                cut,
                Action::Write,
                Some(&mine),
                Denied::Unauthenticated,
            ),
        ];
        for (name, token, action, id, want) in cases {
            assert_eq!(check(token, action, id).unwrap_err(), want, "{name}");
        }

        std::fs::write(dir.path().join("2026-02"), "2".repeat(32)).unwrap();
        tokens.reload().unwrap();
        let newer = sign(&who_is(), NOW + 60);
        for token in [&token, &newer] {
            assert!(check(token, Action::Status, Some(&mine)).is_ok());
        }
        std::fs::remove_file(dir.path().join("2026-01")).unwrap();
        tokens.reload().unwrap();
        assert!(
            check(&token, Action::Status, Some(&mine)).is_err(),
            "its key went"
        );
        assert!(check(&newer, Action::Status, Some(&mine)).is_ok());
    }

    fn who_is() -> Owner {
        Owner {
            iss: "apikey".into(),
            sub: "backend".into(),
        }
    }
}
