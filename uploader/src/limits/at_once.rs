//! Running requests by key. Only keys that have some are kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::buckets::Key;

/// See the module; clones share the counts.
#[derive(Clone, Debug, Default)]
pub(super) struct AtOnce(Arc<Mutex<HashMap<Key, usize>>>);

/// A running request; leaving scope ends it.
#[derive(Debug)]
pub(super) struct Running(Option<(Key, AtOnce)>);

impl AtOnce {
    /// One more for this key; none when it has `most`, of which 0 is no limit.
    pub(super) fn enter(&self, key: Key, most: usize) -> Option<Running> {
        if most == 0 {
            return Some(Running(None));
        }
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Running(Some((key, self.clone()))))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some((key, all)) = &self.0 else { return };
        let mut counts = all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::buckets::key_of;
    use super::*;

    #[test]
    fn so_many_requests_run_at_once_and_nothing_is_kept_after_them() {
        let all = AtOnce::default();
        let (a, b) = (key_of(&["a"]), key_of(&["b"]));
        let first = all.enter(a, 2).unwrap();
        let second = all.enter(a, 2).unwrap();
        assert!(all.enter(a, 2).is_none());
        assert!(all.enter(b, 2).is_some());
        drop(first);
        assert!(all.enter(a, 2).is_some());
        drop(second);
        assert!(all.0.lock().unwrap().is_empty());
        assert!((0..100).all(|_| all.enter(a, 0).is_some()), "0 is no limit");
    }
}
