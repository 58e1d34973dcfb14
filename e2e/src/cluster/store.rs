//! The store of the local cluster: SeaweedFS inside the network namespace, behind a Service without selector.
//!
//! Only its S3 port listens on the node's address; the rest of it is on loopback, where pods cannot reach it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::daemon::{self, Spec};
use super::layout::{Layout, NODE_ADDRESS, STORE_ADDRESS};
use super::{pki, probe};
use crate::tools::Tools;

/// Component name.
pub(super) const STORE: &str = "store";
/// Bucket that `up` makes.
pub const BUCKET: &str = "kinora";

const FILER: &str = "127.0.0.1:8388";
const READY: Duration = Duration::from_mins(2);
const ONE_REQUEST: Duration = Duration::from_secs(5);
/// The program is opened before /tmp is hidden, because the cache may be below it.
const PRIVATE_TMP: &str =
    r#"exec 9<"$2" && mount --bind "$1" /tmp && shift 2 && exec /proc/self/fd/9 "$@""#;

/// Starts the store; [`ready`] waits for it.
///
/// # Errors
/// It could not be started.
pub(super) fn start(layout: &Layout, tools: &Tools) -> Result<()> {
    let (access_key, secret_key) = credentials_or_new(layout)?;
    let identity = json!({"identities": [{
        "name": "kinora", "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }]});
    let config = layout.path("store/s3.json");
    pki::write_secret(&config, &serde_json::to_vec_pretty(&identity)?)?;
    // SeaweedFS talks to itself through sockets in /tmp that are named by port only: without a /tmp of its own, the
    // stores of two clusters would talk to one another.
    let args = [
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        PRIVATE_TMP,
        "sh",
    ]
    .map(str::to_owned);
    let weed = [
        layout.text("store/tmp"),
        tools.weed.to_string_lossy().into_owned(),
        "server".to_owned(),
        format!("-dir={}", layout.text("store/data")),
        "-ip=127.0.0.1".to_owned(),
        "-ip.bind=127.0.0.1".to_owned(),
        "-master.port=9333".to_owned(),
        "-master.volumeSizeLimitMB=1024".to_owned(),
        "-master.telemetry=false".to_owned(),
        "-volume.port=8380".to_owned(),
        "-volume.max=100".to_owned(),
        "-filer=true".to_owned(),
        "-filer.port=8388".to_owned(),
        "-s3=true".to_owned(),
        "-s3.port=8333".to_owned(),
        format!("-s3.ip.bind={NODE_ADDRESS}"),
        format!("-s3.config={}", config.display()),
    ];
    let spec = Spec::new(STORE, "unshare", args.into_iter().chain(weed));
    daemon::ensure(layout, &spec).map(|_| ())
}

/// Waits until the store answers and takes bytes, and makes the bucket.
///
/// # Errors
/// It does not; the message ends with its log.
pub(super) fn ready(layout: &Layout) -> Result<()> {
    probe::in_namespace(layout, || {
        probe::until(layout, STORE, READY, || {
            probe::http_status(STORE_ADDRESS, "/").map(|_| ())
        })?;
        probe::until(layout, STORE, READY, || make_bucket(BUCKET))?;
        // The first write finds out whether there is a volume to write to.
        probe::until(layout, STORE, READY, || {
            filer("PUT", &format!("/buckets/{BUCKET}/.ready"), "ready")
        })?;
        filer("DELETE", &format!("/buckets/{BUCKET}/.ready"), "")
    })
}

/// Makes a bucket: a folder of this name in the filer is one.
///
/// # Errors
/// The filer does not answer or refuses. Must be called from inside the namespace.
pub(super) fn make_bucket(name: &str) -> Result<()> {
    filer("POST", &format!("/buckets/{name}/"), "")
}

fn filer(method: &str, path: &str, body: &str) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&FILER.parse()?, ONE_REQUEST)
        .context("connect to the store's filer")?;
    stream.set_read_timeout(Some(ONE_REQUEST))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {FILER}\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .context("read the filer's answer")?;
    // 409: the folder is there already.
    let done = matches!(answer.get(9..12), Some("200" | "201" | "204" | "409"));
    ensure!(done, "{method} {path} on the store's filer: {answer}");
    Ok(())
}

/// Access key and secret key.
///
/// # Errors
/// The cluster was never up.
pub(super) fn credentials(layout: &Layout) -> Result<(String, String)> {
    let read = |file: &str| {
        let path = layout.path("store/credentials").join(file);
        fs::read_to_string(&path)
            .with_context(|| format!("read {}: is cluster {} up?", path.display(), layout.name()))
    };
    Ok((read("access-key-id")?, read("secret-access-key")?))
}

fn credentials_or_new(layout: &Layout) -> Result<(String, String)> {
    if let Ok(existing) = credentials(layout) {
        return Ok(existing);
    }
    let fresh = (
        hex::encode(rand::random::<[u8; 10]>()),
        hex::encode(rand::random::<[u8; 20]>()),
    );
    pki::write_secret(
        &layout.path("store/credentials/access-key-id"),
        fresh.0.as_bytes(),
    )?;
    pki::write_secret(
        &layout.path("store/credentials/secret-access-key"),
        fresh.1.as_bytes(),
    )?;
    Ok(fresh)
}
