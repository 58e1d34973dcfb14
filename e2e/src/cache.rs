//! Content-keyed cache outside the clone: what is slow to build or download is made once per content of its inputs.
//!
//! An entry `<tool>-<sha256 of inputs>/` appears by rename, so it is whole or absent; a lock file keeps two builders
//! from doing the work twice. Entries are never changed, so anybody may delete any of them at any time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// `$KINORA_CACHE`, or `kinora` in the user's cache folder.
#[must_use]
pub fn root() -> PathBuf {
    let from_env = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    from_env("KINORA_CACHE")
        .or_else(|| from_env("XDG_CACHE_HOME").map(|folder| folder.join("kinora")))
        .or_else(|| from_env("HOME").map(|folder| folder.join(".cache/kinora")))
        .unwrap_or_else(|| PathBuf::from("/var/cache/kinora"))
}

/// What an entry was made of; any difference makes another entry.
#[derive(Clone, Debug)]
pub struct Key {
    tool: String,
    hash: Sha256,
}

impl Key {
    /// An entry of this tool.
    #[must_use]
    pub fn new(tool: &str) -> Self {
        Self {
            tool: tool.to_owned(),
            hash: Sha256::new(),
        }
    }

    /// Adds an input. Length and name are hashed too, so inputs cannot run into one another.
    #[must_use]
    pub fn with(mut self, name: &str, content: &[u8]) -> Self {
        self.hash.update(format!("{name}\0{}\0", content.len()));
        self.hash.update(content);
        self
    }

    /// Adds a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn with_file(self, path: &Path) -> Result<Self> {
        let content = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(self.with(&name, &content))
    }

    /// Folder name of the entry.
    #[must_use]
    pub fn entry(&self) -> String {
        format!(
            "{}-{}",
            self.tool,
            hex::encode(self.hash.clone().finalize())
        )
    }
}

/// The folder of an entry, if it was made already.
#[must_use]
pub fn lookup(key: &Key) -> Option<PathBuf> {
    Some(root().join(key.entry())).filter(|folder| folder.is_dir())
}

/// The folder of an entry; `build` fills a temporary folder when it is not there yet.
///
/// # Errors
/// Those of `build`, or the cache folder cannot be written.
pub fn get(key: &Key, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    get_in(&root(), key, build)
}

fn get_in(root: &Path, key: &Key, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = root.join(key.entry());
    if folder.is_dir() {
        return Ok(folder);
    }
    fs::create_dir_all(root)
        .with_context(|| format!("make the cache folder {}", root.display()))?;
    let lock_path = root.join(format!(".{}.lock", key.entry()));
    let lock = File::create(&lock_path).with_context(|| format!("make {}", lock_path.display()))?;
    lock.lock()
        .with_context(|| format!("lock {}", lock_path.display()))?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let scratch = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(root)
        .context("make a folder in the cache")?;
    build(scratch.path())?;
    fs::rename(scratch.keep(), &folder).with_context(|| format!("publish {}", folder.display()))?;
    let _ = fs::remove_file(&lock_path);
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_built_once_and_a_failed_build_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let key = Key::new("tool").with("source", b"one");
        let failed = get_in(root.path(), &key, |_| anyhow::bail!("no compiler"));
        assert!(failed.is_err());
        assert!(!root.path().join(key.entry()).exists());

        let folder = get_in(root.path(), &key, |at| Ok(fs::write(at.join("bin"), "x")?)).unwrap();
        assert_eq!(fs::read(folder.join("bin")).unwrap(), b"x");
        let again = get_in(root.path(), &key, |_| anyhow::bail!("built twice")).unwrap();
        assert_eq!(again, folder);
    }

    #[test]
    fn keys_differ_by_name_and_by_content() {
        let keys = [
            Key::new("tool").with("a", b"bc"),
            Key::new("tool").with("ab", b"c"),
            Key::new("tool").with("a", b"b").with("c", b""),
            Key::new("other").with("a", b"bc"),
        ];
        let entries: std::collections::BTreeSet<String> = keys.iter().map(Key::entry).collect();
        assert_eq!(entries.len(), keys.len());
    }
}
