//! The programs of `e2e/clients/`, as processes that can be killed and started again.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::line::Line;

/// A client that gives up is started again, as a person would; so often at most.
const STARTS: usize = 40;
/// Longest life of one process.
const LIMIT: Duration = Duration::from_mins(8);

/// One way to upload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    /// For messages and folders.
    pub(super) name: &'static str,
    program: &'static [&'static str],
    protocol: &'static str,
    chunk: &'static str,
    /// Whether it goes on after a cut; a plain POST begins anew.
    pub(super) resumes: bool,
}

const fn client(
    name: &'static str,
    program: &'static [&'static str],
    protocol: &'static str,
    chunk: &'static str,
) -> Client {
    Client {
        name,
        program,
        protocol,
        chunk,
        resumes: true,
    }
}

const NODE: &[&str] = &["node", "tus.mjs"];
const CURL: &[&str] = &["sh", "curl.sh"];
pub(super) const TUS_JS: Client = client("tus-js", NODE, "tus-v1", "");
pub(super) const TUS_JS_PIECES: Client = client("tus-js-pieces", NODE, "tus-v1", "3000000");
pub(super) const TUS_JS_DRAFT_03: Client = client("tus-js-draft-03", NODE, "ietf-draft-03", "");
pub(super) const TUS_JS_DRAFT_05: Client = client("tus-js-draft-05", NODE, "ietf-draft-05", "");
pub(super) const TUSPY: Client = client("tuspy", &["python3", "with_tuspy.py"], "", "4194304");
pub(super) const AIOTUS: Client = client("aiotus", &["python3", "with_aiotus.py"], "", "");
pub(super) const CURL_TUS: Client = client("curl-tus", CURL, "tus", "");
pub(super) const CURL_DRAFT: Client = client("curl-draft", CURL, "draft", "");
pub(super) const CURL_POST: Client = Client {
    resumes: false,
    ..client("curl-post", CURL, "post", "")
};
pub(super) const UPPY: Client = client("uppy", &["node", "uppy.mjs"], "", "");

/// What a client works with.
pub(super) struct Desk {
    /// The installed programs.
    pub(super) programs: PathBuf,
    /// The file to upload.
    pub(super) file: PathBuf,
    /// What the client remembers from one start to the next.
    pub(super) state: PathBuf,
    /// `<key-id>.<secret>`.
    pub(super) token: String,
}

impl Client {
    /// Starts it on this line, in a process group of its own.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(&self, desk: &Desk, line: &Line) -> Result<Child> {
        let log = |name: &str| std::fs::File::create(desk.state.join(name));
        let (program, arguments) = self.program.split_first().context("no program")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(&desk.programs)
            .env("ENDPOINT", format!("http://{}/v1/uploads", line.address))
            .env("TOKEN", &desk.token)
            .env("FILE", &desk.file)
            .env("STATE", &desk.state)
            .env("PROTOCOL", self.protocol)
            .env("CHUNK", self.chunk)
            .env("PYTHONPATH", desk.programs.join("python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("no_proxy", "*")
            .stdin(Stdio::null())
            .stdout(log("stdout")?)
            .stderr(log("stderr")?)
            .process_group(0)
            .kill_on_drop(true);
        command
            .spawn()
            .with_context(|| format!("{}: start {program}", self.name))
    }

    /// Runs it to its end, again when it gives up; the id of its upload.
    ///
    /// # Errors
    /// It gave up too often; the message ends with what it said.
    pub(super) async fn finish(&self, desk: &Desk, line: &Line) -> Result<String> {
        for _ in 0..STARTS {
            let mut child = self.start(desk, line)?;
            let Ok(ended) = tokio::time::timeout(LIMIT, child.wait()).await else {
                kill(&child);
                bail!("{}: no end after {} s", self.name, LIMIT.as_secs());
            };
            if ended?.success() {
                return id_of(&said(&desk.state, "stdout")).with_context(|| self.name);
            }
        }
        let why = said(&desk.state, "stderr");
        bail!("{}: failed {STARTS} times, at last: {why}", self.name)
    }
}

/// Kills the process and all that it started, at once.
pub(super) fn kill(child: &Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended by itself.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// The end of what it wrote.
pub(super) fn said(state: &Path, name: &str) -> String {
    let text = std::fs::read(state.join(name)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let from = text.char_indices().rev().nth(1500).map_or(0, |(at, _)| at);
    text[from..].trim().to_owned()
}

/// The id at the end of the URL in the last line.
fn id_of(stdout: &str) -> Result<String> {
    let last = stdout.lines().last().unwrap_or_default().trim();
    let id = last.rsplit('/').next().unwrap_or_default();
    id.parse::<kinora_storage::UploadId>()
        .with_context(|| format!("no upload URL in {stdout:?}"))?;
    Ok(id.to_owned())
}
