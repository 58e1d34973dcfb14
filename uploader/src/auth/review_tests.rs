use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};

use super::super::SCOPE_UPLOAD;
use super::*;

fn config() -> ReviewConfig {
    serde_yaml::from_str(
        "{audience: kinora, accounts: {'shop/*': ['kinora:upload'], 'shop/root': ['kinora:tenant']}}",
    )
    .unwrap()
}

fn token(audience: &Value) -> String {
    let claims = json!({"aud": audience, "sub": "system:serviceaccount:shop:web"});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(&claims))
}

/// What anybody can write.
fn forged(n: usize) -> String {
    format!("{}{n}", token(&json!("kinora")))
}

fn reviewed(status: &Value) -> Body {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "metadata": {}, "spec": {}, "status": status});
    review.to_string().into_bytes().into()
}

fn answer(user: &str, audiences: &[&str]) -> Value {
    json!({"authenticated": true, "audiences": audiences, "user": {"username": user}})
}

#[test]
fn an_answer_lets_in_only_named_accounts_for_our_audience() {
    let web = "system:serviceaccount:shop:web";
    let cases = [
        (
            "an account",
            answer(web, &["kinora"]),
            Some(("shop", false)),
        ),
        (
            "an account with its own line",
            answer("system:serviceaccount:shop:root", &["kinora"]),
            Some(("shop", true)),
        ),
        (
            "another audience",
            answer(web, &["https://kubernetes.default.svc"]),
            None,
        ),
        ("no audience", answer(web, &[]), None),
        (
            "another namespace",
            answer("system:serviceaccount:evil:web", &["kinora"]),
            None,
        ),
        ("a person", answer("admin", &["kinora"]), None),
        (
            "refused",
            json!({"authenticated": false, "audiences": ["kinora"]}),
            None,
        ),
        ("nothing", json!({}), None),
    ];
    for (name, status, want) in cases {
        let status: TokenReviewStatus = serde_json::from_value(status).unwrap();
        let got = judge(&config(), &status).ok();
        let got = got.map(|c| (c.tenant, c.scopes.contains(super::super::SCOPE_TENANT)));
        let want = want.map(|(tenant, wide)| (tenant.to_owned(), wide));
        assert_eq!(got, want, "{name}");
    }
}

#[tokio::test]
async fn answers_are_kept_and_strangers_are_not_asked_about() {
    let asked = Arc::new(AtomicUsize::new(0));
    let away = Arc::new(AtomicBool::new(false));
    let (count, gone) = (Arc::clone(&asked), Arc::clone(&away));
    let api = tower::service_fn(move |_: Request<Body>| {
        count.fetch_add(1, Ordering::SeqCst);
        let gone = gone.load(Ordering::SeqCst);
        async move {
            let status = answer("system:serviceaccount:shop:web", &["kinora"]);
            let code = if gone {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::CREATED
            };
            let answer = Response::builder().status(code);
            answer.body(reviewed(&status))
        }
    });
    let reviews = Reviews::new(Client::new(api, "default"), config());
    let mine = token(&json!(["kinora"]));
    for _ in 0..3 {
        let caller = reviews.check(&mine).await.unwrap();
        assert!(caller.scopes.contains(SCOPE_UPLOAD));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the answer is kept");
    for stranger in [token(&json!("other")), "a.b.c".into(), String::new()] {
        assert_eq!(reviews.check(&stranger).await, Err(Denied::Unauthenticated));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "nobody was asked");
    away.store(true, Ordering::SeqCst);
    let other = token(&json!("kinora"));
    assert!(matches!(
        reviews.check(&other).await,
        Err(Denied::Unavailable(_))
    ));
    assert!(reviews.check(&mine).await.is_ok(), "what is kept goes on");
}

/// An API server that vouches for one token. Of others it says nothing, or at once that they are bad; it counts what it
/// is asked about the one, and about others.
fn vouching(good: &str, silent: bool) -> (Client, Arc<[AtomicUsize; 2]>) {
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let (good, asked) = (good.to_owned(), Arc::clone(&counts));
    let api = tower::service_fn(move |request: Request<Body>| {
        let (good, asked) = (good.clone(), Arc::clone(&asked));
        async move {
            let body = request.into_body().collect_bytes().await?;
            let review: Value = serde_json::from_slice(&body)?;
            let known = review["spec"]["token"] == *good;
            asked[usize::from(!known)].fetch_add(1, Ordering::SeqCst);
            let status = match known {
                true => answer("system:serviceaccount:shop:web", &["kinora"]),
                false if silent => std::future::pending().await,
                false => json!({"authenticated": false}),
            };
            let answer = Response::builder().status(StatusCode::CREATED);
            Ok::<_, tower::BoxError>(answer.body(reviewed(&status))?)
        }
    });
    (Client::new(api, "default"), counts)
}

/// covers: S10
#[tokio::test]
async fn forged_tokens_keep_nobody_out_whose_token_was_good() {
    let mine = token(&json!("kinora"));
    let (client, counts) = vouching(&mine, true);
    let reviews = Reviews::new(client, config());
    assert!(reviews.check(&mine).await.is_ok());
    let strangers: Vec<_> = (0..AT_ONCE)
        .map(|n| {
            let reviews = reviews.clone();
            tokio::spawn(async move { reviews.check(&forged(n)).await })
        })
        .collect();
    while counts[1].load(Ordering::SeqCst) < AT_ONCE {
        tokio::task::yield_now().await;
    }
    let one_more = reviews.check(&forged(AT_ONCE)).await;
    assert_eq!(one_more, Err(AWAY), "others have no more places");
    for (_, (_, until)) in &mut reviews.kept().good {
        *until = Instant::now();
    }
    assert!(
        reviews.check(&mine).await.is_ok(),
        "it is asked about again"
    );
    assert_eq!(counts[0].load(Ordering::SeqCst), 2);
    strangers.iter().for_each(tokio::task::JoinHandle::abort);
}

/// covers: S10
#[tokio::test]
async fn refusals_push_no_good_answer_out() {
    let mine = token(&json!("kinora"));
    let (client, counts) = vouching(&mine, false);
    let reviews = Reviews::new(client, config());
    assert!(reviews.check(&mine).await.is_ok());
    for n in 0..=KEPT.get() {
        let refused = reviews.check(&forged(n)).await;
        assert_eq!(refused, Err(Denied::Unauthenticated));
    }
    assert!(reviews.check(&mine).await.is_ok());
    assert_eq!(counts[0].load(Ordering::SeqCst), 1, "the answer is kept");
    assert_eq!(
        reviews.kept().refused.len(),
        KEPT.get(),
        "and few of the others"
    );
    assert_eq!(
        reviews.kept().asked.len(),
        1,
        "reviews that are over are forgotten"
    );
}

#[tokio::test]
async fn requests_with_one_token_wait_for_one_review() {
    let mine = token(&json!("kinora"));
    let (client, counts) = vouching(&mine, false);
    let reviews = Reviews::new(client, config());
    let all = futures::future::join_all((0..50).map(|_| reviews.check(&mine))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(counts[0].load(Ordering::SeqCst), 1);
}
