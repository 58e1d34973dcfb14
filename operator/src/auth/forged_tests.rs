//! Tokens that anybody can write: how much of the API server they take, and that no worker is kept out by them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use http::{Request, Response};
use kube::client::Body;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::review::AT_ONCE;
use super::tests::{attempt_pod, token, vouched, with_index};
use super::*;

/// An API server that vouches for tokens that are not forged, and thinks about the others as long as it is held.
struct Server {
    held: watch::Sender<bool>,
    open: AtomicUsize,
    most_open: AtomicUsize,
    asked: AtomicUsize,
    away: AtomicBool,
}

impl Server {
    async fn answer(&self, request: Request<Body>) -> Result<Value, tower::BoxError> {
        let body = request.into_body().collect_bytes().await?;
        let review: Value = serde_json::from_slice(&body)?;
        let token = review["spec"]["token"].as_str().unwrap_or_default();
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err("away".into());
        }
        if !token.contains("forged") {
            return Ok(vouched(token));
        }
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(open, Ordering::SeqCst);
        self.held.subscribe().wait_for(|held| !held).await?;
        self.open.fetch_sub(1, Ordering::SeqCst);
        Ok(json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {},
            "status": {"authenticated": false, "error": "forged"},
        }))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// With `n` pods in the index.
async fn with_pods(n: usize) -> (Arc<TokenAuth>, Arc<Server>) {
    let server = Arc::new(Server {
        held: watch::Sender::new(true),
        open: AtomicUsize::new(0),
        most_open: AtomicUsize::new(0),
        asked: AtomicUsize::new(0),
        away: AtomicBool::new(false),
    });
    let asked = Arc::clone(&server);
    let api = tower::service_fn(move |request: Request<Body>| {
        let server = Arc::clone(&asked);
        async move {
            let answer = server.answer(request).await?;
            Ok::<_, tower::BoxError>(Response::new(Body::from(serde_json::to_vec(&answer)?)))
        }
    });
    let (auth, index) = with_index(Client::new(api, "videos"));
    for n in 0..n {
        let pod = attempt_pod("clip-a1", |pod| pod["metadata"]["uid"] = uid(n).into());
        index
            .apply(Event::Apply(serde_json::from_value(pod).unwrap()))
            .await;
    }
    (Arc::new(auth), server)
}

fn uid(n: usize) -> String {
    format!("u-{n}")
}

fn real(n: usize) -> String {
    token("clip-a1", &uid(n))
}

fn forged(uid: &str, n: usize) -> String {
    format!("{}forged{n}", token("clip-a1", uid))
}

type Asking = JoinHandle<Result<WorkerIdentity, AuthError>>;

fn ask(auth: &Arc<TokenAuth>, token: String) -> Asking {
    let auth = Arc::clone(auth);
    tokio::spawn(async move { auth.authenticate(&token).await })
}

/// covers: S16, S10
#[tokio::test]
async fn a_flood_of_forged_tokens_has_few_reviews_open_and_keeps_no_worker_out() {
    let (auth, server) = with_pods(1).await;
    let flood: Vec<Asking> = (0..1000)
        .map(|n| ask(&auth, forged(&format!("nobody-{n}"), n)))
        .collect();
    while server.asked() < STRANGERS {
        tokio::task::yield_now().await;
    }
    let who = auth.authenticate(&real(0)).await.unwrap();
    assert_eq!(who.pod_uid, uid(0), "it is judged while they are held");
    let let_go = Instant::now();
    server.held.send_replace(false);
    let mut turned_away = 0;
    for answer in join_all(flood).await {
        match answer.unwrap() {
            Ok(who) => panic!("{who:?}"),
            Err(AuthError::Unavailable(_)) => turned_away += 1,
            Err(AuthError::Refused(_)) => {}
        }
    }
    assert_eq!(turned_away, 1000 - STRANGERS);
    assert_eq!(server.most_open.load(Ordering::SeqCst), STRANGERS);
    assert_eq!(server.asked(), STRANGERS + 1);
    // The first place is free, and not at once.
    while let Err(AuthError::Unavailable(_)) = auth.authenticate(&forged("nobody", 1)).await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(let_go.elapsed() >= STRANGER_PAUSE);
}

/// covers: S16, S10
#[tokio::test]
async fn whoever_knows_the_pods_takes_one_review_of_each_and_all_together_a_bounded_number() {
    let (auth, server) = with_pods(100).await;
    let flood: Vec<Asking> = (0..1000)
        .map(|n| ask(&auth, forged(&uid(n % 100), n)))
        .collect();
    while server.open.load(Ordering::SeqCst) < AT_ONCE {
        tokio::task::yield_now().await;
    }
    server.held.send_replace(false);
    for answer in join_all(flood).await {
        assert!(matches!(answer.unwrap(), Err(AuthError::Refused(_))));
    }
    assert_eq!(server.most_open.load(Ordering::SeqCst), AT_ONCE);

    let (auth, server) = with_pods(2).await;
    let flood: Vec<Asking> = (0..1000).map(|n| ask(&auth, forged(&uid(0), n))).collect();
    while server.asked() < 1 {
        tokio::task::yield_now().await;
    }
    assert!(auth.authenticate(&real(1)).await.is_ok(), "another pod's");
    server.held.send_replace(false);
    join_all(flood).await;
    assert_eq!(server.most_open.load(Ordering::SeqCst), 1);
}

/// covers: S16
#[tokio::test]
async fn what_cannot_be_good_is_never_asked_about_and_nothing_twice() {
    let (auth, server) = with_pods(2).await;
    server.held.send_replace(false);
    for malformed in ["", "a.b.c", "secret", "eyJ9.e30.c2ln"] {
        let refused = auth.authenticate(malformed).await;
        assert!(matches!(refused, Err(AuthError::Refused(_))), "{malformed}");
    }
    assert_eq!(server.asked(), 0);
    let same = |token: String| {
        let asking: Vec<Asking> = (0..50).map(|_| ask(&auth, token.clone())).collect();
        join_all(asking)
    };
    assert!(
        same(real(0))
            .await
            .into_iter()
            .all(|who| who.unwrap().is_ok())
    );
    assert_eq!(server.asked(), 1);
    let refused = same(forged(&uid(0), 0)).await;
    let is_refused = |answer: &_| matches!(answer, Ok(Err(AuthError::Refused(_))));
    assert!(refused.iter().all(is_refused));
    assert_eq!(server.asked(), 2, "a refusal is kept");

    server.away.store(true, Ordering::SeqCst);
    let unknown = auth.authenticate(&real(1)).await;
    assert!(matches!(unknown, Err(AuthError::Unavailable(_))));
    server.away.store(false, Ordering::SeqCst);
    assert!(
        auth.authenticate(&real(1)).await.is_ok(),
        "no answer is none"
    );
}
