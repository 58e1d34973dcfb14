//! Looking at VideoJobs, their workers and their outputs from the outside.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kinora_crds::{VideoJob, VideoJobStatus};
use kube::api::{Api, DeleteParams};

use crate::stack::{JOBS_NAMESPACE, Stack};
use crate::wait;

/// Jobs of the tests and the demo.
#[must_use]
pub fn api(stack: &Stack) -> Api<VideoJob> {
    Api::namespaced(stack.client.clone(), JOBS_NAMESPACE)
}

/// Waits until the job's status satisfies `want`; answers the job.
///
/// # Errors
/// It did not within `limit`; the last status is named.
pub async fn until<F>(
    stack: &Stack,
    name: &str,
    what: &str,
    limit: Duration,
    want: F,
) -> Result<VideoJob>
where
    F: Fn(&VideoJobStatus) -> bool,
{
    let api = api(stack);
    wait::until(&format!("{name} {what}"), limit, || async {
        let job = api
            .get(name)
            .await
            .with_context(|| format!("get videojob {name}"))?;
        let status = job.status.clone().unwrap_or_default();
        ensure!(
            want(&status),
            "status is {}",
            serde_json::to_string(&status)?
        );
        Ok(Some(job))
    })
    .await
}

/// Waits for a state.
///
/// # Errors
/// As [`until`].
pub async fn until_state(
    stack: &Stack,
    name: &str,
    state: &str,
    limit: Duration,
) -> Result<VideoJob> {
    until(stack, name, &format!("to be {state}"), limit, |status| {
        status.state == state
    })
    .await
}

/// Waits until an attempt of the job runs and the service has been called for it. Earlier attempts may have come to no call.
///
/// # Errors
/// As [`until`].
pub async fn until_called(stack: &Stack, name: &str, limit: Duration) -> Result<VideoJob> {
    let what = format!("the service to be called for {name}");
    wait::until(&what, limit, || async {
        let calls = Calls::read(stack).await?.of(name);
        // Looked at after the call began: this is the attempt that called.
        let job = api(stack)
            .get(name)
            .await
            .with_context(|| format!("get videojob {name}"))?;
        let status = status(&job);
        ensure!(
            calls > 0 && status.state == "Running" && status.worker.is_some(),
            "{calls} calls began, status is {}",
            serde_json::to_string(&status)?
        );
        Ok(Some(job))
    })
    .await
}

/// Calls that the reference service saw begin, by job. What an outage costs is counted here and not in attempts: on a
/// machine without a processor to spare, an attempt may find no way to the service in time and end before it calls.
#[derive(Debug)]
pub struct Calls(serde_json::Value);

impl Calls {
    /// Asks the service what it counted.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn read(stack: &Stack) -> Result<Self> {
        Ok(Self(stack.calls().await?["calls"].take()))
    }

    /// Calls for one job, those before its redrives too; `id` is its upload's, its name `vj-<id>`, or a declared job's uid.
    #[must_use]
    pub fn of(&self, id: &str) -> i32 {
        let id = id.strip_prefix("vj-").unwrap_or(id);
        let is_ours = |key: &str| key.rsplit_once('.').is_some_and(|(of, _)| of == id);
        let all = self.0.as_object().into_iter().flatten();
        let ours = all.filter(|(key, _)| is_ours(key));
        let sum: i64 = ours.filter_map(|(_, count)| count.as_i64()).sum();
        i32::try_from(sum).unwrap_or(i32::MAX)
    }

    /// Makes sure that the service was called so many times for the job, and that none of these calls was counted as an
    /// interruption or as an end without charge: only attempts that came to no call may be.
    ///
    /// # Errors
    /// It was called more or less, or a call was charged so.
    pub fn exactly(&self, want: i32, id: &str, status: &VideoJobStatus) -> Result<()> {
        let calls = self.of(id);
        let charged = status.interruptions + status.uncharged;
        ensure!(
            calls == want && charged <= status.attempt - calls,
            "{calls} calls for {id}, not {want}, or more was charged than attempts without a call: {status:?}"
        );
        Ok(())
    }
}

/// The job's status; the default when it has none.
#[must_use]
pub fn status(job: &VideoJob) -> VideoJobStatus {
    job.status.clone().unwrap_or_default()
}

/// Name and uid of the pod that holds the job.
///
/// # Errors
/// No worker is named.
pub fn worker(job: &VideoJob) -> Result<(String, String)> {
    let worker = status(job).worker.context("no worker in the status")?;
    Ok((worker.pod_name, worker.pod_uid))
}

/// Reason of the job's `Succeeded` condition.
#[must_use]
pub fn reason(job: &VideoJob) -> String {
    status(job)
        .conditions
        .into_iter()
        .find(|one| one.type_ == "Succeeded")
        .map(|one| one.reason)
        .unwrap_or_default()
}

/// Sends SIGKILL to a container's first process, as the kernel's OOM killer would.
///
/// # Errors
/// The process was not found; a kubelet may name a running container seconds after its start.
pub async fn kill_container(stack: &Stack, pod_uid: &str, container: &str) -> Result<()> {
    let what = format!("container {container} of pod {pod_uid} to be known");
    let pid = wait::until(&what, Duration::from_secs(20), || async {
        stack.cluster.container_pid(pod_uid, container).map(Some)
    })
    .await?;
    let process = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL)
        .with_context(|| format!("kill -9 the process {pid} of container {container}"))
}

