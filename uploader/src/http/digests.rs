//! What a request says of its body (`Upload-Checksum`, `Content-Digest`) and of the whole file
//! (`Repr-Digest`). Pure.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::fields;
use super::problem::Problem;
use crate::digest::{Algorithm, Check, Said};

/// `Upload-Checksum`, of tus.
pub(super) const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
/// `Content-Digest`, RFC 9530.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// `Repr-Digest`, RFC 9530.
pub(super) const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// `Want-Content-Digest`, RFC 9530.
pub(super) const WANT_CONTENT_DIGEST: HeaderName = HeaderName::from_static("want-content-digest");
/// `Want-Repr-Digest`, RFC 9530.
pub(super) const WANT_REPR_DIGEST: HeaderName = HeaderName::from_static("want-repr-digest");
/// What is taken of a body and of a whole file, by how little it costs to verify: CRCs are joined
/// from those of the parts, for SHA-256 the finished object is read once.
pub(super) const WANTED: HeaderValue =
    HeaderValue::from_static("crc64nvme=10, crc32c=9, sha-256=5");

/// The algorithms of `Upload-Checksum`, as they are announced.
#[must_use]
pub(super) fn announced() -> String {
    Algorithm::ALL.map(Algorithm::tus).join(",")
}

/// What the body has to be.
///
/// # Errors
/// 400 for an unknown algorithm of `Upload-Checksum` and for what cannot be read.
pub(super) fn of_body(headers: &HeaderMap) -> Result<Option<Check>, Problem> {
    let mut said = listed(headers, &CONTENT_DIGEST, "Content-Digest")?;
    // What both fields say alike is compared once.
    said.extend(upload_checksum(headers)?.filter(|one| !said.contains(one)));
    Ok(Check::of(said))
}

/// What the whole file has to be: digests in hex by the names that HTTP gives the algorithms.
///
/// # Errors
/// 400 for what cannot be read.
pub(super) fn of_whole(headers: &HeaderMap) -> Result<BTreeMap<String, String>, Problem> {
    let said = listed(headers, &REPR_DIGEST, "Repr-Digest")?;
    let named = said.into_iter().filter_map(|said| {
        let name = said.algorithm.http()?;
        Some((name.to_owned(), hex::encode(said.digest)))
    });
    Ok(named.collect())
}

fn upload_checksum(headers: &HeaderMap) -> Result<Option<Said>, Problem> {
    let Some(value) = headers.get(&UPLOAD_CHECKSUM) else {
        return Ok(None);
    };
    let bad = |detail: String| Problem::bad_request("Upload-Checksum", detail);
    let text = value.to_str().unwrap_or_default().trim();
    let (name, encoded) = text.split_once(' ').unwrap_or((text, ""));
    let Some(algorithm) = Algorithm::of_tus(name) else {
        return Err(bad(format!(
            "Upload-Checksum must name one of {}.",
            announced()
        )));
    };
    let digest = STANDARD.decode(encoded.trim()).ok();
    let digest = digest.filter(|digest| digest.len() == algorithm.size());
    let Some(digest) = digest else {
        let bytes = algorithm.size();
        return Err(bad(format!(
            "Upload-Checksum must be `{name} ` and {bytes} bytes in Base64."
        )));
    };
    Ok(Some(Said { algorithm, digest }))
}

