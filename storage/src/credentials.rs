//! Credentials from files, as a mounted Secret shows them, read again when they change. Never logged.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use crate::error::{StoreError, StoreErrorKind};

const KEY_ID: &str = "access-key-id";
const SECRET: &str = "secret-access-key";
const TOKEN: &str = "session-token";

/// Between two looks at the files: a mounted Secret is a minute behind itself, and every request asks.
const EVERY: Duration = Duration::from_secs(1);

/// Modification times of the three files; equal stamps mean nothing was rotated.
type Stamp = [Option<SystemTime>; 3];

struct Held {
    stamp: Stamp,
    credentials: Credentials,
    looked: Instant,
}

/// A directory of credential files.
pub(crate) struct FileCredentials {
    dir: PathBuf,
    held: Mutex<Option<Held>>,
}

impl std::fmt::Debug for FileCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileCredentials")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl FileCredentials {
    pub(crate) fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            held: Mutex::new(None),
        }
    }

    /// The current credentials. A rotation that leaves a file missing or empty for a moment keeps the former ones.
    pub(crate) fn load(&self) -> Result<Credentials, StoreError> {
        self.load_at(Instant::now())
    }

    fn load_at(&self, now: Instant) -> Result<Credentials, StoreError> {
        let mut held = self
            .held
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(held) = held.as_mut() {
            if now.duration_since(held.looked) < EVERY {
                return Ok(held.credentials.clone());
            }
            held.looked = now;
            if held.stamp == self.stamp() {
                return Ok(held.credentials.clone());
            }
        }
        match self.read_steadily() {
            Ok((stamp, credentials)) => {
                if held.is_some() {
                    tracing::info!(dir = %self.dir.display(), "store credentials changed and were read again");
                }
                *held = Some(Held {
                    stamp,
                    credentials: credentials.clone(),
                    looked: now,
                });
                Ok(credentials)
            }
            Err(error) => match held.as_ref() {
                Some(former) => {
                    tracing::warn!(%error, "store credentials changed but cannot be read; keeping the former ones");
                    Ok(former.credentials.clone())
                }
                None => Err(error),
            },
        }
    }

    /// Reads all files between two equal stamps, so that an id never meets the secret of another.
    fn read_steadily(&self) -> Result<(Stamp, Credentials), StoreError> {
        let mut before = self.stamp();
        for _ in 0..5 {
            let credentials = self.read()?;
            let after = self.stamp();
            if after == before {
                return Ok((after, credentials));
            }
            before = after;
        }
        Err(self.error("the files keep changing"))
    }

    fn read(&self) -> Result<Credentials, StoreError> {
        let required = |name: &str| match read_trimmed(&self.dir.join(name)) {
            Ok(text) if text.expose_secret().is_empty() => {
                Err(self.error(&format!("file {name} is empty")))
            }
            Ok(text) => Ok(text),
            Err(cause) => Err(self.error(&format!("file {name}: {cause}"))),
        };
        let (id, secret) = (required(KEY_ID)?, required(SECRET)?);
        let token = read_trimmed(&self.dir.join(TOKEN))
            .ok()
            .filter(|token| !token.expose_secret().is_empty());
        // They keep the secret wiped and redacted as we do; the id is none.
        Ok(Credentials::new(
            id.expose_secret(),
            secret.expose_secret(),
            token.map(|token| token.expose_secret().to_owned()),
            None,
            "kinora-files",
        ))
    }

    fn stamp(&self) -> Stamp {
        [KEY_ID, SECRET, TOKEN].map(|name| {
            self.dir
                .join(name)
                .metadata()
                .and_then(|meta| meta.modified())
                .ok()
        })
    }

    fn error(&self, what: &str) -> StoreError {
        StoreError::new(
            StoreErrorKind::Credentials,
            format!("read store credentials in {}", self.dir.display()),
            format!(
                "{what}; check --store-credentials-dir: it needs the files {KEY_ID} and {SECRET}"
            ),
        )
    }
}

fn read_trimmed(path: &Path) -> std::io::Result<SecretString> {
    let text = Zeroizing::new(std::fs::read_to_string(path)?);
    Ok(text.trim().into())
}

impl ProvideCredentials for FileCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.load().map_err(CredentialsError::provider_error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str, second: u64) {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }

    fn loaded(files: &FileCredentials, now: Instant) -> (String, String, Option<String>) {
        let c = files.load_at(now).unwrap();
        (
            c.access_key_id().into(),
            c.secret_access_key().into(),
            c.session_token().map(str::to_owned),
        )
    }

    /// covers: F16
    #[test]
    fn a_rotation_is_seen_within_a_second() {
        let start = Instant::now();
        let dir = tempfile::tempdir().unwrap();
        let files = FileCredentials::new(dir.path());
        write(dir.path(), KEY_ID, "id1\n", 1);
        write(dir.path(), SECRET, " s1 \n", 1);
        let before = ("id1".into(), "s1".into(), None);
        assert_eq!(loaded(&files, start), before);
        write(dir.path(), KEY_ID, "id2", 2);
        write(dir.path(), SECRET, "s2", 2);
        write(dir.path(), TOKEN, "t2", 2);
        assert_eq!(loaded(&files, start + EVERY / 2), before);
        assert_eq!(
            loaded(&files, start + EVERY),
            ("id2".into(), "s2".into(), Some("t2".into()))
        );
    }

    #[test]
    fn a_half_written_rotation_keeps_the_former_credentials() {
        let start = Instant::now();
        let dir = tempfile::tempdir().unwrap();
        let files = FileCredentials::new(dir.path());
        write(dir.path(), KEY_ID, "id1", 1);
        write(dir.path(), SECRET, "s1", 1);
        assert_eq!(loaded(&files, start).0, "id1");
        write(dir.path(), SECRET, "", 2);
        assert_eq!(loaded(&files, start + EVERY).1, "s1");
        write(dir.path(), SECRET, "s2", 3);
        assert_eq!(loaded(&files, start + EVERY * 2).1, "s2");
    }

    #[test]
    fn a_missing_file_is_named_with_the_flag() {
        let dir = tempfile::tempdir().unwrap();
        let error = FileCredentials::new(dir.path()).load().unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Credentials);
        let text = error.to_string();
        assert!(
            text.contains("access-key-id") && text.contains("--store-credentials-dir"),
            "{text}"
        );
    }

    /// covers: T27
    #[test]
    fn debug_and_errors_hold_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), KEY_ID, "id1", 1);
        write(dir.path(), SECRET, "hush-hush", 1);
        let files = FileCredentials::new(dir.path());
        files.load().unwrap();
        assert!(!format!("{files:?}").contains("hush"));
    }
}
