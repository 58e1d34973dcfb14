use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::FutureExt;
use http::StatusCode;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::super::config::AccessConfig;
use super::super::{SCOPE_TENANT, SCOPE_UPLOAD};
use super::jwks::{FRESH_FOR, STALE_AFTER};
use super::*;

/// A little older than fresh.
const OLD: Duration = FRESH_FOR.saturating_add(Duration::from_secs(1));

/// A key pair: what signs, what is published, and the public half as text.
struct Pair {
    alg: Algorithm,
    private: EncodingKey,
    jwk: Value,
    public_pem: String,
}

fn pair(kid: &str, alg: Algorithm) -> Pair {
    let (key, private) = match alg {
        Algorithm::ES256 => {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            let private = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap();
            (key, private)
        }
        _ => {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
            let private = EncodingKey::from_rsa_pem(key.serialize_pem().as_bytes()).unwrap();
            (key, private)
        }
    };
    let mut jwk = Jwk::from_encoding_key(&private, alg).unwrap();
    jwk.common.key_id = Some(kid.into());
    Pair {
        alg,
        private,
        jwk: serde_json::to_value(jwk).unwrap(),
        public_pem: key.public_key_pem(),
    }
}

static EC: LazyLock<Pair> = LazyLock::new(|| pair("ec", Algorithm::ES256));
static RSA: LazyLock<Pair> = LazyLock::new(|| pair("rsa", Algorithm::RS256));
static OTHER: LazyLock<Pair> = LazyLock::new(|| pair("ec", Algorithm::ES256));

/// An issuer's web server.
#[derive(Default)]
struct Published {
    base: Mutex<String>,
    speaks_for: Mutex<Option<String>>,
    keys: Mutex<Vec<Value>>,
    away: AtomicBool,
    /// It takes requests for its keys, and answers none.
    silent: watch::Sender<bool>,
    reads: AtomicUsize,
}

struct Web(Arc<Published>);

impl Web {
    async fn start(keys: Vec<Value>) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let published = Arc::new(Published::default());
        *published.keys.lock().unwrap() = keys;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        *published.base.lock().unwrap() = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys_of))
            .with_state(Arc::clone(&published));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self(published)
    }

    fn issuer(&self) -> String {
        self.0.base.lock().unwrap().clone()
    }

    fn issuers(&self, more: &str) -> Issuers {
        let text = format!(
            "issuers: [{{issuer: '{}', audiences: [kinora], tenant: {{claim: org}}{more}}}]",
            self.issuer()
        );
        let config = AccessConfig::parse(&text, false).unwrap();
        Issuers::new(config.issuers, false).unwrap()
    }

    fn claims(&self) -> Value {
        let now = jsonwebtoken::get_current_timestamp();
        json!({"iss": self.issuer(), "aud": "kinora", "sub": "alice", "org": "acme",
            "exp": now + 300, "nbf": now - 1, "scope": "openid kinora:upload"})
    }

    fn reads(&self) -> usize {
        self.0.reads.load(Ordering::SeqCst)
    }

    fn rotate(&self, pair: &Pair) {
        *self.0.keys.lock().unwrap() = vec![pair.jwk.clone()];
    }

    async fn until_read(&self, times: usize) {
        while self.reads() < times {
            tokio::task::yield_now().await;
        }
    }
}

async fn discovery(State(web): State<Arc<Published>>) -> Response {
    let base = web.base.lock().unwrap().clone();
    let issuer = web
        .speaks_for
        .lock()
        .unwrap()
        .clone()
        .unwrap_or(base.clone());
    json!({"issuer": issuer, "jwks_uri": format!("{base}/keys")})
        .to_string()
        .into_response()
}

async fn keys_of(State(web): State<Arc<Published>>) -> Response {
    web.reads.fetch_add(1, Ordering::SeqCst);
    let _ = web.silent.subscribe().wait_for(|silent| !silent).await;
    if web.away.load(Ordering::SeqCst) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    json!({"keys": *web.keys.lock().unwrap()})
        .to_string()
        .into_response()
}

