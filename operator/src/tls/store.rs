//! The Secret that holds the CA: read, filled when empty, stepped on by compare-and-swap.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kinora_crds::names;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use rand::Rng;
use serde_json::{Value, json};

use super::rotation::{Ages, Step};
use super::{Authority, Ca, TlsError, new_ca};

/// Key of the certificate of the CA that signs, PEM.
const CERTIFICATE: &str = names::DISPATCH_CA_KEY;
/// Key of its private key, PEM (PKCS#8).
const KEY: &str = "ca.key";
const SINCE: &str = "ca.since";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const NEXT_SINCE: &str = "next.since";
const OLD_CERTIFICATE: &str = "old.crt";
const OLD_SINCE: &str = "old.since";
/// Key with which the pods of attempts are marked as made by the operator; never replaced while such pods may live.
const ATTEMPT_KEY: &str = "attempt.key";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the Secret; fills it if it is empty, and takes the step that is due. What this process holds goes back into a
/// Secret that lost it: workers trust that CA, and pods are marked with that key. Only who holds nothing makes a new one.
///
/// # Errors
/// [`TlsError`]; [`TlsError::LostRace`] is answered by calling again.
pub(super) async fn load(
    client: &Client,
    namespace: &str,
    held: Option<&Authority>,
    now: Timestamp,
) -> Result<Authority, TlsError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = bounded("read", api.get_opt(names::DISPATCH_CA))
        .await?
        .ok_or_else(|| TlsError::NoSecret {
            namespace: namespace.to_owned(),
        })?;
    let stored = stored(&secret)?;
    let is_lost = stored.is_none() && held.is_some();
    let known = stored.or_else(|| held.cloned());
    let changed = match (next(known.clone(), now)?, known) {
        (Some(changed), _) => changed,
        (None, Some(known)) if is_lost => known,
        (None, known) => return known.ok_or(TlsError::Damaged { what: "no data" }),
    };
    write(&api, &secret, &changed).await?;
    let (secret, ages) = (names::DISPATCH_CA, &changed.ages);
    if is_lost {
        tracing::warn!(secret, ?ages, "the dispatch CA was lost, and is back");
    } else {
        tracing::info!(secret, ?ages, "the dispatch CA took a step");
    }
    Ok(changed)
}

/// What to store instead; `None`: nothing is due.
fn next(stored: Option<Authority>, now: Timestamp) -> Result<Option<Authority>, TlsError> {
    let Some(mut authority) = stored else {
        return Ok(Some(Authority {
            current: new_ca(now)?,
            next: None,
            old: None,
            ages: Ages {
                current: now,
                next: None,
                old: None,
            },
            attempt_key: new_key(),
        }));
    };
    let incomplete = authority.attempt_key.is_empty();
    if incomplete {
        authority.attempt_key = new_key();
    }
    match super::rotation::due(&authority.ages, now) {
        None => return Ok(incomplete.then_some(authority)),
        Some(Step::MakeNext) => {
            authority.next = Some(new_ca(now)?);
            authority.ages.next = Some(now);
        }
        Some(Step::Promote) => {
            let Some(next) = authority.next.take() else {
                return Ok(None);
            };
            let old = std::mem::replace(&mut authority.current, next);
            authority.old = Some(old.certificate);
            authority.ages = Ages {
                current: authority.ages.next.unwrap_or(now),
                next: None,
                old: Some(now),
            };
        }
        Some(Step::DropOld) => {
            authority.old = None;
            authority.ages.old = None;
        }
    }
    Ok(Some(authority))
}

fn new_key() -> Vec<u8> {
    let key: [u8; 32] = rand::rng().random();
    key.to_vec()
}

async fn write(api: &Api<Secret>, read: &Secret, new: &Authority) -> Result<(), TlsError> {
    let patch = json!({
        "metadata": { "resourceVersion": read.metadata.resource_version },
        "data": data(new),
    });
    let params = PatchParams {
        field_manager: Some(names::MANAGER_OPERATOR.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(&patch);
    let call = api.patch(names::DISPATCH_CA, &params, &patch);
    match bounded("fill", call).await {
        Ok(_) => Ok(()),
        Err(TlsError::Api { source, .. }) if matches!(source.as_ref(), kube::Error::Api(s) if s.is_conflict()) => {
            Err(TlsError::LostRace)
        }
        Err(other) => Err(other),
    }
}

/// All entries; null for those that are not to be there.
fn data(authority: &Authority) -> BTreeMap<&'static str, Value> {
    let text = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
    let time = |at: Option<Timestamp>| at.map_or(Value::Null, |at| text(&at.to_string()));
    let next = authority.next.as_ref();
    let ages = &authority.ages;
    BTreeMap::from([
        (CERTIFICATE, text(&authority.current.certificate)),
        (KEY, text(&authority.current.key)),
        (SINCE, time(Some(ages.current))),
        (
            NEXT_CERTIFICATE,
            next.map_or(Value::Null, |ca| text(&ca.certificate)),
        ),
        (NEXT_KEY, next.map_or(Value::Null, |ca| text(&ca.key))),
        (NEXT_SINCE, time(ages.next)),
        (
            OLD_CERTIFICATE,
            authority.old.as_deref().map_or(Value::Null, text),
        ),
        (OLD_SINCE, time(ages.old)),
        (
            ATTEMPT_KEY,
            json!(ByteString(authority.attempt_key.clone())),
        ),
    ])
}

async fn bounded<T>(
    action: &'static str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, TlsError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, call).await {
        Err(_) => Err(TlsError::Timeout { action }),
        Ok(Err(source)) => Err(TlsError::Api {
            action,
            source: Box::new(source),
        }),
        Ok(Ok(value)) => Ok(value),
    }
}

