//! How many handshakes each address has under way. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Of one address: most of all places are left to others. A handshake takes milliseconds, so it is enough for all workers of a
/// node, or behind a proxy; whoever comes when it is not is hung up on, and tries again.
pub(super) const OF_ONE_ADDRESS: usize = 32;

/// Places by address; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// Taken until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Places,
    address: IpAddr,
}

impl Places {
    /// A place, while the address has fewer than it may have.
    pub(super) fn take(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut taken = self.taken();
        let count = taken.entry(address).or_default();
        if *count >= OF_ONE_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Place {
            of: self.clone(),
            address,
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.taken();
        let Some(count) = taken.get_mut(&self.address) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            taken.remove(&self.address);
        }
    }
}
