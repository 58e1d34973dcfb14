//! How much one client may do: by its address before anybody knows who it is, by its owner after.
//! Everything here is bounded: what is forgotten is what was used longest ago. Rates and open work
//! are counted by each replica; the quotas of a day are summed over all of them.

mod at_once;
mod buckets;
mod config;
mod open;
mod proxies;
mod quota;
mod seat;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::HeaderMap;
use kinora_storage::{Store, UploadId, keys};
use kinora_upload_engine::Principal;

pub use config::{AddressLimits, LimitsConfig, OwnerLimits};
pub use proxies::Proxies;
pub use quota::{Quotas, bytes_of_day};
pub use seat::{Counted, Seat, seat};

use crate::auth::Action;
use crate::metrics::Limit;
use crate::serve::Caps;
use at_once::AtOnce;
use buckets::{Buckets, Key, key_of};
use open::OpenUploads;

/// Owners and addresses that are remembered.
const REMEMBERED: usize = 16_384;

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Which.
    pub limit: Limit,
    /// When to try again.
    pub after: Duration,
}

/// Why a request may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A limit is reached.
    Limit(Reached),
    /// What was used cannot be read: whoever may be over the limit writes nothing.
    Unknown,
}

/// The limits of one replica.
#[derive(Debug)]
pub struct Limits {
    proxies: Proxies,
    config: LimitsConfig,
    address_rate: Buckets,
    owner_rate: Buckets,
    at_once: AtOnce,
    open: OpenUploads,
    quotas: Quotas,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(LimitsConfig::default(), Proxies::default())
    }
}

impl Limits {
    /// From the configuration.
    #[must_use]
    pub fn new(config: LimitsConfig, proxies: Proxies) -> Self {
        Self {
            address_rate: Buckets::new(config.address.requests_per_second, REMEMBERED),
            owner_rate: Buckets::new(config.owner.requests_per_second, REMEMBERED),
            at_once: AtOnce::default(),
            open: OpenUploads::new(REMEMBERED),
            quotas: Quotas::new(&config.owner, REMEMBERED),
            proxies,
            config,
        }
    }

    /// Limits on connections.
    #[must_use]
    pub fn caps(&self) -> Caps {
        Caps {
            all: self.config.connections,
            of_one_address: self.config.address.connections,
            proxies: self.proxies.clone(),
            ..Caps::default()
        }
    }

    /// Networks of our own proxies.
    #[must_use]
    pub fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// The quotas, to be shared with the other replicas.
    #[must_use]
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Whether a request from this address may be looked at.
    ///
    /// # Errors
    /// The limit that was reached.
    pub fn address(&self, peer: IpAddr, headers: &HeaderMap) -> Result<(), Reached> {
        let client = self.proxies.client(peer, headers);
        self.address_rate
            .take(Client::of(client).key())
            .map_err(|after| Reached {
                limit: Limit::AddressRate,
                after,
            })
    }

    /// Whether this caller may go on with what it asks for; what it uses is written to the seat.
    ///
    /// # Errors
    /// What stops it.
    pub async fn owner(
        &self,
        who: &Principal,
        action: Action,
        bytes: u64,
        store: &Store,
    ) -> Result<(), Stop> {
        let owner = keys::owner_hash(&who.owner.iss, &who.owner.sub);
        let key = key_of(&[&who.tenant, &owner]);
        let seat = seat();
        if seat.as_ref().is_none_or(|seat| seat.enters()) {
            self.enter(key, seat.as_deref())?;
        }
        let brings = action == Action::Create || (action == Action::Write && bytes > 0);
        if !brings {
            return Ok(());
        }
        if action == Action::Create && self.config.owner.open_uploads > 0 {
            let room = self
                .open
                .has_room(key, self.config.owner.open_uploads, store);
            if !room.await.map_err(|_| Stop::Unknown)? {
                return Err(Stop::Limit(Reached {
                    limit: Limit::OwnerOpen,
                    after: Duration::from_secs(60),
                }));
            }
        }
        let account = self.quotas.admit(&owner, action, bytes, store).await?;
        if let Some(seat) = seat {
            seat.charge(key, action, account);
        }
        Ok(())
    }

    /// One more request of this owner.
    fn enter(&self, key: Key, seat: Option<&Seat>) -> Result<(), Stop> {
        let reached = |limit, after| Stop::Limit(Reached { limit, after });
        self.owner_rate
            .take(key)
            .map_err(|after| reached(Limit::OwnerRate, after))?;
        let most = self.config.owner.requests_at_once;
        let place = self.at_once.enter(key, most);
        let place = place.ok_or(reached(Limit::OwnerAtOnce, Duration::from_secs(1)))?;
        if let Some(seat) = seat {
            seat.hold(place);
        }
        Ok(())
    }

    /// Counts what a create made: an upload that goes on under this id, or a whole file.
    pub fn created(&self, seat: &Seat, upload: Option<&UploadId>) {
        if let Some(key) = seat.creates() {
            seat.count_upload();
            if let Some(id) = upload.filter(|_| self.config.owner.open_uploads > 0) {
                self.open.add(key, id.clone());
            }
        }
    }
}

/// What one client has of addresses: one of IPv4, a /64 network of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// An address.
    V4(Ipv4Addr),
    /// The first half of an address.
    V6(u64),
}

impl Client {
    /// The client that has this address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4),
            // The upper half fits.
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 64) as u64),
        }
    }

    fn key(self) -> Key {
        match self {
            Self::V4(address) => key_of(&[&address.to_string()]),
            Self::V6(network) => key_of(&[&network.to_string(), "/64"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart_by_what_one_client_has() {
        let key = |text: &str| Client::of(text.parse().unwrap()).key();
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::2"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
    }

    /// covers: S7
    #[test]
    fn a_client_behind_a_proxy_is_limited_and_its_neighbour_is_not() {
        let mut config = LimitsConfig::default();
        config.address.requests_per_second = 1;
        let proxies = Proxies::parse(&["10.0.0.0/8".into()]).unwrap();
        let limits = Limits::new(config, proxies);
        let from = |client: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", client.parse().unwrap());
            limits.address("10.0.0.1".parse().unwrap(), &headers)
        };
        let reached = (0..50).find_map(|_| from("192.0.2.1").err()).unwrap();
        assert_eq!(reached.limit, Limit::AddressRate);
        assert!(reached.after > Duration::ZERO);
        assert!(
            from("6.6.6.6, 192.0.2.1").is_err(),
            "a claimed hop helps nobody"
        );
        assert!(from("192.0.2.2").is_ok());
    }
}
