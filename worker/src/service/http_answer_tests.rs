//! Every status, body and Location, before and after the service took the call over.

use super::*;

const ENDPOINT: &str = "http://svc:8080/v1/process";

fn now() -> Timestamp {
    "2026-05-09T07:28:00Z".parse().unwrap()
}

fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().unwrap());
    }
    Answer {
        status,
        headers: map,
        body: Body::Whole(body.as_bytes().to_vec()),
    }
}

fn posted() -> Conversation {
    Conversation::new(ENDPOINT.parse().unwrap())
}

fn polling() -> Conversation {
    let mut talk = posted();
    let accepted = answer(202, &[("location", "/jobs/7")], "");
    assert!(matches!(talk.answered(&accepted, now()), Next::Ask { .. }));
    talk
}

fn done(next: Next) -> Report {
    match next {
        Next::Done(report) => report,
        Next::Ask { .. } => panic!("{next:?}"),
    }
}

fn grpc(code: Code) -> Fact {
    Report::found(code, "").fact
}

/// Every status there is ends a POST with a raw fact, a result or a broken answer; only a 202 goes on.
///
/// covers: F48, F50, S15
#[test]
fn the_table_over_every_status_is_total() {
    for status in 100..=999u16 {
        let next = posted().answered(&answer(status, &[], "{}"), now());
        let want = match status {
            // `{}` is no result, and a 202 without a Location leads nowhere.
            200..=299 => grpc(Code::DataLoss),
            _ => Fact::Http(HttpStatus {
                status: u32::from(status),
            }),
        };
        assert_eq!(done(next).fact, want, "{status}");
    }
}

/// covers: F45, F47
#[test]
fn a_question_that_fails_is_asked_again_and_not_for_ever() {
    for status in 100..=999u16 {
        let mut talk = polling();
        let next = talk.answered(&answer(status, &[], ""), now());
        match status {
            202 | 401 | 403 | 408 | 425 | 429 | 502..=504 => {
                assert!(matches!(next, Next::Ask { .. }), "{status}: {next:?}");
                assert_eq!(talk.abandoned().unwrap().path(), "/jobs/7");
            }
            200..=299 | 404 | 410 => {
                assert_eq!(done(next).fact, grpc(Code::DataLoss), "{status}");
                assert_eq!(talk.abandoned(), None);
            }
            _ => assert!(matches!(done(next).fact, Fact::Http(_)), "{status}"),
        }
    }
    let mut talk = polling();
    let busy = answer(503, &[("retry-after", "3")], "busy");
    let pauses: Vec<u64> = (0..5)
        .map(|_| match talk.answered(&busy, now()) {
            Next::Ask { pause, .. } => pause.as_secs(),
            Next::Done(report) => panic!("{report:?}"),
        })
        .collect();
    assert_eq!(pauses, [3, 3, 4, 8, 16]);
    let report = done(talk.answered(&busy, now()));
    assert_eq!(report.fact, Fact::Http(HttpStatus { status: 503 }));
    assert_eq!(report.retry_after, Some(Duration::from_secs(3)));
    assert!(talk.abandoned().is_some(), "it may still work there");
}

#[test]
fn a_lost_connection_ends_a_post_and_is_borne_while_polling() {
    let lost = Report::found(Code::Unavailable, "reset");
    assert_eq!(done(posted().unanswered(lost.clone())), lost);
    assert!(matches!(polling().unanswered(lost), Next::Ask { .. }));
    let unreadable = Report::found(Code::DataLoss, "no HTTP");
    assert_eq!(done(polling().unanswered(unreadable.clone())), unreadable);
}

/// The service or this pod may have the new token, or the new certificate, before the other has.
/// covers: F59
#[test]
fn a_question_with_credentials_that_rotate_is_asked_again_for_minutes() {
    let stale = Report::found(Code::Unauthenticated, "certificate expired");
    assert_eq!(done(posted().unanswered(stale.clone())), stale);
    let refused = answer(401, &[], "");
    let mut talk = polling();
    for _ in 0..5 {
        assert!(matches!(talk.answered(&refused, now()), Next::Ask { .. }));
    }
    let restarts = Report::found(Code::Unavailable, "reset");
    assert!(matches!(talk.unanswered(restarts), Next::Ask { .. }));
    let mut talk = polling();
    let mut waited = Duration::ZERO;
    let report = loop {
        let next = if waited.as_secs().is_multiple_of(2) {
            talk.answered(&refused, now())
        } else {
            talk.unanswered(stale.clone())
        };
        match next {
            Next::Ask { pause, .. } => waited += pause,
            Next::Done(report) => break report,
        }
    };
    assert!(waited >= Duration::from_secs(240), "{waited:?}");
    assert!(waited <= Duration::from_secs(600), "{waited:?}");
    assert!(report == stale || report.fact == Fact::Http(HttpStatus { status: 401 }));
    assert!(talk.abandoned().is_some(), "it may still work there");
}

