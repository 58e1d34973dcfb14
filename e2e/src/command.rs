//! Runs other programs: with a time limit, output kept for the error message, nothing inherited from the terminal.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const PAUSE: Duration = Duration::from_millis(10);
/// Of an error message, in bytes.
const TAIL: usize = 4_000;

/// Runs `command` to its end and returns what it wrote to standard output.
///
/// # Errors
/// It could not be started, failed (the message ends with what it said), or took longer than `limit`.
pub fn run(what: &str, command: &mut Command, limit: Duration) -> Result<String> {
    run_with_input(what, command, "", limit)
}

/// Like [`run`], with text on standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(
    what: &str,
    command: &mut Command,
    input: &str,
    limit: Duration,
) -> Result<String> {
    let mut stdin = tempfile::tempfile().context("make a temporary file")?;
    stdin
        .write_all(input.as_bytes())
        .context("write a temporary file")?;
    stdin.rewind().context("rewind a temporary file")?;
    let stdout = tempfile::tempfile().context("make a temporary file")?;
    let stderr = tempfile::tempfile().context("make a temporary file")?;
    let mut child = command
        .stdin(stdin)
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .spawn()
        .with_context(|| format!("{what}: start {}", command.get_program().to_string_lossy()))?;
    let status = wait(&mut child, limit).with_context(|| format!("wait for: {what}"))?;
    let said = read(stdout)?;
    match status {
        Some(status) if status.success() => Ok(said),
        Some(status) => bail!("{what}: {status}: {}", tail(&read(stderr)?, &said)),
        None => bail!(
            "{what}: no end after {} s: {}",
            limit.as_secs(),
            tail(&read(stderr)?, &said)
        ),
    }
}

/// Runs a program with the terminal's own input and output.
///
/// # Errors
/// It could not be started.
pub fn interactive(what: &str, command: &mut Command) -> Result<ExitStatus> {
    command
        .stdin(Stdio::inherit())
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit())
        .status()
        .with_context(|| format!("{what}: start {}", command.get_program().to_string_lossy()))
}

/// Where a program lies, if `PATH` (or the system folders, which a user's `PATH` may lack) has it.
#[must_use]
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain([
            "/usr/local/go/bin",
            "/usr/local/sbin",
            "/usr/sbin",
            "/sbin",
            "/usr/bin",
            "/bin",
        ])
        .map(|folder| std::path::Path::new(folder).join(program))
        .find(|candidate| candidate.is_file())
}

/// `None` when the limit came first; the child is killed then.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

fn read(mut file: File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn tail(stderr: &str, stdout: &str) -> String {
    let text = if stderr.trim().is_empty() {
        stdout
    } else {
        stderr
    };
    let mut from = text.len().saturating_sub(TAIL);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_returned_and_a_failure_says_why() {
        let limit = Duration::from_secs(10);
        let said = run_with_input(
            "echo",
            Command::new("sh").args(["-c", "cat; echo two"]),
            "one\n",
            limit,
        )
        .unwrap();
        assert_eq!(said, "one\ntwo\n");
        let error = run(
            "fail",
            Command::new("sh").args(["-c", "echo no space >&2; exit 3"]),
            limit,
        )
        .unwrap_err();
        assert_eq!(format!("{error:#}"), "fail: exit status: 3: no space");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let error = run(
            "hang",
            Command::new("sleep").arg("60"),
            Duration::from_millis(50),
        )
        .unwrap_err();
        assert!(
            format!("{error:#}").starts_with("hang: no end after"),
            "{error:#}"
        );
    }
}
