//! One call from request to result: download, probe, transcode, upload. I/O; dropping the future undoes everything
//! (ffmpeg is killed, files are deleted).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kinora_protocol::processing::process_update::Update;
use kinora_protocol::processing::{
    Output, OutputResult, ProcessRequest, ProcessUpdate, Progress, Result as ServiceResult,
};
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc};
use tonic::Status;

use crate::failure::Failure;
use crate::faults::{FaultBoard, Ordeal};
use crate::ffmpeg::Ffmpeg;
use crate::ledger::Ledger;
use crate::memory::{Made, MadeFile, Memory};
use crate::transfer::{self, Digests};

/// What all calls share.
#[derive(Debug)]
pub struct Shared {
    /// Proved to run.
    pub ffmpeg: Ffmpeg,
    /// For the store.
    pub http: reqwest::Client,
    /// Emptied at start; every call makes a directory of its own in it.
    pub work_dir: PathBuf,
    /// Bytes.
    pub max_source_bytes: u64,
    /// One permit a call.
    pub slots: Semaphore,
    /// How many permits there are.
    pub concurrency: usize,
    /// Finished work.
    pub memory: Memory,
    /// Knobs.
    pub faults: FaultBoard,
    /// Counts.
    pub ledger: Ledger,
    /// Ends the process, as a crash would.
    pub crash: fn(),
}

/// Where updates go.
pub type Updates = mpsc::Sender<Result<ProcessUpdate, Status>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Video,
    Thumbnail,
}

impl Kind {
    fn of(name: &str) -> Result<Self, Failure> {
        match name {
            "video" => Ok(Self::Video),
            "thumbnail" => Ok(Self::Thumbnail),
            other => Err(Failure::UnknownOutput(other.chars().take(63).collect())),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Video => "video/mp4",
            Self::Thumbnail => "image/jpeg",
        }
    }
}

/// Does the work of one call.
///
/// # Errors
/// See [`Failure`].
pub async fn run(
    shared: &Shared,
    authorization: Option<&str>,
    request: &ProcessRequest,
    updates: &Updates,
) -> Result<ServiceResult, Failure> {
    let Ok(_slot) = shared.slots.try_acquire() else {
        return Err(Failure::Busy {
            limit: shared.concurrency,
            retry_after: Duration::from_secs(2),
        });
    };
    let ordeal = shared.faults.take(rand::random(), authorization);
    tokio::time::sleep(ordeal.latency).await;
    if let Some(failure) = ordeal.failure {
        return Err(failure);
    }
    for output in &request.outputs {
        Kind::of(&output.name)?;
    }
    let names = request.outputs.iter().map(|output| output.name.as_str());
    let made = match shared.memory.recall(&request.idempotency_key, names) {
        Some(made) if !ordeal.crash => {
            shared.ledger.remembered();
            made
        }
        _ => {
            let made = Arc::new(make(shared, request, updates, &ordeal).await?);
            shared.memory.keep(&request.idempotency_key, &made);
            made
        }
    };
    tell(updates, 99, "upload");
    let mut outputs = Vec::with_capacity(request.outputs.len());
    for output in &request.outputs {
        outputs.push(deliver(shared, output, &made).await?);
    }
    Ok(ServiceResult {
        outputs,
        result_json: result_json(&made),
    })
}

async fn make(
    shared: &Shared,
    request: &ProcessRequest,
    updates: &Updates,
    ordeal: &Ordeal,
) -> Result<Made, Failure> {
    let dir =
        TempDir::with_prefix_in("call-", &shared.work_dir).map_err(|source| Failure::Disk {
            action: "make a work directory",
            source,
        })?;
    let source = dir.path().join("source");
    if ordeal.copy && request.outputs.is_empty() {
        return copies(dir, &source, request).await;
    }
    tell(updates, 0, "download");
    transfer::download(
        &shared.http,
        &request.source_url,
        &source,
        shared.max_source_bytes,
    )
    .await?;
    if ordeal.crash {
        (shared.crash)();
    }
    if ordeal.copy {
        return copies(dir, &source, request).await;
    }
    let found = shared.ffmpeg.probe(&source).await?;
    let mut files = BTreeMap::new();
    for output in &request.outputs {
        let kind = Kind::of(&output.name)?;
        let path = dir.path().join(&output.name);
        match kind {
            Kind::Video => {
                let report = |percent| tell(updates, percent, "transcode");
                shared
                    .ffmpeg
                    .transcode(&source, &path, found.duration_seconds, report)
                    .await?;
            }
            Kind::Thumbnail => {
                tell(updates, 99, "thumbnail");
                shared
                    .ffmpeg
                    .thumbnail(&source, &path, found.duration_seconds)
                    .await?;
            }
        }
        files.insert(output.name.clone(), made_file(&path, kind).await?);
    }
    // Only the outputs are worth keeping.
    let _ = tokio::fs::remove_file(&source).await;
    Ok(Made {
        dir,
        files,
        duration_seconds: found.duration_seconds,
    })
}

/// The source under the name of each output.
async fn copies(dir: TempDir, source: &Path, request: &ProcessRequest) -> Result<Made, Failure> {
    let mut files = BTreeMap::new();
    for output in &request.outputs {
        let path = dir.path().join(&output.name);
        let copied = tokio::fs::copy(source, &path).await;
        copied.map_err(|source| Failure::Disk {
            action: "copy the source",
            source,
        })?;
        let file = made_file(&path, Kind::of(&output.name)?).await?;
        files.insert(output.name.clone(), file);
    }
    Ok(Made {
        dir,
        files,
        duration_seconds: None,
    })
}

async fn made_file(path: &Path, kind: Kind) -> Result<MadeFile, Failure> {
    let Digests { size, sha256, md5 } = transfer::digest(path).await?;
    if size == 0 {
        return Err(Failure::Ffmpeg {
            action: "make an output",
            problem: "it is empty".to_owned(),
        });
    }
    Ok(MadeFile {
        path: path.to_owned(),
        size,
        sha256,
        md5,
        content_type: kind.content_type(),
    })
}

async fn deliver(shared: &Shared, output: &Output, made: &Made) -> Result<OutputResult, Failure> {
    let Some(file) = made.files.get(&output.name) else {
        return Err(Failure::UnknownOutput(output.name.clone()));
    };
    transfer::upload(
        &shared.http,
        &output.name,
        &output.put_url,
        &output.headers,
        file,
    )
    .await?;
    Ok(OutputResult {
        name: output.name.clone(),
        size_bytes: file.size,
        checksum: format!("sha256:{}", file.sha256),
        uri: String::new(),
    })
}

fn result_json(made: &Made) -> String {
    match made.duration_seconds {
        Some(seconds) => serde_json::json!({ "durationSeconds": seconds }).to_string(),
        None => String::new(),
    }
}

/// Never waits: a caller that does not read loses progress, not the result.
fn tell(updates: &Updates, percent: u32, step: &str) {
    let _ = updates.try_send(Ok(ProcessUpdate {
        update: Some(Update::Progress(Progress {
            percent,
            step: step.to_owned(),
        })),
    }));
}
