//! Upload tokens: a backend asks for one, and a phone uses it alone, for one upload and until it
//! expires. Nothing is stored: a token is a signed statement (HMAC-SHA-256). One of the keys signs, all of
//! them prove, so keys can be rotated.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use kinora_storage::UploadId;
use kinora_upload_engine::{Owner, Principal};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::token_keys::{Key, read_all, signing};
use super::{Action, Denied, Now};

/// How a token begins, so that people and scanners know it for a secret.
pub(super) const PREFIX: &str = "kut_";
const AUDIENCE: &str = "kinora-upload";
const MAX_TOKEN_BYTES: usize = 4 << 10;
/// Whoever is told 401 comes no more.
const OFF: Denied = Denied::Unavailable("the clock that tells whether a token has expired is off");
/// An upload lives no longer.
pub const MAX_SECONDS: u64 = 7 * 24 * 3600;

/// Signs and proves upload tokens; clones share the keys.
#[derive(Clone, Debug)]
pub struct UploadTokens {
    dir: PathBuf,
    keys: Arc<RwLock<Arc<Vec<Key>>>>,
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
    pub fn read(dir: &Path, now: Instant) -> Result<Self, String> {
        let keys = read_all(dir, &[], now)?;
        Ok(Self {
            dir: dir.to_owned(),
            keys: Arc::new(RwLock::new(Arc::new(keys))),
        })
    }

    /// Reads the directory again; a broken one leaves the keys as they were.
    ///
    /// # Errors
    /// As `read`.
    pub fn reload(&self, now: Instant) -> Result<(), String> {
        let keys = Arc::new(read_all(&self.dir, &self.keys(), now)?);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    fn keys(&self) -> Arc<Vec<Key>> {
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
        now: Instant,
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
        let key = EncodingKey::from_secret(signing(&keys, now)?.secret.expose_secret());
        let signed = Zeroizing::new(encode(&Header::new(Algorithm::HS256), &claims, &key).ok()?);
        Some([PREFIX, signed.as_str()].concat().into())
    }

    /// What a token opens at this time: the clock is the one that it was made by.
    ///
    /// # Errors
    /// When it proves nothing, or has expired; by a clock that is off that is not known.
    pub(super) fn check(&self, token: &str, now: Now) -> Result<Grant, Denied> {
        let signed = token.strip_prefix(PREFIX).ok_or(Denied::Unauthenticated)?;
        if signed.len() > MAX_TOKEN_BYTES {
            return Err(Denied::Unauthenticated);
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        let proved = self.keys().iter().rev().find_map(|key| {
            let key = DecodingKey::from_secret(key.secret.expose_secret());
            decode::<Claims>(signed, &key, &validation).ok()
        });
        let claims = proved.ok_or(Denied::Unauthenticated)?.claims;
        if claims.exp <= now.seconds {
            return Err(if now.is_off {
                OFF
            } else {
                Denied::Unauthenticated
            });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::token_keys::SETTLES;

    fn id(n: u128) -> UploadId {
        UploadId::from_parts(&"a".parse().unwrap(), 1, n)
    }

    /// No clock of this machine.
    const NOW: u64 = 1_000_000;

    fn now(is_off: bool) -> Now {
        Now {
            seconds: NOW,
            is_off,
        }
    }

    /// covers: S8, S9
    #[test]
    fn a_token_opens_one_upload_until_it_expires_and_keys_rotate() {
        let dir = tempfile::tempdir().unwrap();
        let start = Instant::now();
        assert!(UploadTokens::read(dir.path(), start).is_err(), "no key");
        std::fs::write(dir.path().join("2026-01"), "short").unwrap();
        assert!(UploadTokens::read(dir.path(), start).is_err(), "too short");
        std::fs::write(dir.path().join("2026-01"), "1".repeat(32)).unwrap();
        let tokens = UploadTokens::read(dir.path(), start).unwrap();
        let owner = who_is();
        let (mine, other) = (id(1), id(2));
        let sign = |expires, now| sign(&tokens, expires, now);
        let check =
            |token: &str, action, id| tokens.check(token, now(false))?.for_action(action, id);
        let token = sign(NOW + 60, start);
        let late = sign(NOW, start);
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

        for (name, token, want) in [
            ("a good one", token.as_str(), None),
            ("too late", &late, Some(OFF)),
            ("cut", cut, Some(Denied::Unauthenticated)),
        ] {
            let got = tokens.check(token, now(true)).err();
            assert_eq!(got, want, "{name}, by a clock that is off");
        }

        std::fs::write(dir.path().join("2026-02"), "2".repeat(32)).unwrap();
        tokens.reload(start).unwrap();
        let newer = sign(NOW + 60, start + SETTLES);
        for token in [&token, &newer] {
            assert!(check(token, Action::Status, Some(&mine)).is_ok());
        }
        std::fs::remove_file(dir.path().join("2026-01")).unwrap();
        tokens.reload(start + SETTLES).unwrap();
        assert!(
            check(&token, Action::Status, Some(&mine)).is_err(),
            "its key went"
        );
        assert!(check(&newer, Action::Status, Some(&mine)).is_ok());
    }

    /// covers: S8, F59
    #[test]
    fn what_one_replica_signs_the_others_prove_though_they_see_a_new_key_later() {
        let start = Instant::now();
        let replica = |keys: &[&str]| {
            let dir = tempfile::tempdir().unwrap();
            for name in keys {
                add_key(dir.path(), name);
            }
            let tokens = UploadTokens::read(dir.path(), start).unwrap();
            (dir, tokens)
        };
        let (of_a, a) = replica(&["2026-01"]);
        let (of_b, b) = replica(&["2026-01"]);
        // One that starts when the new key is there, and has not seen the time before it.
        let (_of_c, c) = replica(&["2026-01", "2026-02"]);
        let proves = |by: &UploadTokens, token: &str| by.check(token, now(false)).is_ok();
        assert!(proves(&b, &sign(&a, NOW + 60, start)), "the only key");
        let soon = start + SETTLES / 2;
        add_key(of_a.path(), "2026-02");
        for at in [soon, start + SETTLES] {
            a.reload(at).unwrap();
            assert!(proves(&b, &sign(&a, NOW + 60, at)), "a new key was read");
        }
        assert!(proves(&b, &sign(&c, NOW + 60, soon)), "a new replica");

        let settled = soon + SETTLES;
        for by in [&a, &c] {
            let newer = sign(by, NOW + 60, settled);
            assert!(!proves(&b, &newer), "the new key signs");
            assert!(proves(&a, &newer) && proves(&c, &newer));
        }
        let newer = sign(&a, NOW + 60, settled);
        add_key(of_b.path(), "2026-02");
        b.reload(settled).unwrap();
        assert!(proves(&b, &newer), "a new key proves at once");
    }

    fn add_key(dir: &Path, name: &str) {
        std::fs::write(dir.join(name), name.repeat(5)).unwrap();
    }

    fn sign(by: &UploadTokens, expires: u64, now: Instant) -> String {
        let token = by.sign(&who_is(), "acme", &id(1), expires, now).unwrap();
        token.expose_secret().to_owned()
    }

    fn who_is() -> Owner {
        Owner {
            iss: "apikey".into(),
            sub: "backend".into(),
        }
    }
}