/// What the Secret holds; `None` when it is empty.
fn stored(secret: &Secret) -> Result<Option<Authority>, TlsError> {
    let bytes = |key: &str| {
        let found = secret.data.as_ref().and_then(|data| data.get(key));
        found.map(|b| b.0.clone()).filter(|b| !b.is_empty())
    };
    let text = |key: &str, what| {
        bytes(key)
            .map(|b| String::from_utf8(b).map_err(|_| TlsError::Damaged { what }))
            .transpose()
    };
    let time = |key: &str| {
        let text = bytes(key).and_then(|b| String::from_utf8(b).ok())?;
        text.parse::<Timestamp>().ok()
    };
    let certificate = text(CERTIFICATE, "ca.crt is not PEM")?;
    let key = text(KEY, "ca.key is not PEM")?;
    let current = match (certificate, key) {
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            return Err(TlsError::Damaged {
                what: "ca.key without ca.crt",
            });
        }
        (Some(_), None) => {
            return Err(TlsError::Damaged {
                what: "ca.crt without ca.key",
            });
        }
        (Some(certificate), Some(key)) => Ca { certificate, key },
    };
    current.issuer()?;
    let next = text(NEXT_CERTIFICATE, "next.crt is not PEM")?
        .zip(text(NEXT_KEY, "next.key is not PEM")?)
        .map(|(certificate, key)| Ca { certificate, key });
    if let Some(next) = &next {
        next.issuer()?;
    }
    let old = text(OLD_CERTIFICATE, "old.crt is not PEM")?;
    // A time that is not there is as old as can be: the step is due, which is the safe side.
    let ages = Ages {
        current: time(SINCE).unwrap_or(Timestamp::UNIX_EPOCH),
        next: next
            .as_ref()
            .map(|_| time(NEXT_SINCE).unwrap_or(Timestamp::UNIX_EPOCH)),
        old: old
            .as_ref()
            .map(|_| time(OLD_SINCE).unwrap_or(Timestamp::UNIX_EPOCH)),
    };
    Ok(Some(Authority {
        current,
        next,
        old,
        ages,
        attempt_key: bytes(ATTEMPT_KEY).unwrap_or_default(),
    }))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::SignedDuration;

    use super::*;

    fn secret(pairs: &[(&str, &str)]) -> Secret {
        let data = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec())))
            .collect();
        Secret {
            data: Some(data),
            ..Secret::default()
        }
    }

    /// As the API server stores a merge patch.
    fn saved(authority: &Authority) -> Secret {
        let all = data(authority).into_iter();
        let kept = all.filter(|(_, value)| !value.is_null());
        let kept: BTreeMap<_, _> = kept.collect();
        serde_json::from_value(json!({ "data": kept })).unwrap()
    }

    #[test]
    fn a_secret_is_empty_whole_or_damaged() {
        let ca = new_ca(Timestamp::now()).unwrap();
        assert!(stored(&Secret::default()).unwrap().is_none(), "no data");
        let empty = secret(&[("ca.crt", ""), ("ca.key", "")]);
        assert!(stored(&empty).unwrap().is_none(), "empty keys");
        let whole = stored(&secret(&[("ca.crt", &ca.certificate), ("ca.key", &ca.key)]));
        assert_eq!(whole.unwrap().unwrap().current.certificate, ca.certificate);
        stored(&secret(&[("ca.crt", &ca.certificate)])).unwrap_err();
        stored(&secret(&[("ca.key", &ca.key)])).unwrap_err();
        stored(&secret(&[("ca.crt", "junk"), ("ca.key", &ca.key)])).unwrap_err();
    }

    /// covers: F59
    #[test]
    fn a_whole_rotation_keeps_every_ca_published_that_something_was_signed_by() {
        let mut now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let first = next(None, now).unwrap().unwrap();
        let reread = |authority: &Authority| stored(&saved(authority)).unwrap();
        assert!(next(reread(&first), now).unwrap().is_none(), "steady");

        now += SignedDuration::from_hours(243 * 24);
        let second = next(reread(&first), now).unwrap().unwrap();
        assert_eq!(second.current.certificate, first.current.certificate);
        let successor = second.next.as_ref().unwrap().certificate.clone();
        assert!(second.bundle().contains(&successor), "published first");

        now += SignedDuration::from_hours(24);
        let third = next(reread(&second), now).unwrap().unwrap();
        assert_eq!(third.current.certificate, successor);
        assert!(third.bundle().contains(&first.current.certificate));
        assert_eq!(third.attempt_key, first.attempt_key);

        now += SignedDuration::from_hours(8 * 24);
        let fourth = next(reread(&third), now).unwrap().unwrap();
        assert_eq!(fourth.bundle(), successor);
        assert!(next(reread(&fourth), now).unwrap().is_none());
    }

    #[test]
    fn a_secret_of_an_earlier_version_gets_its_successor_and_a_key_for_attempts() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let ca = new_ca(now).unwrap();
        let earlier = secret(&[("ca.crt", &ca.certificate), ("ca.key", &ca.key)]);
        let changed = next(stored(&earlier).unwrap(), now).unwrap().unwrap();
        assert_eq!(changed.current.certificate, ca.certificate);
        assert_eq!(changed.attempt_key.len(), 32);
        assert!(changed.next.is_some());
    }
}
