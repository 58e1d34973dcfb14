//! Whether an informational answer (104) reaches the client of a request. A proxy that does not know it may take it for
//! the final one, and then the client waits for ever.

use http::Version;
use http::request::Parts;

use crate::limits::Proxies;
use crate::serve::Peer;

/// What proxies write into requests.
const OF_PROXIES: [&str; 6] = [
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// When informational answers are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum InterimResponses {
    /// Whatever the request came through.
    Always,
    /// Where no proxy can be seen in between.
    #[default]
    Auto,
    /// Not at all.
    Never,
}

impl InterimResponses {
    /// Whether the client of this request may be sent one; one of HTTP/1.0 knows none (RFC 9110, 15.2).
    pub(super) fn reach(self, parts: &Parts, proxies: &Proxies) -> bool {
        let sent = match self {
            Self::Always => true,
            Self::Auto => !is_forwarded(parts, proxies),
            Self::Never => false,
        };
        sent && parts.version == Version::HTTP_11
    }
}

fn is_forwarded(parts: &Parts, proxies: &Proxies) -> bool {
    let peer = parts.extensions.get::<Peer>();
    peer.is_some_and(|Peer(peer)| proxies.contains(peer.ip()))
        || OF_PROXIES
            .iter()
            .any(|name| parts.headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// covers: F3
    #[test]
    fn an_informational_answer_goes_where_it_arrives() {
        use InterimResponses::{Always, Auto, Never};
        use Version as V;
        let cases = [
            ("straight", V::HTTP_11, "", "192.0.2.1", [true, true, false]),
            (
                "HTTP/1.0",
                V::HTTP_10,
                "",
                "192.0.2.1",
                [false, false, false],
            ),
            (
                "nginx",
                V::HTTP_11,
                "X-Forwarded-For",
                "192.0.2.1",
                [true, false, false],
            ),
            (
                "a proxy of the standard",
                V::HTTP_11,
                "Forwarded",
                "192.0.2.1",
                [true, false, false],
            ),
            (
                "a cache",
                V::HTTP_11,
                "Via",
                "192.0.2.1",
                [true, false, false],
            ),
            (
                "a silent proxy of ours",
                V::HTTP_11,
                "",
                "10.0.0.1",
                [true, false, false],
            ),
        ];
        let proxies = Proxies::parse(&["10.0.0.0/8".into()]).unwrap();
        for (name, version, header, peer, want) in cases {
            let mut request = Request::builder().version(version);
            if !header.is_empty() {
                request = request.header(header, "x");
            }
            let peer = Peer((peer.parse::<std::net::IpAddr>().unwrap(), 1).into());
            let (parts, ()) = request.extension(peer).body(()).unwrap().into_parts();
            let got = [Always, Auto, Never].map(|when| when.reach(&parts, &proxies));
            assert_eq!(got, want, "{name}: always, auto, never");
        }
    }
}
