//! The few structured fields (RFC 9651) that uploads use: booleans, integers, and dictionaries of
//! byte sequences. Pure; whatever a client sends is read in one pass and never panics.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// So many members a dictionary may have.
const MOST_MEMBERS: usize = 16;
/// Digits of the largest integer.
const DIGITS: usize = 15;

/// A boolean item: `?1` or `?0`.
#[must_use]
pub(super) fn boolean(text: &str) -> Option<bool> {
    match item(text)? {
        "?1" => Some(true),
        "?0" => Some(false),
        _ => None,
    }
}

/// An integer item that is not negative.
#[must_use]
pub(super) fn integer(text: &str) -> Option<u64> {
    let digits = item(text)?;
    let good = !digits.is_empty() && digits.len() <= DIGITS;
    (good && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

/// The bare item; its parameters mean nothing here.
fn item(text: &str) -> Option<&str> {
    let bare = text.trim_matches([' ', '\t']).split(';').next()?;
    Some(bare.trim_end_matches(' '))
}

/// A dictionary of byte sequences, the last of members with the same key; none when it is
/// something else.
#[must_use]
pub(super) fn byte_sequences(text: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let mut members: Vec<(String, Vec<u8>)> = Vec::new();
    for member in text.split(',') {
        let (key, value) = member.trim_matches([' ', '\t']).split_once('=')?;
        if !is_key(key) || members.len() >= MOST_MEMBERS {
            return None;
        }
        let (encoded, parameters) = value.strip_prefix(':')?.split_once(':')?;
        if !parameters.is_empty() && !parameters.starts_with(';') {
            return None;
        }
        let decoded = STANDARD
            .decode(encoded)
            .or_else(|_| STANDARD_NO_PAD.decode(encoded))
            .ok()?;
        members.retain(|(other, _)| other != key);
        members.push((key.to_owned(), decoded));
    }
    Some(members)
}

fn is_key(key: &str) -> bool {
    let first = |b: u8| b.is_ascii_lowercase() || b == b'*';
    let other = |b: u8| first(b) || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.');
    key.bytes().next().is_some_and(first) && key.bytes().all(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_read_with_their_parameters_and_nothing_else_is() {
        let booleans = [
            ("?1", Some(true)),
            ("?0", Some(false)),
            (" ?1 ", Some(true)),
            ("?1;a=b", Some(true)),
            ("1", None),
            ("true", None),
            ("?2", None),
            ("?1?0", None),
            ("", None),
        ];
        for (text, want) in booleans {
            assert_eq!(boolean(text), want, "{text:?}");
        }
        let integers = [
            ("0", Some(0)),
            ("42", Some(42)),
            ("42;x", Some(42)),
            ("999999999999999", Some(999_999_999_999_999)),
            ("1000000000000000", None),
            ("-1", None),
            ("+1", None),
            ("1.0", None),
            ("", None),
            ("0x1", None),
        ];
        for (text, want) in integers {
            assert_eq!(integer(text), want, "{text:?}");
        }
    }

    #[test]
    fn digests_are_dictionaries_of_byte_sequences() {
        type Want<'a> = Option<&'a [(&'a str, &'a [u8])]>;
        let cases: [(&str, Want<'_>); 9] = [
            ("a=:AAE=:", Some(&[("a", &[0, 1])])),
            ("a=:AAE:", Some(&[("a", &[0, 1])])),
            (
                "a=:AAE=:, b=:/w==:;q=1",
                Some(&[("a", &[0, 1]), ("b", &[255])]),
            ),
            ("a=:AAE=:,a=:/w==:", Some(&[("a", &[255])])),
            ("a=::", Some(&[("a", &[])])),
            ("a", None),
            ("a=AAE=", None),
            ("A=:AAE=:", None),
            ("a=:AA E=:", None),
        ];
        for (text, want) in cases {
            let got = byte_sequences(text);
            let got = got.as_ref().map(|all| {
                let pair = |(key, value): &(String, Vec<u8>)| (key.clone(), value.clone());
                all.iter().map(pair).collect::<Vec<_>>()
            });
            let want = want.map(|all| {
                let pair = |(key, value): &(&str, &[u8])| ((*key).to_owned(), value.to_vec());
                all.iter().map(pair).collect::<Vec<_>>()
            });
            assert_eq!(got, want, "{text:?}");
        }
    }

    /// Whatever comes in: no panic, and what is read is within its bounds.
    #[test]
    fn no_field_value_breaks_the_reader() {
        bolero::check!().with_type::<String>().for_each(|text| {
            let _ = boolean(text);
            assert!(integer(text).is_none_or(|n| n < 1_000_000_000_000_000));
            let members = byte_sequences(text).unwrap_or_default();
            assert!(members.len() <= MOST_MEMBERS);
        });
    }
}
