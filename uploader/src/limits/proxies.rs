//! Which addresses are our own proxies, and whose address a request comes from. Only what a trusted
//! proxy has appended to `X-Forwarded-For` is believed: everything left of it a client can write.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, HeaderName};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A network: an address and the number of its leading bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    bits: u128,
    mask: u128,
}

/// The networks of trusted proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<Network>);

/// IPv4 addresses are taken as IPv6 ones, so that both spellings of one are the same.
fn wide(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Proxies {
    /// Reads networks as `10.0.0.0/8`, `fd00::/8` or single addresses.
    ///
    /// # Errors
    /// Which of them is none.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        texts
            .iter()
            .map(|text| {
                network(text.trim())
                    .ok_or_else(|| format!("`{text}` is no network such as 10.0.0.0/8 or fd00::/8"))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether the address is a trusted proxy's.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = wide(address);
        self.0.iter().any(|net| bits & net.mask == net.bits)
    }

    /// The rightmost address on the way of a request that is no trusted proxy's.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        let hops = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .rev()
            .flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
        for hop in hops {
            if !self.contains(client) {
                break;
            }
            // Whatever is no address was not written by a proxy of ours.
            match address(hop.trim()) {
                Some(hop) => client = hop,
                None => break,
            }
        }
        client.to_canonical()
    }
}

fn network(text: &str) -> Option<Network> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address.parse::<IpAddr>().ok()?, Some(length)),
        None => (text.parse::<IpAddr>().ok()?, None),
    };
    let most = match address {
        IpAddr::V4(_) => Ipv4Addr::BITS,
        IpAddr::V6(_) => Ipv6Addr::BITS,
    };
    let length = match length {
        Some(digits) => digits.parse::<u32>().ok().filter(|n| *n <= most)?,
        None => most,
    };
    let free = most - length;
    let mask = u128::MAX.checked_shl(free).unwrap_or_default();
    Some(Network {
        bits: wide(address) & mask,
        mask,
    })
}

/// An address, with or without brackets and port.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return Some(socket.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers: S7, S10
    #[test]
    fn the_client_is_the_rightmost_hop_that_is_no_proxy_of_ours() {
        let proxies = Proxies::parse(&["10.0.0.0/8".into(), "fd00::/8".into()]).unwrap();
        let cases: [(&str, &str, &[&str], &str); 12] = [
            ("no proxy", "192.0.2.9", &[], "192.0.2.9"),
            (
                "a client that claims",
                "192.0.2.9",
                &["1.2.3.4"],
                "192.0.2.9",
            ),
            ("one proxy", "10.0.0.1", &["192.0.2.9"], "192.0.2.9"),
            (
                "a client that claims behind a proxy",
                "10.0.0.1",
                &["1.2.3.4, 192.0.2.9"],
                "192.0.2.9",
            ),
            (
                "two proxies",
                "10.0.0.1",
                &["1.2.3.4, 192.0.2.9, 10.9.9.9"],
                "192.0.2.9",
            ),
            (
                "one line for each hop",
                "10.0.0.1",
                &["192.0.2.9", "10.9.9.9"],
                "192.0.2.9",
            ),
            ("only proxies", "10.0.0.1", &["10.9.9.9"], "10.9.9.9"),
            ("no header", "10.0.0.1", &[], "10.0.0.1"),
            ("nonsense", "10.0.0.1", &["192.0.2.9, x"], "10.0.0.1"),
            ("a port", "10.0.0.1", &["192.0.2.9:4711"], "192.0.2.9"),
            ("IPv6", "fd00::1", &["[2001:db8::1]:80"], "2001:db8::1"),
            (
                "IPv4 in IPv6",
                "::ffff:10.0.0.1",
                &["::ffff:192.0.2.9"],
                "192.0.2.9",
            ),
        ];
        for (name, peer, lines, want) in cases {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, line.parse().unwrap());
            }
            let got = proxies.client(peer.parse().unwrap(), &headers);
            assert_eq!(got, want.parse::<IpAddr>().unwrap(), "{name}");
        }
    }

    #[test]
    fn networks_are_read_or_named() {
        for (text, want) in [
            ("10.0.0.0/8", true),
            ("10.0.0.1", true),
            ("0.0.0.0/0", true),
            ("::/0", true),
            ("fd00::/8", true),
            ("10.0.0.0/33", false),
            ("10.0.0", false),
            ("example.com", false),
            ("", false),
        ] {
            assert_eq!(Proxies::parse(&[text.into()]).is_ok(), want, "{text}");
        }
        let all = Proxies::parse(&["0.0.0.0/0".into()]).unwrap();
        assert!(all.contains("198.51.100.7".parse().unwrap()));
        assert!(!all.contains("2001:db8::1".parse().unwrap()));
    }
}
