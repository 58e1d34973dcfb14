//! The limits that can be set. 0 is no limit; so are all of a client's by default, because what is
//! one client (a phone, or the backend of a million phones) only the one who installs can know.

use serde::Deserialize;

use super::Proxies;

/// All limits.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Networks of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    /// Connections of one replica.
    pub connections: usize,
    /// Of one address, or one /64 network of IPv6.
    pub address: AddressLimits,
    /// Of one owner: an API key, a subject of an issuer, a ServiceAccount.
    pub owner: OwnerLimits,
}

/// Limits of an address, by each replica.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AddressLimits {
    /// Connections at a time; trusted proxies are not counted.
    pub connections: usize,
    /// Requests a second, with bursts of two seconds' worth.
    pub requests_per_second: u32,
}

/// Limits of an owner.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OwnerLimits {
    /// Requests a second, with bursts of two seconds' worth, by each replica.
    pub requests_per_second: u32,
    /// Requests at a time, by each replica.
    pub requests_at_once: usize,
    /// Uploads that were begun here and are not at their end, by each replica.
    pub open_uploads: usize,
    /// New uploads a day (UTC), over all replicas.
    pub uploads_per_day: u64,
    /// Bytes sent a day (UTC), over all replicas.
    pub bytes_per_day: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            connections: 10_000,
            address: AddressLimits::default(),
            owner: OwnerLimits::default(),
        }
    }
}

impl LimitsConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// Which is wrong.
    pub fn check(&self) -> Result<(), String> {
        Proxies::parse(&self.trusted_proxies).map_err(|p| format!("trustedProxies: {p}"))?;
        if self.connections == 0 {
            return Err("connections must be above 0".into());
        }
        // Each is looked up in the store before more are refused.
        if self.owner.open_uploads > 1000 {
            return Err("owner.openUploads must be 1000 or less".into());
        }
        Ok(())
    }
}
