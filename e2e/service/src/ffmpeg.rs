//! Runs ffmpeg: is it a video, transcode, thumbnail. I/O; a dropped future kills the process.
//!
//! The source comes from strangers: no network protocols, only container formats that hold video (no playlists, which
//! could name other files), nothing of it ever reaches a command line.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::failure::Failure;
use crate::probe;

/// Demuxers that may open a source.
const FORMATS: &str = "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf";
/// So much of what ffmpeg prints is kept.
const MAX_STDERR_BYTES: u64 = 64 * 1024;

/// The ffmpeg binary.
#[derive(Clone, Debug)]
pub struct Ffmpeg {
    binary: PathBuf,
}

/// What probing found out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Source {
    /// `None` if the container does not say.
    pub duration_seconds: Option<f64>,
}

impl Ffmpeg {
    /// The binary, proved to run.
    ///
    /// # Errors
    /// If it does not.
    pub async fn find(binary: &Path) -> Result<Self, Failure> {
        let ffmpeg = Self {
            binary: binary.to_owned(),
        };
        let mut command = Command::new(binary);
        command.arg("-version");
        let (status, problem) = finish(ffmpeg.spawn(&mut command, "start ffmpeg")?, |_| {}).await?;
        if status.success() {
            return Ok(ffmpeg);
        }
        Err(Failure::Ffmpeg {
            action: "start ffmpeg",
            problem,
        })
    }

    /// Decodes the first frame of the first real video stream (cover art is none).
    ///
    /// # Errors
    /// [`Failure::NotAVideo`] if there is nothing to decode.
    pub async fn probe(&self, source: &Path) -> Result<Source, Failure> {
        let mut command = self.reading(source);
        command.args(["-map", "0:V:0", "-frames:v", "1", "-f", "null", "-"]);
        let (status, stderr) =
            finish(self.spawn(&mut command, "probe the source")?, |_| {}).await?;
        if status.success() {
            return Ok(Source {
                duration_seconds: probe::duration(&stderr),
            });
        }
        if status.code().is_none() {
            // Killed from outside: says nothing about the source.
            return Err(failed("probe the source", status, &stderr));
        }
        Err(Failure::NotAVideo(probe::last_words(&stderr)))
    }

    /// 480 lines of H.264 with AAC, playable from the first byte on.
    ///
    /// # Errors
    /// If ffmpeg fails.
    pub async fn transcode(
        &self,
        source: &Path,
        target: &Path,
        duration_seconds: Option<f64>,
        mut on_percent: impl FnMut(u32),
    ) -> Result<(), Failure> {
        let mut command = self.reading(source);
        command
            .args(["-map", "0:V:0", "-map", "0:a:0?", "-vf", "scale=-2:480"])
            .args([
                "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p",
            ])
            .args(["-c:a", "aac", "-ac", "2", "-movflags", "+faststart"])
            .args(["-progress", "pipe:1", "-nostats", "-stats_period", "0.5"])
            .args(["-f", "mp4"])
            .arg(target);
        let child = self.spawn(&mut command, "transcode")?;
        let (status, stderr) = finish(child, |line| {
            if let Some(percent) = probe::percent(line, duration_seconds) {
                on_percent(percent);
            }
        })
        .await?;
        success("transcode", status, &stderr)
    }

    /// One frame from the first third, as JPEG with 480 lines.
    ///
    /// # Errors
    /// If ffmpeg fails.
    pub async fn thumbnail(
        &self,
        source: &Path,
        target: &Path,
        duration_seconds: Option<f64>,
    ) -> Result<(), Failure> {
        let at = (duration_seconds.unwrap_or(0.0) / 3.0).min(60.0);
        let mut command = self.reading(source);
        // Behind the input: decodes up to there, which cannot miss as a seek beyond the last key frame can.
        command
            .args([
                "-ss",
                &format!("{at:.2}"),
                "-map",
                "0:V:0",
                "-frames:v",
                "1",
            ])
            .args([
                "-vf",
                "scale=-2:480",
                "-pix_fmt",
                "yuvj420p",
                "-c:v",
                "mjpeg",
            ])
            .args(["-q:v", "3", "-f", "image2", "-update", "1"])
            .arg(target);
        let child = self.spawn(&mut command, "make the thumbnail")?;
        let (status, stderr) = finish(child, |_| {}).await?;
        success("make the thumbnail", status, &stderr)
    }

    fn reading(&self, source: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(["-hide_banner", "-nostdin", "-y"])
            .args([
                "-protocol_whitelist",
                "file,pipe",
                "-format_whitelist",
                FORMATS,
            ])
            .arg("-i")
            .arg(source);
        command
    }

    fn spawn(&self, command: &mut Command, action: &'static str) -> Result<Child, Failure> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::Ffmpeg {
                action,
                problem: format!("run {}: {error}", self.binary.display()),
            })
    }
}

async fn finish(
    mut child: Child,
    on_line: impl FnMut(&str),
) -> Result<(ExitStatus, String), Failure> {
    let stdout = child.stdout.take().map(|out| BufReader::new(out).lines());
    let stderr = child.stderr.take();
    // Both pipes at once, or a full one would stop ffmpeg for ever.
    let ((), text) = tokio::join!(follow(stdout, on_line), collect(stderr));
    let status = child.wait().await.map_err(|source| Failure::Disk {
        action: "wait for ffmpeg",
        source,
    })?;
    Ok((status, text))
}

async fn follow(lines: Option<Lines<BufReader<ChildStdout>>>, mut on_line: impl FnMut(&str)) {
    let Some(mut lines) = lines else { return };
    while let Ok(Some(line)) = lines.next_line().await {
        on_line(&line);
    }
}

async fn collect(stderr: Option<ChildStderr>) -> String {
    let Some(mut stderr) = stderr else {
        return String::new();
    };
    let mut kept = Vec::new();
    let _ = (&mut stderr)
        .take(MAX_STDERR_BYTES)
        .read_to_end(&mut kept)
        .await;
    // The rest is read and dropped, so that the pipe never fills up.
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).into_owned()
}

fn success(action: &'static str, status: ExitStatus, stderr: &str) -> Result<(), Failure> {
    if status.success() {
        return Ok(());
    }
    Err(failed(action, status, stderr))
}

fn failed(action: &'static str, status: ExitStatus, stderr: &str) -> Failure {
    Failure::Ffmpeg {
        action,
        problem: format!("ffmpeg ended with {status}: {}", probe::last_words(stderr)),
    }
}