/// Digests of a field of RFC 9530, one of each algorithm: its lines are one dictionary, in which the last of equal keys
/// counts. Algorithms that are not offered are ignored, as it says.
fn listed(
    headers: &HeaderMap,
    name: &HeaderName,
    field: &'static str,
) -> Result<Vec<Said>, Problem> {
    let bad = || {
        let detail = format!("{field} must be like `sha-256=:<Base64>:`, with all of the digest.");
        Problem::bad_request(field, detail)
    };
    let mut said = Vec::new();
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| bad())?;
        for (key, digest) in fields::byte_sequences(text).ok_or_else(bad)? {
            let Some(algorithm) = Algorithm::of_http(&key) else {
                continue;
            };
            if digest.len() != algorithm.size() {
                return Err(bad());
            }
            said.retain(|other: &Said| other.algorithm != algorithm);
            said.push(Said { algorithm, digest });
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn checksums_name_an_algorithm_that_is_offered_and_a_whole_digest() {
        let cases = [
            ("sha1 98O8HYCOBHMq32eZZczDTKeuNEE=", Some(true)),
            ("crc32c 4waSgw==", Some(true)),
            ("crc64nvme rosUhgp5mIg=", Some(true)),
            ("crc32c AAAAAA==", Some(false)),
            ("md5 JfnnlDI7RTiF9RgfG2JNCw==", None),
            ("sha1 4waSgw==", None),
            ("sha1", None),
            ("sha1 ???", None),
            ("", None),
        ];
        for (text, want) in cases {
            let got = of_body(&with(UPLOAD_CHECKSUM, text)).ok().flatten();
            let got = got.map(|mut check| {
                check.update(b"123456789");
                check.holds()
            });
            assert_eq!(got, want, "{text:?}");
        }
    }

    #[test]
    fn fields_of_digests_pass_over_algorithms_that_are_not_offered() {
        let cases = [
            ("crc32c=:4waSgw==:", Some(1)),
            ("md5=:JfnnlDI7RTiF9RgfG2JNCw==:", Some(0)),
            (
                "md5=:JfnnlDI7RTiF9RgfG2JNCw==:, crc64nvme=:rosUhgp5mIg=:",
                Some(1),
            ),
            ("sha-256=:4waSgw==:", None),
            ("crc32c=4waSgw==", None),
        ];
        for (text, want) in cases {
            let got = of_whole(&with(REPR_DIGEST, text)).ok().map(|all| all.len());
            assert_eq!(got, want, "{text:?}");
        }
        let whole = of_whole(&with(REPR_DIGEST, "crc32c=:4waSgw==:")).unwrap();
        assert_eq!(whole["crc32c"], "e3069283");
    }

    #[test]
    fn of_each_algorithm_one_digest_is_compared_the_last_of_its_field() {
        let content = |digest: &str| (CONTENT_DIGEST, format!("crc32c=:{digest}:"));
        let tus = |digest: &str| (UPLOAD_CHECKSUM, format!("crc32c {digest}"));
        let (right, wrong) = ("4waSgw==", "AAAAAA==");
        let cases = [
            ("60 equal lines", vec![content(right); 60], 1, true),
            (
                "the last is right",
                vec![content(wrong), content(right)],
                1,
                true,
            ),
            (
                "the last is wrong",
                vec![content(right), content(wrong)],
                1,
                false,
            ),
            (
                "both fields alike",
                vec![content(right), tus(right)],
                1,
                true,
            ),
            (
                "the fields differ",
                vec![content(right), tus(wrong)],
                2,
                false,
            ),
        ];
        for (name, fields, running, holds) in cases {
            let mut headers = HeaderMap::new();
            for (field, value) in fields {
                headers.append(field, value.parse().unwrap());
            }
            let mut check = of_body(&headers).unwrap().unwrap();
            check.update(b"123456789");
            assert_eq!((check.running(), check.holds()), (running, holds), "{name}");
        }
    }

    #[test]
    fn what_is_wanted_is_what_is_offered() {
        let wanted = WANTED;
        let wanted = wanted
            .to_str()
            .unwrap()
            .split(", ")
            .map(|member| member.split_once('=').unwrap().0);
        let mut wanted: Vec<_> = wanted.map(Algorithm::of_http).collect();
        wanted.sort();
        let offered = Algorithm::ALL
            .into_iter()
            .filter(|one| one.http().is_some());
        assert_eq!(wanted, offered.map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn no_digest_breaks_the_reader() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            let Ok(value) = HeaderValue::from_bytes(bytes) else {
                return;
            };
            for name in [UPLOAD_CHECKSUM, CONTENT_DIGEST, REPR_DIGEST] {
                let headers = HeaderMap::from_iter([(name, value.clone())]);
                let _ = of_body(&headers);
                let _ = of_whole(&headers);
            }
        });
    }
}
