//! The reference service over real gRPC and HTTP, with a real ffmpeg.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::StatusCode;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use kinora_protocol::processing::process_update::Update;
use kinora_protocol::processing::{Output, ProcessRequest, Progress, Result as ServiceResult};
use kinora_reference_service::control;
use md5::{Digest as _, Md5};
use sha2::{Digest, Sha256};
use support::{CRASHES, Service, Store, ffmpeg, request, sample, until};
use tokio::process::Command;
use tonic::{Code, Status};
use tonic_types::StatusExt;

struct Answer {
    progress: Vec<Progress>,
    result: ServiceResult,
}

async fn call(service: &Service, request: ProcessRequest) -> Result<Answer, Status> {
    let mut stream = service.client().await.process(request).await?.into_inner();
    let (mut progress, mut result) = (Vec::new(), None);
    while let Some(update) = stream.message().await? {
        match update.update.unwrap() {
            Update::Progress(p) => progress.push(p),
            Update::Result(r) => assert!(result.replace(r).is_none(), "two results"),
        }
    }
    Ok(Answer {
        progress,
        result: result.expect("no result"),
    })
}

async fn setting() -> (Store, Service) {
    let store = Store::start().await;
    store.set("bikes.mp4", std::fs::read(sample("bikes.mp4")).unwrap());
    store.set(
        "bunny.mp4",
        std::fs::read(sample("bigbuckbunny.mp4")).unwrap(),
    );
    store.set("text.mp4", "I am a video, believe me.\n".repeat(100));
    store.set("empty.mp4", "");
    store.set(
        "playlist.mp4",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
    );
    store.set("large.mp4", vec![0; 3_000_001]);
    (store, Service::start(4).await)
}