fn header(pair: &Pair, kid: &str) -> Header {
    let mut header = Header::new(pair.alg);
    header.kid = Some(kid.into());
    header
}

fn signed(pair: &Pair, kid: &str, claims: &Value) -> String {
    encode(&header(pair, kid), claims, &pair.private).unwrap()
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

fn without(claims: &Value, name: &str) -> Value {
    let mut claims = claims.clone();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn raw(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!(
        "{}.{}.{}",
        part(header),
        part(claims),
        URL_SAFE_NO_PAD.encode(signature)
    )
}

#[tokio::test]
async fn a_token_of_an_issuer_is_a_caller_of_its_tenant() {
    let web = Web::start(vec![EC.jwk.clone(), RSA.jwk.clone()]).await;
    let issuers = web.issuers(", scopes: {claim: scope, roles: {boss: ['kinora:tenant']}}");
    let claims = web.claims();
    for (pair, kid) in [(&*EC, "ec"), (&*RSA, "rsa")] {
        let caller = issuers.check(&signed(pair, kid, &claims)).await.unwrap();
        assert_eq!(
            (caller.owner.iss, caller.owner.sub.as_str()),
            (web.issuer(), "alice")
        );
        assert_eq!(caller.tenant, "acme");
        assert_eq!(
            caller.scopes.into_iter().collect::<Vec<_>>(),
            [SCOPE_UPLOAD]
        );
    }
    let boss = with(&claims, "scope", json!(["boss", "kinora:unknown"]));
    let caller = issuers.check(&signed(&EC, "ec", &boss)).await.unwrap();
    assert_eq!(
        caller.scopes.into_iter().collect::<Vec<_>>(),
        [SCOPE_TENANT]
    );
    let many = with(&claims, "aud", json!(["other", "kinora"]));
    assert!(issuers.check(&signed(&EC, "ec", &many)).await.is_ok());
    let mut unnamed = Header::new(Algorithm::ES256);
    unnamed.kid = None;
    let unnamed = encode(&unnamed, &claims, &EC.private).unwrap();
    assert!(
        issuers.check(&unnamed).await.is_ok(),
        "there is one key for it"
    );
    assert_eq!(web.reads(), 1, "keys are kept");
}

/// Tokens that prove nothing, by name.
fn bad_tokens(web: &Web) -> Vec<(&'static str, String)> {
    let claims = web.claims();
    let now = jsonwebtoken::get_current_timestamp();
    let good = signed(&EC, "ec", &claims);
    let of = |claims: &Value| signed(&EC, "ec", claims);
    let mut jku = header(&EC, "ec");
    jku.jku = Some(format!("{}/evil", web.issuer()));
    let mut own = header(&OTHER, "ec");
    own.jwk = serde_json::from_value(OTHER.jwk.clone()).unwrap();
    let mut crit = header(&EC, "ec");
    crit.crit = Some(vec!["exp".into()]);
    let hs = |secret: &str, kid: &str| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(kid.into());
        encode(
            &header,
            &claims,
            &EncodingKey::from_secret(secret.as_bytes()),
        )
        .unwrap()
    };
    let none = |alg: &str| raw(&json!({"alg": alg, "kid": "ec"}), &claims, b"");
    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    let forged = URL_SAFE_NO_PAD.encode(with(&claims, "sub", json!("root")).to_string());
    vec![
        ("alg none", none("none")),
        ("alg None", none("None")),
        ("no alg", raw(&json!({"kid": "ec"}), &claims, b"x")),
        ("an unknown alg", none("XS256")),
        (
            "a shared secret: the public key",
            hs(&RSA.public_pem, "rsa"),
        ),
        (
            "a shared secret: the modulus",
            hs(RSA.jwk["n"].as_str().unwrap(), "rsa"),
        ),
        ("a shared secret that is empty", hs("", "ec")),
        (
            "another algorithm with the right key",
            raw(&json!({"alg": "ES384", "kid": "ec"}), &claims, b"x"),
        ),
        ("RSA under the name of EC", signed(&RSA, "ec", &claims)),
        ("EC under the name of RSA", signed(&EC, "rsa", &claims)),
        ("somebody else's key", signed(&OTHER, "ec", &claims)),
        (
            "a key in its own header",
            encode(&own, &claims, &OTHER.private).unwrap(),
        ),
        (
            "critical extensions",
            encode(&crit, &claims, &EC.private).unwrap(),
        ),
        ("an unknown kid", signed(&EC, "nobody", &claims)),
        ("a kid that climbs", signed(&EC, "../../ec", &claims)),
        (
            "a kid that is a URL",
            signed(&EC, "http://127.0.0.1:9/ec", &claims),
        ),
        ("a long kid", signed(&EC, &"k".repeat(300), &claims)),
        (
            "other claims under the signature",
            format!("{head}.{forged}.{signature}"),
        ),
        ("no signature", format!("{head}.{body}.")),
        ("expired", of(&with(&claims, "exp", json!(now - 120)))),
        ("not yet", of(&with(&claims, "nbf", json!(now + 120)))),
        ("no exp", of(&without(&claims, "exp"))),
        ("no nbf", of(&without(&claims, "nbf"))),
        ("no aud", of(&without(&claims, "aud"))),
        ("no iss", of(&without(&claims, "iss"))),
        ("no sub", of(&without(&claims, "sub"))),
        ("an empty sub", of(&with(&claims, "sub", json!("")))),
        (
            "a long sub",
            of(&with(&claims, "sub", json!("s".repeat(300)))),
        ),
        ("exp as text", of(&with(&claims, "exp", json!("tomorrow")))),
        (
            "another audience",
            of(&with(&claims, "aud", json!("other"))),
        ),
        ("an empty audience", of(&with(&claims, "aud", json!([])))),
        (
            "another issuer",
            of(&with(&claims, "iss", json!("https://evil.example"))),
        ),
        (
            "an issuer that begins like ours",
            of(&with(
                &claims,
                "iss",
                json!(format!("{}.evil", web.issuer())),
            )),
        ),
        ("no tenant", of(&without(&claims, "org"))),
        ("an empty tenant", of(&with(&claims, "org", json!("")))),
        (
            "a tenant with a line feed",
            of(&with(&claims, "org", json!("a\nb"))),
        ),
        (
            "more than 8 KiB",
            of(&with(&claims, "pad", json!("p".repeat(9000)))),
        ),
        ("two parts", format!("{head}.{body}")),
        ("four parts", format!("{good}.x")),
        ("nothing", String::new()),
        ("dots", "..".into()),
    ]
}

/// covers: S9, F60
#[tokio::test]
async fn what_proves_nothing_is_refused() {
    let web = Web::start(vec![EC.jwk.clone(), RSA.jwk.clone()]).await;
    let issuers = web.issuers("");
    assert!(
        issuers
            .check(&signed(&EC, "ec", &web.claims()))
            .await
            .is_ok()
    );
    for (name, token) in bad_tokens(&web) {
        let got = issuers.check(&token).await;
        assert_eq!(got.unwrap_err(), Denied::Unauthenticated, "{name}");
    }
    assert_eq!(web.reads(), 1, "no unknown key made us read again at once");
    let soon = jsonwebtoken::get_current_timestamp() - 20;
    let late = with(&web.claims(), "exp", json!(soon));
    assert!(
        issuers.check(&signed(&EC, "ec", &late)).await.is_ok(),
        "within the leeway"
    );
    let strict = web.issuers(", leewaySeconds: 0");
    assert!(strict.check(&signed(&EC, "ec", &late)).await.is_err());
}

/// Its authority was rotated, or it is away: nobody can tell whether such a token is good. covers: S12, F59
#[tokio::test]
async fn an_unknown_key_is_no_refusal_while_the_issuer_cannot_be_asked() {
    let web = Web::start(vec![EC.jwk.clone()]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.crt");
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&file, authority.cert.pem()).unwrap();
    let issuers = web.issuers(&format!(", caFile: {}", file.display()));
    let jwks = &issuers.0[0].jwks;
    let (old, new) = (
        signed(&EC, "ec", &web.claims()),
        signed(&RSA, "rsa", &web.claims()),
    );
    assert!(issuers.check(&old).await.is_ok());
    *web.0.keys.lock().unwrap() = vec![EC.jwk.clone(), RSA.jwk.clone()];
    std::fs::write(&file, "no certificate").unwrap();
    jwks.forget_when(true, Duration::ZERO);
    assert!(matches!(
        issuers.check(&new).await,
        Err(Denied::Unavailable(_))
    ));
    assert!(issuers.check(&old).await.is_ok(), "the keys go on");
    std::fs::write(&file, authority.cert.pem()).unwrap();
    jwks.forget_when(true, Duration::ZERO);
    assert!(issuers.check(&new).await.is_ok());
}

/// covers: S9
#[tokio::test]
async fn keys_rotate_go_and_outlive_an_issuer_that_is_away() {
    let web = Web::start(vec![EC.jwk.clone()]).await;
    let issuers = web.issuers("");
    let jwks = &issuers.0[0].jwks;
    let old = signed(&EC, "ec", &web.claims());
    let new = signed(&RSA, "rsa", &web.claims());
    web.0.away.store(true, Ordering::SeqCst);
    assert!(
        matches!(issuers.check(&old).await, Err(Denied::Unavailable(_))),
        "no keys yet"
    );
    web.0.away.store(false, Ordering::SeqCst);
    assert!(
        matches!(issuers.check(&old).await, Err(Denied::Unavailable(_))),
        "too soon"
    );
    assert_eq!(web.reads(), 1);
    jwks.forget_when(true, OLD);
    assert!(issuers.check(&old).await.is_ok());

    *web.0.keys.lock().unwrap() = vec![RSA.jwk.clone()];
    assert_eq!(
        issuers.check(&new).await,
        Err(Denied::Unauthenticated),
        "read moments ago"
    );
    jwks.forget_when(true, Duration::ZERO);
    assert!(
        issuers.check(&new).await.is_ok(),
        "an unknown key is looked for"
    );
    assert_eq!(
        issuers.check(&old).await,
        Err(Denied::Unauthenticated),
        "a removed key is none"
    );

    web.0.away.store(true, Ordering::SeqCst);
    jwks.forget_when(true, OLD);
    for time in ["during the read", "after it"] {
        assert!(issuers.check(&new).await.is_ok(), "the keys go on {time}");
        jwks.read_again().cancelled().await;
    }
    web.0.away.store(false, Ordering::SeqCst);
    *web.0.speaks_for.lock().unwrap() = Some("https://evil.example".into());
    jwks.forget_when(true, OLD);
    *web.0.keys.lock().unwrap() = vec![OTHER.jwk.clone()];
    jwks.read_again().cancelled().await;
    assert!(
        issuers.check(&new).await.is_ok(),
        "what another issuer says is not believed"
    );
}

/// covers: S9
#[tokio::test]
async fn old_keys_go_on_without_a_wait_while_the_issuer_is_silent_and_go_with_its_answer() {
    let web = Web::start(vec![EC.jwk.clone()]).await;
    let issuers = web.issuers("");
    let jwks = &issuers.0[0].jwks;
    let old = signed(&EC, "ec", &web.claims());
    let new = signed(&RSA, "rsa", &web.claims());
    assert!(issuers.check(&old).await.is_ok());
    web.rotate(&RSA);
    web.0.silent.send_replace(true);
    jwks.forget_when(true, OLD);
    let mut waiting = Box::pin(issuers.check(&new));
    for times in 1..=2 {
        let known = issuers.check(&old).now_or_never();
        assert!(known.is_some_and(|known| known.is_ok()), "time {times}");
        assert!(
            (&mut waiting).now_or_never().is_none(),
            "its key is not known"
        );
    }
    web.until_read(2).await;
    assert!((&mut waiting).now_or_never().is_none());
    web.0.silent.send_replace(false);
    assert!(waiting.await.is_ok());
    assert_eq!(issuers.check(&old).await, Err(Denied::Unauthenticated));
    assert_eq!(web.reads(), 2, "one read for all");
}

/// Nobody read the keys meanwhile, and one was taken back. covers: S9
#[tokio::test]
async fn the_first_token_after_a_quiet_time_waits_for_the_keys_unless_the_issuer_is_away() {
    let web = Web::start(vec![EC.jwk.clone()]).await;
    let issuers = web.issuers("");
    let jwks = &issuers.0[0].jwks;
    let token = signed(&EC, "ec", &web.claims());
    assert!(issuers.check(&token).await.is_ok());
    web.0.away.store(true, Ordering::SeqCst);
    jwks.forget_when(true, STALE_AFTER);
    for _ in 1..=2 {
        assert!(issuers.check(&token).await.is_ok());
    }
    assert_eq!(web.reads(), 2, "and the next one does not wait");
    web.0.away.store(false, Ordering::SeqCst);
    jwks.forget_when(true, Duration::ZERO);
    jwks.read_again().cancelled().await;
    web.rotate(&RSA);
    jwks.forget_when(true, STALE_AFTER);
    assert_eq!(issuers.check(&token).await, Err(Denied::Unauthenticated));
}

/// covers: S9
#[tokio::test]
async fn a_client_that_goes_ends_no_read_that_others_wait_for() {
    let web = Web::start(vec![EC.jwk.clone()]).await;
    let issuers = web.issuers("");
    let old = signed(&EC, "ec", &web.claims());
    let new = signed(&RSA, "rsa", &web.claims());
    assert!(issuers.check(&old).await.is_ok());
    web.rotate(&RSA);
    web.0.silent.send_replace(true);
    issuers.0[0].jwks.forget_when(true, Duration::ZERO);
    tokio::select! {
        got = issuers.check(&new) => panic!("nobody has answered: {got:?}"),
        () = web.until_read(2) => {}
    }
    let mut next = Box::pin(issuers.check(&new));
    assert!((&mut next).now_or_never().is_none(), "the read goes on");
    web.0.silent.send_replace(false);
    assert!(next.await.is_ok());
    assert_eq!(web.reads(), 2);
}

/// covers: S9
#[tokio::test]
async fn published_secrets_short_keys_and_keys_for_other_ends_are_left_out() {
    let mut encryption = EC.jwk.clone();
    encryption["use"] = json!("enc");
    let secret = json!({"kty": "oct", "kid": "ec", "k": URL_SAFE_NO_PAD.encode("secret")});
    let short = json!({"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB"});
    let web = Web::start(vec![
        encryption,
        secret,
        short,
        json!({"kty": "?"}),
        json!(1),
    ])
    .await;
    let issuers = web.issuers("");
    for token in [
        signed(&EC, "ec", &web.claims()),
        signed(&RSA, "rsa", &web.claims()),
    ] {
        let got = issuers.check(&token).await;
        assert!(
            matches!(got, Err(Denied::Unavailable(_))),
            "no usable key: {got:?}"
        );
    }
}

/// Whatever bytes come, and whatever becomes of a good token, only the good one is let in.
/// covers: S9
#[test]
fn no_mutation_of_a_token_is_let_in() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let web = runtime.block_on(Web::start(vec![EC.jwk.clone()]));
    let issuers = web.issuers("");
    let good = signed(&EC, "ec", &web.claims());
    assert!(runtime.block_on(issuers.check(&good)).is_ok());
    let check =
        std::panic::AssertUnwindSafe(|token: &str| runtime.block_on(issuers.check(token)).is_ok());
    bolero::check!()
        .with_type::<(Vec<u8>, u16, u8)>()
        .with_iterations(2000)
        .for_each(|(noise, at, byte)| {
            let check = &check;
            assert!(!check(&String::from_utf8_lossy(noise)));
            let mut bytes = good.clone().into_bytes();
            let at = usize::from(*at) % bytes.len();
            bytes[at] = *byte;
            let Ok(changed) = String::from_utf8(bytes) else {
                return;
            };
            assert_eq!(check(&changed), changed == good, "{changed}");
        });
}