/// Deletes a worker pod, with its grace period or at once.
///
/// # Errors
/// The API server refused.
pub async fn delete_pod(stack: &Stack, name: &str, grace_seconds: Option<u32>) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(stack.client.clone(), JOBS_NAMESPACE);
    let params = DeleteParams {
        grace_period_seconds: grace_seconds,
        ..DeleteParams::default()
    };
    pods.delete(name, &params)
        .await
        .with_context(|| format!("delete pod {name}"))?;
    Ok(())
}

/// What ffmpeg read of a file.
#[derive(Clone, Debug)]
pub struct Media {
    /// Of the container, in seconds; zero for a picture.
    pub seconds: f64,
    /// Of the first video stream, in pixels.
    pub width: u32,
    /// Of the first video stream, in pixels.
    pub height: u32,
    /// Codec of the first video stream, as ffmpeg names it.
    pub codec: String,
}

/// Decodes the whole file with ffmpeg and tells what it is.
///
/// # Errors
/// It cannot be decoded.
pub fn decode(ffmpeg: &Path, file: &Path) -> Result<Media> {
    let run = std::process::Command::new(ffmpeg)
        .args(["-hide_banner", "-nostdin", "-xerror", "-i"])
        .arg(file)
        .args(["-f", "null", "-"])
        .output()
        .context("run ffmpeg")?;
    let log = String::from_utf8_lossy(&run.stderr).into_owned();
    ensure!(
        run.status.success(),
        "ffmpeg cannot decode {}: {log}",
        file.display()
    );
    parse_media(&log).with_context(|| format!("ffmpeg says nothing of {}: {log}", file.display()))
}

fn parse_media(log: &str) -> Option<Media> {
    let seconds = log
        .lines()
        .find_map(|line| line.trim().strip_prefix("Duration: "))
        .and_then(|rest| rest.split(',').next())
        .and_then(|time| {
            time.split(':').try_fold(0.0, |sum, part| {
                part.parse::<f64>().ok().map(|part| sum * 60.0 + part)
            })
        })
        .unwrap_or(0.0);
    let stream = log
        .lines()
        .find(|line| line.contains("Stream #0") && line.contains("Video: "))?;
    let codec = stream
        .split("Video: ")
        .nth(1)?
        .split([' ', ','])
        .next()?
        .to_owned();
    let (width, height) = stream.split([' ', ',']).find_map(|word| {
        let (width, height) = word.split_once('x')?;
        Some((width.parse::<u32>().ok()?, height.parse::<u32>().ok()?))
    })?;
    Some(Media {
        seconds,
        width,
        height,
        codec,
    })
}

/// Downloads the outputs of a finished video into `directory` as `<name>.mp4` and `<name>.jpg`.
///
/// # Errors
/// An output is missing or could not be read.
pub async fn download(
    stack: &Stack,
    base: &str,
    id: &str,
    directory: &Path,
) -> Result<Vec<std::path::PathBuf>> {
    std::fs::create_dir_all(directory)?;
    let video = crate::uploads::video(stack, base, id).await?;
    let outputs = video["outputs"].as_array().cloned().unwrap_or_default();
    ensure!(!outputs.is_empty(), "{id} has no outputs: {video}");
    let mut files = Vec::new();
    for output in outputs {
        let name = output["name"]
            .as_str()
            .context("an output without a name")?;
        let url = output["url"].as_str().context("an output without a URL")?;
        let bytes = stack
            .http
            .get(url)
            .send()
            .await?
            .error_for_status()?
            .bytes()
            .await?;
        let extension = if name == "thumbnail" { "jpg" } else { "mp4" };
        let path = directory.join(format!("{name}.{extension}"));
        std::fs::write(&path, &bytes)?;
        files.push(path);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use kinora_crds::VideoJobStatus;
    use serde_json::json;

    use super::{Calls, parse_media};

    #[test]
    fn attempts_without_a_call_may_be_charged_and_calls_may_not() {
        let calls = Calls(json!({"c-1.0": 1, "c-1.1": 1, "c-10.0": 7, "c-2.0": 1}));
        for (id, want) in [("c-1", 2), ("vj-c-1", 2), ("c-2", 1), ("c-3", 0)] {
            assert_eq!(calls.of(id), want, "{id}");
        }
        let status = |attempt, interruptions, uncharged| VideoJobStatus {
            attempt,
            interruptions,
            uncharged,
            ..VideoJobStatus::default()
        };
        for (id, status, fine) in [
            ("c-2", status(1, 0, 0), true),
            ("c-2", status(3, 1, 1), true),
            ("c-2", status(1, 0, 1), false),
            ("c-2", status(2, 1, 1), false),
            ("c-1", status(2, 0, 0), false),
            ("c-3", status(1, 0, 0), false),
        ] {
            let said = calls.exactly(1, id, &status);
            assert_eq!(said.is_ok(), fine, "{id}: {said:?}");
        }
    }

    #[test]
    fn reads_duration_size_and_codec_of_what_ffmpeg_prints() {
        let log = "  Duration: 00:01:05.28, start: 0.000000, bitrate: 1589 kb/s\n  Stream #0:0[0x1](und): Video: h264 (Main) (avc1 / 0x31637661), yuv420p(progressive), 1280x720 [SAR 1:1 DAR 16:9], 25 fps\n";
        let media = parse_media(log).unwrap();
        assert!((media.seconds - 65.28).abs() < 0.001);
        assert_eq!(
            (media.width, media.height, media.codec.as_str()),
            (1280, 720, "h264")
        );
    }
}