/// What ffmpeg says of an object, as text.
async fn described(store: &Store, key: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("object");
    std::fs::write(&path, store.get(key).unwrap()).unwrap();
    let output = Command::new(support::ffmpeg_path())
        .args(["-hide_banner", "-nostdin", "-i"])
        .arg(&path)
        .args(["-f", "null", "-"])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{key} cannot be decoded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[rstest::rstest]
#[case::with_sound("bunny.mp4", "854x480", "Duration: 00:00:05.3", true)]
#[case::without_sound("bikes.mp4", "1130x480", "Duration: 00:00:10.0", false)]
#[tokio::test]
async fn a_real_video_becomes_480_lines_of_h264_and_a_thumbnail(
    #[case] source: &str,
    #[case] want_size: &str,
    #[case] want_duration: &str,
    #[case] want_audio: bool,
) {
    let (store, service) = setting().await;
    let answer = call(&service, request(&store, "u.0", source, "out"))
        .await
        .unwrap();

    let steps: Vec<&str> = answer.progress.iter().map(|p| p.step.as_str()).collect();
    assert_eq!(steps.first(), Some(&"download"));
    assert!(
        steps.contains(&"transcode") && steps.contains(&"upload"),
        "{steps:?}"
    );
    assert!(answer.progress.iter().all(|p| p.percent < 100));
    assert!(answer.result.result_json.contains("durationSeconds"));
    for output in &answer.result.outputs {
        let bytes = store.get(&format!("out/{}", output.name)).unwrap();
        assert_eq!(output.size_bytes, bytes.len() as u64);
        assert_eq!(
            output.checksum,
            format!("sha256:{}", hex::encode(Sha256::digest(&bytes)))
        );
    }
    let video = described(&store, "out/video").await;
    assert!(
        video.contains("h264") && video.contains("yuv420p"),
        "{video}"
    );
    assert!(
        video.contains(want_size) && video.contains(want_duration),
        "{video}"
    );
    assert_eq!(video.contains("Audio: aac"), want_audio, "{video}");
    let thumbnail = described(&store, "out/thumbnail").await;
    assert!(
        thumbnail.contains("mjpeg") && thumbnail.contains(want_size),
        "{thumbnail}"
    );
    let puts = store.puts.lock().unwrap().clone();
    let types = puts.iter().map(|(_, headers)| &headers["content-type"]);
    assert_eq!(types.collect::<Vec<_>>(), ["video/mp4", "image/jpeg"]);
    for (key, headers) in &puts {
        let md5 = BASE64_STANDARD.encode(Md5::digest(store.get(key).unwrap()));
        assert_eq!(headers["content-md5"], md5, "{key}");
    }
}

#[rstest::rstest]
#[case::text_that_calls_itself_mp4("text.mp4", Code::InvalidArgument, "not a video")]
#[case::nothing_at_all("empty.mp4", Code::InvalidArgument, "not a video")]
#[case::a_playlist_that_names_a_local_file("playlist.mp4", Code::InvalidArgument, "not a video")]
#[case::above_the_limit("large.mp4", Code::OutOfRange, "larger than the 3000000 bytes")]
#[case::gone("missing.mp4", Code::NotFound, "no source")]
#[tokio::test]
async fn bad_sources(#[case] source: &str, #[case] want: Code, #[case] text: &str) {
    let (store, service) = setting().await;
    let status = call(&service, request(&store, "u.0", source, "out"))
        .await
        .err()
        .unwrap();
    assert_eq!(status.code(), want, "{status:?}");
    assert!(status.message().contains(text), "{}", status.message());
    assert!(!status.message().contains("secret") && !status.message().contains("/tmp"));
    assert!(store.puts.lock().unwrap().is_empty());
    until("the work directory is empty", || is_empty(&service)).await;
}

#[rstest::rstest]
#[case::an_expired_url("bikes.mp4", StatusCode::FORBIDDEN, Code::FailedPrecondition)]
#[case::a_store_in_trouble("bikes.mp4", StatusCode::INTERNAL_SERVER_ERROR, Code::Aborted)]
#[case::a_redirect("bikes.mp4", StatusCode::FOUND, Code::FailedPrecondition)]
#[case::outputs_refused("out/video", StatusCode::FORBIDDEN, Code::FailedPrecondition)]
#[tokio::test]
async fn a_store_that_refuses(#[case] key: &str, #[case] answer: StatusCode, #[case] want: Code) {
    let (store, service) = setting().await;
    store.answer(key, &[(answer, false)]);
    let status = call(&service, request(&store, "u.0", "bikes.mp4", "out"))
        .await
        .err()
        .unwrap();
    assert_eq!(status.code(), want, "{status:?}");
}

#[tokio::test]
async fn a_put_whose_answer_was_lost_is_tried_again_and_412_is_its_own_success() {
    let (store, service) = setting().await;
    store.answer("out/thumbnail", &[(StatusCode::SERVICE_UNAVAILABLE, true)]);
    call(&service, request(&store, "u.0", "bikes.mp4", "out"))
        .await
        .unwrap();
    assert_eq!(store.puts.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn an_output_that_is_there_before_the_first_put_is_a_failure() {
    let (store, service) = setting().await;
    store.set("out/video", "somebody else's");
    let status = call(&service, request(&store, "u.0", "bikes.mp4", "out"))
        .await
        .err()
        .unwrap();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(store.get("out/video").unwrap(), "somebody else's");
}

#[tokio::test]
async fn an_output_it_does_not_make_is_a_matter_of_configuration() {
    let (store, service) = setting().await;
    let mut request = request(&store, "u.0", "bikes.mp4", "out");
    request.outputs.push(Output {
        name: "subtitles".to_owned(),
        put_url: store.url("out/subtitles"),
        ..Output::default()
    });
    let status = call(&service, request).await.err().unwrap();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(
        status.message().contains("`subtitles`"),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn a_repeat_with_the_same_key_puts_to_its_own_urls_without_transcoding_again() {
    let (store, service) = setting().await;
    let first = call(&service, request(&store, "u.0", "bikes.mp4", "1-a"))
        .await
        .unwrap();
    let again = call(&service, request(&store, "u.0", "bikes.mp4", "2-b"))
        .await
        .unwrap();
    assert_eq!(first.result, again.result);
    assert_eq!(store.get("1-a/video"), store.get("2-b/video"));
    let counts = service.shared.ledger.counts();
    assert_eq!(
        (counts.calls["u.0"], counts.remembered, counts.succeeded),
        (2, 1, 2)
    );
}

/// A caller that goes away costs nothing any more: ffmpeg ends, files go.
#[tokio::test]
async fn a_cancelled_call_leaves_no_process_and_no_file() {
    let (store, service) = setting().await;
    let request = request(&store, "u.0", "bunny.mp4", "out");
    let mut stream = service
        .client()
        .await
        .process(request)
        .await
        .unwrap()
        .into_inner();
    loop {
        let update = stream.message().await.unwrap().unwrap().update.unwrap();
        if matches!(update, Update::Progress(p) if p.step == "transcode") {
            break;
        }
    }
    drop(stream);
    until("the call is counted", || {
        service.shared.ledger.counts().cancelled == 1
    })
    .await;
    until("the work directory is empty", || is_empty(&service)).await;
    assert!(store.puts.lock().unwrap().is_empty());
}

fn is_empty(service: &Service) -> bool {
    std::fs::read_dir(service.dir.path())
        .unwrap()
        .next()
        .is_none()
}

#[tokio::test]
async fn fault_knobs_throttle_fail_reject_and_crash_for_as_many_calls_as_they_say() {
    let (store, service) = setting().await;
    let ask = || call(&service, request(&store, "u.0", "bikes.mp4", "out"));

    service.set(r#"{"throttleRate":1,"retryAfterMs":1500,"next":1}"#);
    let status = ask().await.err().unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let info = status.get_details_retry_info().unwrap();
    assert_eq!(info.retry_delay, Some(Duration::from_millis(1500)));

    service.set(r#"{"errorRate":1,"errorCode":"UNAVAILABLE","next":1}"#);
    assert_eq!(ask().await.err().unwrap().code(), Code::Unavailable);
    service.set(r#"{"reject":"no cats","next":1}"#);
    let status = ask().await.err().unwrap();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "no cats")
    );

    service.set(r#"{"crash":true,"latencyMs":10,"next":1}"#);
    let crashes = CRASHES.load(Ordering::SeqCst);
    ask().await.unwrap();
    assert_eq!(CRASHES.load(Ordering::SeqCst), crashes + 1);
}

#[tokio::test]
async fn outputs_are_copies_of_the_source_while_the_knob_says_so() {
    let (store, service) = setting().await;
    service.set(r#"{"copy":true}"#);
    let result = call(&service, request(&store, "u.0", "bikes.mp4", "out"))
        .await
        .unwrap()
        .result;
    let source = std::fs::read(support::sample("bikes.mp4")).unwrap();
    assert_eq!(result.outputs.len(), 2);
    for output in result.outputs {
        assert_eq!(output.size_bytes, source.len() as u64, "{}", output.name);
        assert_eq!(
            store.get(&format!("out/{}", output.name)),
            Some(source.clone().into())
        );
    }
}

#[tokio::test]
async fn more_calls_than_it_takes_at_once_are_throttled() {
    let (store, service) = (Store::start().await, Service::start(1).await);
    service.set(r#"{"latencyMs":600000}"#);
    let first = request(&store, "a.0", "bikes.mp4", "a");
    let mut client = service.client().await;
    let held = client.process(first).await.unwrap();
    until("the first call holds the slot", || {
        service.shared.slots.available_permits() == 0
    })
    .await;
    let status = call(&service, request(&store, "b.0", "bikes.mp4", "b"))
        .await
        .err()
        .unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.get_details_retry_info().is_some());
    drop(held);
    until("the slot is free", || {
        service.shared.slots.available_permits() == 1
    })
    .await;
    assert_eq!(service.shared.ledger.counts().max_in_flight, 2);
}

#[tokio::test]
async fn the_control_port_shows_and_takes_faults_and_shows_calls() {
    let (_store, service) = (Store::start().await, Service::start(1).await);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let app = control::router(service.shared.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let http = kinora_reference_service::transfer::client(None).unwrap();

    let put = |body: &'static str| http.put(format!("{base}/faults")).body(body).send();
    assert_eq!(
        put(r#"{"errorRate":0.5,"errorCode":"INTERNAL"}"#)
            .await
            .unwrap()
            .status(),
        200
    );
    let shown = http.get(format!("{base}/faults")).send().await.unwrap();
    assert!(shown.text().await.unwrap().contains(r#""errorRate":0.5"#));
    let refused = put(r#"{"errorRate":7}"#).await.unwrap();
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("errorRate is 7"));
    let entry = service.shared.ledger.enter("u.0");
    let calls = http.get(format!("{base}/calls")).send().await.unwrap();
    let calls: serde_json::Value = serde_json::from_str(&calls.text().await.unwrap()).unwrap();
    assert_eq!(
        (&calls["calls"]["u.0"], &calls["inFlight"]),
        (&1.into(), &1.into())
    );
    drop(entry);
    for path in ["livez", "readyz"] {
        assert_eq!(
            http.get(format!("{base}/{path}"))
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
    }
}

#[tokio::test]
async fn a_missing_ffmpeg_is_told_with_its_path() {
    let missing = std::path::Path::new("/nowhere/ffmpeg");
    let error = kinora_reference_service::ffmpeg::Ffmpeg::find(missing)
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("/nowhere/ffmpeg"), "{error}");
    ffmpeg().await;
}
