//! The keys of upload tokens: files of a mounted Secret, in the order of their names, and which of them signs. Kubelets
//! show a new key at different times, and a client gives up when its token is refused: so a key proves at once, and signs
//! when every replica has it.

use std::path::Path;
use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice};
use tokio::time::Instant;

const MIN_KEY_BYTES: usize = 32;
/// What one replica has known for so long the others know too: kubelets need up to 90 seconds, and may be late.
pub(super) const SETTLES: Duration = Duration::from_secs(180);

/// A key, and when this process saw it first.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) secret: SecretSlice<u8>,
    since: Instant,
}

/// The last key that has settled. While there is none, as after a start, the last may be new and the one before it is not.
pub(super) fn signing(keys: &[Key], now: Instant) -> Option<&Key> {
    let mut newest_first = keys.iter().rev();
    let settled = newest_first.find(|key| now.duration_since(key.since) >= SETTLES);
    settled.or_else(|| keys.get(keys.len().saturating_sub(2)))
}

/// Reads the keys of a directory; those that are among `former` are as old as they were.
pub(super) fn read_all(dir: &Path, former: &[Key], now: Instant) -> Result<Vec<Key>, String> {
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
        let secret = text.trim_ascii();
        if secret.len() < MIN_KEY_BYTES {
            let name = path.display();
            return Err(at(format!("{name} needs at least {MIN_KEY_BYTES} bytes")));
        }
        let known = former
            .iter()
            .find(|key| key.secret.expose_secret() == secret);
        keys.push(Key {
            secret: secret.to_vec().into(),
            since: known.map_or(now, |key| key.since),
        });
    }
    if keys.is_empty() {
        return Err(at("there is no key in it".into()));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers: S8
    #[test]
    fn a_key_signs_when_it_is_known_everywhere() {
        let start = Instant::now();
        let now = start + 2 * SETTLES;
        let (new, almost, old) = (0, 179, 180);
        let table: [(&str, &[u64], Option<usize>); 9] = [
            ("no key", &[], None),
            ("the only one, at once", &[new], Some(0)),
            ("the last", &[old, old], Some(1)),
            ("not yet the last", &[old, new], Some(0)),
            ("not a moment too early", &[old, old, almost], Some(1)),
            ("two that came together", &[old, new, new], Some(0)),
            ("an earlier one that came later", &[new, old], Some(1)),
            ("a young process: the last may be new", &[new, new], Some(0)),
            ("and the first may go", &[almost, almost, almost], Some(1)),
        ];
        for (name, ages, want) in table {
            let keys: Vec<_> = ages
                .iter()
                .map(|seconds| Key {
                    secret: vec![0; MIN_KEY_BYTES].into(),
                    since: now - Duration::from_secs(*seconds),
                })
                .collect();
            let got = signing(&keys, now);
            let got = got.and_then(|key| keys.iter().position(|k| std::ptr::eq(k, key)));
            assert_eq!(got, want, "{name}");
        }
    }
}
