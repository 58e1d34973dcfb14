//! Servers as processes of their own, so that their CPU time and memory can be read from /proc. They end with the
//! handle, and also with the benchmark however that ends: a keeper waits for the end of its input.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const KEEPER: &str = r#"trap '' INT TERM HUP
ulimit -n "$(ulimit -Hn)"
log=$1; shift
"$@" </dev/null >"$log" 2>&1 &
server=$!
echo "$server"
cat >/dev/null
kill -9 "$server" 2>/dev/null
wait "$server" 2>/dev/null"#;
/// /proc counts CPU time in hundredths of a second on every Linux that Rust knows.
const TICKS_PER_SECOND: f64 = 100.0;

const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A running server.
#[derive(Debug)]
pub(crate) struct Process {
    keeper: Child,
    pid: i32,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it says goes to `log`.
    pub(crate) fn start(command: &Command, log: &Path) -> Result<Self> {
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "bench-keeper"]).arg(log);
        keeper
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => keeper.env(name, value),
                None => keeper.env_remove(name),
            };
        }
        let program = command.get_program().to_string_lossy().into_owned();
        let mut keeper = keeper.spawn().with_context(|| format!("start {program}"))?;
        let said = keeper.stdout.take().context("output of the keeper")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        let pid = line
            .trim()
            .parse()
            .with_context(|| format!("start {program}: no process id, but {line:?}"))?;
        Ok(Self {
            keeper,
            pid,
            log: log.to_owned(),
        })
    }

    /// CPU seconds used so far, of user and system together.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.pid).with_context(|| self.last_words())
    }

    /// Resident memory now, in MiB.
    pub(crate) fn rss_mib(&self) -> Result<f64> {
        self.status_mib("VmRSS:")
    }

    /// Of it, what is not a file's pages (text of the program) but its own, in MiB.
    pub(crate) fn anon_mib(&self) -> Result<f64> {
        self.status_mib("RssAnon:")
    }

    /// The most that was resident since [`Process::forget_peak`], in MiB.
    pub(crate) fn peak_mib(&self) -> Result<f64> {
        self.status_mib("VmHWM:")
    }

    /// From now on the peak is counted anew.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid), "5")
            .with_context(|| format!("reset the peak of process {}", self.pid))
    }

    /// Kills it as the kernel would.
    pub(crate) fn kill_hard(&self) -> Result<()> {
        kill(Pid::from_raw(self.pid), Signal::SIGKILL)
            .with_context(|| format!("kill process {}", self.pid))
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(&self) -> Result<()> {
        kill(Pid::from_raw(self.pid), Signal::SIGTERM)
            .with_context(|| format!("end process {}", self.pid))?;
        let deadline = Instant::now() + STOP_WITHIN;
        // The keeper does not look after it before its own end: until then it is a zombie.
        while stat(self.pid).is_ok_and(|fields| fields.first().is_some_and(|state| state != "Z")) {
            if Instant::now() > deadline {
                bail!("process {} does not end: {}", self.pid, self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The last lines it said.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    fn status_mib(&self, name: &str) -> Result<f64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
        kib.map(|kib| kib / 1024.0)
            .with_context(|| format!("no {name} in /proc/{}/status", self.pid))
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.pid);
        std::fs::read_to_string(&path)
            .with_context(|| format!("read {path}; it said:\n{}", self.last_words()))
    }
}

/// CPU seconds that a process used so far, of user and system together.
pub(crate) fn cpu_seconds(pid: i32) -> Result<f64> {
    let fields = stat(pid)?;
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok((user + system) / TICKS_PER_SECOND),
        _ => bail!("read the CPU time of process {pid}: {fields:?}"),
    }
}

/// The fields of /proc/<pid>/stat behind the name, which may hold anything, also spaces.
fn stat(pid: i32) -> Result<Vec<String>> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // The keeper ends by itself once its input does.
        let _ = self.keeper.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_measured_and_ends_with_its_handle() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo here; exec sleep 60"]);
        let process = Process::start(&command, &folder.path().join("log")).unwrap();
        assert!(process.cpu_seconds().unwrap() < 60.0);
        assert!(process.rss_mib().unwrap() > 0.0);
        let pid = process.pid;
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
