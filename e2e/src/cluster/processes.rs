//! Finds the processes of a cluster without trusting pid files: by the mark in their environment, by their network
//! namespace, by their cgroup. So `down` also works after everything that knew about them was killed.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::layout::{Layout, MARK};
use super::{cgroup, netns};

const PAUSE: Duration = Duration::from_millis(20);

/// Every process of the cluster, with its name; this program and those that started it are never among them.
#[must_use]
pub(super) fn members(layout: &Layout) -> BTreeMap<i32, String> {
    let namespace = netns::inode(layout);
    let mark = format!("{MARK}={}", layout.name());
    let own = ancestry();
    let mut found: Vec<i32> = cgroup::processes(layout, "");
    found.extend(
        all()
            .into_iter()
            .filter(|pid| in_namespace(*pid, namespace) || has_mark(*pid, &mark)),
    );
    found
        .into_iter()
        .filter(|pid| !own.contains(pid) && alive(*pid))
        .map(|pid| (pid, name(pid)))
        .collect()
}

/// Whether the process exists and has not ended (a zombie has).
#[must_use]
pub(super) fn alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// Whether `variable=value` is in the environment the process was started with.
#[must_use]
pub(super) fn has_mark(pid: i32, mark: &str) -> bool {
    environment(pid)
        .split(|byte| *byte == 0)
        .any(|entry| entry == mark.as_bytes())
}

/// Empty for a moment while the process becomes another program, and for good when there is nothing to read.
fn environment(pid: i32) -> Vec<u8> {
    for _ in 0..5 {
        match std::fs::read(format!("/proc/{pid}/environ")) {
            Ok(text) if text.is_empty() && alive(pid) => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(text) => return text,
            Err(_) => break,
        }
    }
    Vec::new()
}

/// Sends a signal; a process that is gone already is fine.
pub(super) fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Whether every process has ended within the time.
#[must_use]
pub(super) fn ended(pids: &[i32], limit: Duration) -> bool {
    let started = Instant::now();
    while pids.iter().any(|pid| alive(*pid)) {
        if started.elapsed() > limit {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

/// What the process is called.
#[must_use]
pub(super) fn name(pid: i32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line
        .split(|byte| *byte == 0)
        .take(2)
        .map(String::from_utf8_lossy)
        .collect();
    words.join(" ").trim().to_owned()
}

fn all() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

fn in_namespace(pid: i32, namespace: Option<u64>) -> bool {
    let Some(namespace) = namespace else {
        return false;
    };
    std::fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|file| file.ino() == namespace)
}

/// State letter and parent.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in brackets and may hold anything, brackets too.
    let rest = text.rsplit_once(") ")?.1;
    let mut fields = rest.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn ancestry() -> Vec<i32> {
    let mut own = vec![std::process::id().cast_signed()];
    while let Some((_, parent)) = own
        .last()
        .and_then(|pid| stat(*pid))
        .filter(|(_, parent)| *parent > 0)
    {
        own.push(parent);
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_mark_until_it_has_ended() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env(MARK, "unit-test")
            .spawn()
            .unwrap();
        let pid = child.id().cast_signed();
        assert!(alive(pid));
        assert!(has_mark(pid, "KINORA_CLUSTER=unit-test"));
        assert!(!has_mark(pid, "KINORA_CLUSTER=unit"));
        assert!(
            name(pid).ends_with("sleep 60") || name(pid).starts_with("sleep"),
            "{}",
            name(pid)
        );
        signal(pid, Signal::SIGKILL);
        assert!(
            ended(&[pid], Duration::from_secs(10)),
            "a zombie counts as ended"
        );
        child.wait().unwrap();
    }

    #[test]
    fn this_process_and_its_parents_are_its_ancestry() {
        let own = ancestry();
        assert_eq!(own.first(), Some(&std::process::id().cast_signed()));
        assert!(own.len() >= 2);
    }
}
