//! The headers of every answer are on those too that no handler gives.

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn;
use axum::routing::get;
use http::{Request, header};
use tower::ServiceExt;

use super::{answer_always, tus, waiting_router};
use crate::metrics::Metrics;
use crate::serve::full;

async fn bug() -> &'static str {
    panic!("a bug")
}

#[tokio::test]
async fn an_answer_has_its_headers_whoever_gives_it() {
    let bug = Router::new()
        .route("/v1/uploads", get(bug))
        .layer(from_fn(answer_always));
    let no_place = full::router(&bug, &Metrics::default());
    for (name, router, status) in [
        ("a bug", bug, 500),
        ("no store yet", waiting_router(), 503),
        ("no place", no_place, 503),
    ] {
        let request = Request::get("/v1/uploads").header(header::ORIGIN, "https://example.org");
        let request = request.body(Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), status, "{name}");
        let headers = answer.headers();
        assert_eq!(headers[tus::TUS_RESUMABLE], "1.0.0", "{name}");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store", "{name}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{name}");
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*", "{name}");
    }
}
