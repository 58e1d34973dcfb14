//! What is logged by everything in this process, and that no secret is in it.

use std::io::Write;
use std::sync::{LazyLock, Mutex, Once};

use tracing_subscriber::EnvFilter;

use crate::matrix::token_for;
use crate::stage::{SECRET, STREAM, Stage, id_of, secret, video};

static LINES: LazyLock<Mutex<Vec<u8>>> = LazyLock::new(Mutex::default);
static ONCE: Once = Once::new();

struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LINES.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Keeps all log lines of this process, from `debug` on.
pub(crate) fn capture() {
    // But for the store's, which writes out every body that it gets.
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .json()
            .with_env_filter(EnvFilter::new(
                "debug,s3s=info,kinora_uploader=trace,kinora_storage=trace",
            ))
            .with_writer(|| Lines)
            .init();
    });
}

/// covers: S12, T27
#[tokio::test]
async fn no_credential_and_no_signature_is_ever_logged_or_answered() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let id = id_of(&stage.create(&replica, "backend", 9000).await);
    let token = token_for(&stage, &replica, &id).await;
    let mut told = String::new();
    for credential in [
        secret("phone"),
        format!("phone.{SECRET}-wrong"),
        token.clone(),
        format!("{token}x"),
    ] {
        for (method, path) in [("HEAD", "uploads"), ("PATCH", "uploads"), ("GET", "videos")] {
            let request = stage.ask(
                &replica,
                Some(&credential),
                method,
                &format!("/v1/{path}/{id}"),
            );
            let request = request
                .header("Upload-Offset", "0")
                .header("Content-Type", STREAM);
            let answer = request.body(video(9000)).send().await.unwrap();
            told += &format!("{:?}", answer.headers());
            told += &answer.text().await.unwrap();
        }
    }
    for path in ["/metrics", "/readyz", "/v1/openapi.json"] {
        let answer = stage.ask(&replica, None, "GET", path).send().await.unwrap();
        told += &answer.text().await.unwrap();
    }
    assert!(
        told.contains("kinora_uploader_requests_total"),
        "answers are kept"
    );
    let url = replica
        .app
        .store
        .presign_get("outputs/x", std::time::Duration::from_secs(60))
        .unwrap();
    let signature = url.split("X-Amz-Signature=").nth(1).unwrap().to_owned();
    let debug = format!("{:?} {:?}", replica.app.auth, replica.app.limits);
    tracing::info!("the last line");

    let lines = String::from_utf8_lossy(&LINES.lock().unwrap()).into_owned();
    assert!(lines.contains("the last line"), "lines are captured");
    let hash = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(SECRET));
    let canaries = [
        ("the secret of keys", SECRET),
        ("its hash", &hash),
        ("the key of upload tokens", "canary-key-that-signs"),
        ("an upload token", &token),
        ("its signature", token.rsplit('.').next().unwrap()),
        ("a presigned signature", &signature),
        ("the store's secret", kinora_fake_s3::SECRET_ACCESS_KEY),
    ];
    for (name, canary) in canaries {
        assert!(!lines.contains(canary), "{name} is in the log");
        assert!(!debug.contains(canary), "{name} is in the Debug text");
        assert!(!told.contains(canary), "{name} is in an answer or a metric");
    }
}
