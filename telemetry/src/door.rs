//! A listener with places: so many connections in all, so many of one address, so that whoever takes all of its own keeps no
//! other out.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// After a failed accept (no file descriptors, most likely).
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections while there are places for them; more wait in the listener's backlog.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    places: Places,
}

/// Places by address; clones share them.
#[derive(Clone, Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    of_one_address: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// Taken until it is dropped.
#[derive(Debug)]
pub struct Place {
    _any: OwnedSemaphorePermit,
    of: Places,
    address: IpAddr,
}

impl Door {
    /// With `all` places, of which an address may have `of_one_address`.
    #[must_use]
    pub fn new(listener: TcpListener, all: usize, of_one_address: usize) -> Self {
        let places = Places::new(all, of_one_address);
        Self { listener, places }
    }

    /// The next connection that has a place. Those of an address that has all of its own are closed at once, and what
    /// cannot be accepted is tried again.
    pub async fn next(&self) -> (TcpStream, SocketAddr, Place) {
        loop {
            let any = self.places.any().await;
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    if let Some(place) = self.places.take(any, peer.ip()) {
                        return (stream, peer, place);
                    }
                    tracing::debug!(address = %peer.ip(), "too many connections at once of one address");
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Places {
    /// `all` of them, of which an address may have `of_one_address`.
    #[must_use]
    pub fn new(all: usize, of_one_address: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            of_one_address,
            taken: Arc::default(),
        }
    }

    /// A place for this address now, if there is one.
    #[must_use]
    pub fn try_take(&self, address: IpAddr) -> Option<Place> {
        let any = Arc::clone(&self.all).try_acquire_owned().ok()?;
        self.take(any, address)
    }

    /// Waits for a place, whoever it will be for.
    async fn any(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.all).acquire_owned().await {
            Ok(any) => any,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Makes it this address's, while that has fewer than it may have.
    fn take(&self, any: OwnedSemaphorePermit, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut taken = self.taken();
        let count = taken.entry(address).or_default();
        if *count >= self.of_one_address {
            return None;
        }
        *count += 1;
        Some(Place {
            _any: any,
            of: self.clone(),
            address,
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_has_few_of_all_places_and_nothing_is_kept_of_those_who_left() {
        let places = Places::new(4, 2);
        let mut all = Vec::new();
        for (address, want) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.1", false),
            ("2001:db8::1", true),
            ("2001:db8::2", true),
        ] {
            let place = places.take(places.any().await, address.parse().unwrap());
            assert_eq!(place.is_some(), want, "{address}");
            all.extend(place);
        }
        assert_eq!(places.all.available_permits(), 0, "the next one waits");
        assert!(places.try_take("192.0.2.9".parse().unwrap()).is_none());
        all.clear();
        assert_eq!(places.all.available_permits(), 4);
        assert!(places.taken().is_empty(), "nothing is kept");
    }
}