/// covers: F45
#[rstest::rstest]
#[case::none(None, 1_000)]
#[case::seconds(Some("7"), 7_000)]
#[case::zero_is_not_a_busy_loop(Some("0"), 100)]
#[case::negative(Some("-9"), 100)]
#[case::absurd(Some("99999999999999"), 60_000)]
#[case::a_date(Some("Sat, 09 May 2026 07:28:30 GMT"), 30_000)]
#[case::a_date_in_the_past(Some("Sun, 06 Nov 1994 08:49:37 GMT"), 100)]
#[case::text(Some("soon"), 1_000)]
fn pauses_between_questions(#[case] value: Option<&str>, #[case] want_ms: u128) {
    let mut headers = vec![("location", "/jobs/7")];
    headers.extend(value.map(|value| ("retry-after", value)));
    let next = posted().answered(&answer(202, &headers, r#"{"percent":5}"#), now());
    let Next::Ask {
        pause, progress, ..
    } = next
    else {
        panic!("{next:?}")
    };
    assert_eq!(pause.as_millis(), want_ms);
    assert_eq!(progress.unwrap().percent, 5);
}

/// covers: S15
#[rstest::rstest]
#[case::absolute("http://svc:8080/jobs/7", Ok("http://svc:8080/jobs/7"))]
#[case::absolute_path("/jobs/7?x=1", Ok("http://svc:8080/jobs/7?x=1"))]
#[case::relative("jobs/7", Ok("http://svc:8080/v1/jobs/7"))]
#[case::another_host("http://evil:8080/jobs/7", Err(Code::Unimplemented))]
#[case::another_port("http://svc:9/jobs/7", Err(Code::Unimplemented))]
#[case::another_scheme("https://svc:8080/jobs/7", Err(Code::Unimplemented))]
#[case::no_scheme("//evil/jobs/7", Err(Code::Unimplemented))]
#[case::a_file("file:///etc/passwd", Err(Code::Unimplemented))]
#[case::a_user("http://root@svc:8080/jobs/7", Err(Code::Unimplemented))]
#[case::no_url("http://[", Err(Code::DataLoss))]
#[case::endless(&"x".repeat(4096), Err(Code::DataLoss))]
fn locations(#[case] value: &str, #[case] want: Result<&str, Code>) {
    let mut talk = posted();
    let next = talk.answered(&answer(202, &[("location", value)], ""), now());
    match want {
        Ok(url) => {
            assert!(matches!(next, Next::Ask { .. }), "{next:?}");
            assert_eq!(talk.at().as_str(), url);
        }
        Err(code) => assert_eq!(done(next).fact, grpc(code)),
    }
}

#[test]
fn an_error_tells_its_reason_without_secrets_and_its_retry_after() {
    let body = r#"{"detail":"cannot read http://s/in?X-Amz-Signature=abc"}"#;
    let headers = [("retry-after", "120")];
    let report = done(posted().answered(&answer(429, &headers, body), now()));
    assert_eq!(report.message, "cannot read http://s/in…");
    assert_eq!(report.retry_after, Some(Duration::from_secs(120)));
}

/// covers: F48
#[test]
fn a_body_cut_short_or_too_long_is_a_broken_answer() {
    let whole = br#"{"outputs":[]}"#.to_vec();
    for (body, want) in [
        (Body::Whole(whole.clone()), None),
        (Body::Cut(whole.clone()), Some("cut short")),
        (Body::TooLong(whole), Some("longer than")),
    ] {
        let mut given = answer(200, &[], "");
        given.body = body;
        let report = done(posted().answered(&given, now()));
        match want {
            None => assert!(matches!(report.fact, Fact::Succeeded(_)), "{report:?}"),
            Some(text) => {
                assert_eq!(report.fact, grpc(Code::DataLoss));
                assert!(report.message.contains(text), "{}", report.message);
            }
        }
    }
}
