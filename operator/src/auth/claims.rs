//! What a token says of itself, unproved: anybody can write it, so it only spares the API server what cannot be good.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kinora_crds::names;
use serde::Deserialize;

/// Longer is no token of a service account.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

#[derive(Deserialize)]
struct Claims {
    aud: OneOrMore,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize)]
struct Kubernetes {
    pod: Pod,
}

#[derive(Deserialize)]
struct Pod {
    uid: String,
}

/// Uid of the pod that a token claims to be bound to; `None` when it is no JWT of a pod for the dispatch audience.
///
/// Not whether it has expired: a forger writes what he likes there, and the API server's clock decides.
pub(super) fn pod_uid(token: &str) -> Option<String> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    let ours = match &claims.aud {
        OneOrMore::One(one) => one == names::DISPATCH_AUDIENCE,
        OneOrMore::More(all) => all.iter().any(|one| one == names::DISPATCH_AUDIENCE),
    };
    ours.then_some(claims.kubernetes.pod.uid)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn token(claims: &Value) -> String {
        format!("eyJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn only_a_jwt_of_a_pod_for_the_dispatch_audience_is_worth_a_question() {
        let pod = json!({"namespace": "videos", "pod": {"name": "w-1", "uid": "u1"}});
        let good = token(&json!({"aud": ["kinora-dispatch"], "kubernetes.io": pod}));
        let table = [
            ("a pod's", good.clone(), true),
            (
                "one audience",
                token(&json!({"aud": "kinora-dispatch", "kubernetes.io": pod})),
                true,
            ),
            (
                "another audience",
                token(&json!({"aud": ["kinora"], "kubernetes.io": pod})),
                false,
            ),
            ("no audience", token(&json!({"kubernetes.io": pod})), false),
            (
                "of no pod",
                token(&json!({"aud": ["kinora-dispatch"], "kubernetes.io": {}})),
                false,
            ),
            ("no claims", token(&json!([])), false),
            ("no JSON", "a.b.c".to_owned(), false),
            (
                "two parts",
                good.rsplit_once('.').unwrap().0.to_owned(),
                false,
            ),
            ("four parts", format!("{good}.a"), false),
            (
                "too long",
                good.clone() + &"a".repeat(MAX_TOKEN_BYTES),
                false,
            ),
            ("nothing", String::new(), false),
        ];
        for (name, token, want) in table {
            let got = pod_uid(&token);
            assert_eq!(got.as_deref(), want.then_some("u1"), "{name}");
        }
    }
}
