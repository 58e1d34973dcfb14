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
            let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                "metadata": {}, "spec": {}, "status": status});
            let code = if gone {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::CREATED
            };
            let answer = Response::builder().status(code);
            answer.body(Body::from(review.to_string().into_bytes()))
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
