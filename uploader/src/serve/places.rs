//! Places for connections: so many in all, so many for one address. A full house has a few spare ones, from which all but
//! probes are turned away; so is an address that has all of its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{Client, Proxies};

/// Connections beyond the limit that are looked at at a time.
const SPARE: usize = 64;

/// Limits on connections.
#[derive(Clone, Debug)]
pub struct Caps {
    /// All connections.
    pub all: usize,
    /// Those of one address; 0: as many as there are.
    pub of_one_address: usize,
    /// Addresses that carry many clients each, and are not counted.
    pub proxies: Proxies,
    /// A connection without a request is closed after this: later than proxies let go of it, so that none of them sends a
    /// request into the end.
    pub idle: Duration,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            all: 10_000,
            of_one_address: 0,
            proxies: Proxies::default(),
            idle: Duration::from_secs(75),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Places {
    caps: Caps,
    all: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    taken: Arc<Mutex<HashMap<Client, usize>>>,
}

/// A connection's place; leaving scope frees it.
#[derive(Debug)]
pub(super) struct Place {
    _any: OwnedSemaphorePermit,
    of: Option<(Client, Places)>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    House,
    Address,
}

impl Places {
    pub(super) fn new(caps: Caps) -> Self {
        Self {
            all: Arc::new(Semaphore::new(caps.all)),
            spare: Arc::new(Semaphore::new(SPARE)),
            caps,
            taken: Arc::default(),
        }
    }

    /// Waits for a spare place; the next connection needs one if the house is full.
    pub(super) async fn spare(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.spare).acquire_owned().await {
            Ok(place) => place,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// A place for a connection of this address.
    pub(super) fn of(&self, address: IpAddr) -> Result<Place, Full> {
        let any = Arc::clone(&self.all).try_acquire_owned();
        let any = any.map_err(|_| Full::House)?;
        let most = self.caps.of_one_address;
        if most == 0 || self.caps.proxies.contains(address) {
            return Ok(Place {
                _any: any,
                of: None,
            });
        }
        let client = Client::of(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = taken.entry(client).or_default();
        if *mine >= most {
            return Err(Full::Address);
        }
        *mine += 1;
        Ok(Place {
            _any: any,
            of: Some((client, self.clone())),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((client, places)) = &self.of else {
            return;
        };
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mine) = taken.get_mut(client) {
            *mine -= 1;
            if *mine == 0 {
                taken.remove(client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers: F6, S7
    #[test]
    fn one_address_cannot_take_every_place() {
        let caps = Caps {
            all: 10,
            of_one_address: 2,
            proxies: Proxies::parse(&["10.0.0.0/8".into()]).unwrap(),
            ..Caps::default()
        };
        let places = Places::new(caps);
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut all = Vec::new();
        for (address, want) in [
            ("192.0.2.1", None),
            ("192.0.2.1", None),
            ("192.0.2.1", Some(Full::Address)),
            ("192.0.2.2", None),
            ("::ffff:192.0.2.2", None),
            ("192.0.2.2", Some(Full::Address)),
            ("10.1.1.1", None),
            ("10.1.1.1", None),
            ("10.1.1.1", None),
            ("2001:db8:0:1::1", None),
            ("2001:db8:0:1:ffff::2", None),
            ("2001:db8:0:1::3", Some(Full::Address)),
            ("2001:db8:0:2::1", None),
            ("192.0.2.3", Some(Full::House)),
        ] {
            let place = places.of(at(address));
            assert_eq!(place.as_ref().err().copied(), want, "{address}");
            all.extend(place);
        }
        assert_eq!(places.all.available_permits(), 0);
        all.clear();
        assert_eq!(places.all.available_permits(), 10);
        assert!(places.taken.lock().unwrap().is_empty(), "nothing is kept");
    }
}
