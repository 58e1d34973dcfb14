//! Finished work by idempotency key, so that another attempt of the same job costs uploads, not another transcode.
//!
//! Bounded in entries and bytes; what falls out is simply made again. Dropping an entry deletes its files.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

/// One output on disk.
#[derive(Clone, Debug)]
pub struct MadeFile {
    /// In [`Made::dir`].
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Lower-case hex.
    pub sha256: String,
    /// Base64.
    pub md5: String,
    /// For the PUT, if the URL's signed headers say nothing else.
    pub content_type: &'static str,
}

/// All outputs of one source.
#[derive(Debug)]
pub struct Made {
    /// Holds the files; deleted with this.
    pub dir: TempDir,
    /// By output name.
    pub files: BTreeMap<String, MadeFile>,
    /// Of the source.
    pub duration_seconds: Option<f64>,
}

impl Made {
    fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }
}

/// The finished work that is still on disk, oldest first.
#[derive(Debug)]
pub struct Memory {
    entries: Mutex<VecDeque<(String, Arc<Made>)>>,
    max_entries: usize,
    max_bytes: u64,
}

impl Memory {
    /// Keeps at most so much.
    #[must_use]
    pub fn new(max_entries: usize, max_bytes: u64) -> Self {
        Self {
            entries: Mutex::default(),
            max_entries,
            max_bytes,
        }
    }

    /// What was made for this key, if it covers all the names.
    pub fn recall<'a>(
        &self,
        key: &str,
        mut names: impl Iterator<Item = &'a str>,
    ) -> Option<Arc<Made>> {
        let entries = self.lock();
        let (_, made) = entries.iter().find(|(known, _)| known == key)?;
        names
            .all(|name| made.files.contains_key(name))
            .then(|| Arc::clone(made))
    }

    /// Keeps this for later calls with the same key. An empty key stands for nothing and is not kept.
    pub fn keep(&self, key: &str, made: &Arc<Made>) {
        if key.is_empty() || made.bytes() > self.max_bytes {
            return;
        }
        let mut entries = self.lock();
        entries.retain(|(known, _)| known != key);
        entries.push_back((key.to_owned(), Arc::clone(made)));
        let mut bytes: u64 = entries.iter().map(|(_, made)| made.bytes()).sum();
        while entries.len() > self.max_entries || bytes > self.max_bytes {
            let Some((_, oldest)) = entries.pop_front() else {
                return;
            };
            bytes -= oldest.bytes();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(String, Arc<Made>)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(size: u64) -> Arc<Made> {
        let dir = tempfile::tempdir().unwrap();
        let file = MadeFile {
            path: dir.path().join("video"),
            size,
            sha256: String::new(),
            md5: String::new(),
            content_type: "video/mp4",
        };
        Arc::new(Made {
            dir,
            files: BTreeMap::from([("video".to_owned(), file)]),
            duration_seconds: None,
        })
    }

    #[test]
    fn the_oldest_leave_when_entries_or_bytes_are_too_many_and_their_files_go() {
        let memory = Memory::new(2, 100);
        let first = made(10);
        let path = first.dir.path().to_owned();
        memory.keep("a", &first);
        drop(first);
        memory.keep("b", &made(10));
        assert!(path.exists());
        memory.keep("c", &made(10));
        assert!(memory.recall("a", ["video"].into_iter()).is_none());
        assert!(!path.exists());
        memory.keep("d", &made(95));
        assert!(memory.recall("c", ["video"].into_iter()).is_none());
        assert!(memory.recall("d", ["video"].into_iter()).is_some());
    }

    #[test]
    fn what_lacks_an_output_or_has_no_key_or_is_too_large_is_not_recalled() {
        let memory = Memory::new(2, 100);
        memory.keep("a", &made(10));
        memory.keep("", &made(10));
        memory.keep("big", &made(101));
        assert!(
            memory
                .recall("a", ["video", "thumbnail"].into_iter())
                .is_none()
        );
        assert!(memory.recall("", ["video"].into_iter()).is_none());
        assert!(memory.recall("big", ["video"].into_iter()).is_none());
    }
}
