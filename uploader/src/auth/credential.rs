//! What a client says to prove who it is. It leaves the headers of a request before anything else looks at them, is one
//! copy that nothing prints, and is wiped with its last use.

use http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};

/// The token of an `Authorization: Bearer`.
#[derive(Clone, Debug)]
pub struct Credential(SecretString);

impl Credential {
    /// Takes it out of the headers, and with it the others that may hold a secret, which nobody here reads; none when
    /// there is no bearer token.
    #[must_use]
    pub fn take(headers: &mut HeaderMap) -> Option<Self> {
        headers.remove(header::PROXY_AUTHORIZATION);
        headers.remove(header::COOKIE);
        let value = headers.remove(header::AUTHORIZATION)?;
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| Self(token.trim().into()))
    }

    pub(super) fn token(&self) -> &str {
        self.0.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers: S12
    #[test]
    fn a_credential_leaves_the_headers_and_is_not_printed() {
        let cases = [
            ("a bearer token", "Bearer canary", Some("canary")),
            ("the scheme in lower case", "bearer canary", Some("canary")),
            ("room around it", "Bearer  canary ", Some("canary")),
            ("another scheme", "Basic canary", None),
            ("no scheme", "canary", None),
        ];
        for (name, value, want) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            headers.append(header::AUTHORIZATION, "Bearer canary-2".parse().unwrap());
            headers.insert(header::COOKIE, "token=canary".parse().unwrap());
            headers.insert(header::PROXY_AUTHORIZATION, value.parse().unwrap());
            headers.insert(header::ACCEPT, "*/*".parse().unwrap());
            let taken = Credential::take(&mut headers);
            assert_eq!(taken.as_ref().map(Credential::token), want, "{name}");
            assert_eq!(headers.len(), 1, "{name}: {headers:?}");
            assert!(!format!("{taken:?}").contains("canary"), "{name}");
        }
        assert!(Credential::take(&mut HeaderMap::new()).is_none());
    }
}
