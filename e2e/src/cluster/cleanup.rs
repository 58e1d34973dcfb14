//! `down`: removes a cluster to the last process, mount, cgroup, file and interface, then looks whether it is true.
//!
//! Nothing here trusts what an earlier run wrote down: everything is found by the cluster's name, so `down` works on
//! whatever a killed `up` left, and on nothing at all.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use super::layout::Layout;
use super::{cgroup, daemon, lifecycle, netns, node, processes};

const GRACE: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(20);
const CONTAINER_LOGS: &str = "/var/log/containers";
const SHIM_SOCKETS: &str = "/run/containerd/s";
const NAMESPACES: &str = "/run/netns";
const KUBELET_SOCKET: &str = "/var/lib/kubelet/device-plugins/kubelet.sock";

/// Removes the cluster. The caller holds the lock.
///
/// # Errors
/// Something is left; the message names all of it.
pub(super) fn down(layout: &Layout) -> Result<()> {
    end_processes(layout);
    let sockets = shim_sockets(layout);
    unmount(layout);
    let _ = cgroup::remove(layout);
    netns::remove(layout)?;
    for socket in sockets {
        let _ = fs::remove_file(socket);
    }
    shared_folders(layout);
    // Never delete through a mount that would not go: it may lead anywhere.
    if mounts(layout).is_empty() && layout.state().exists() {
        fs::remove_dir_all(layout.state())
            .with_context(|| format!("remove {}", layout.state().display()))?;
    }
    let left = leftovers(layout);
    if !left.is_empty() {
        bail!(
            "cluster {} is not quite gone; left: {}",
            layout.name(),
            left.join("; ")
        );
    }
    Ok(())
}

/// Everything of the cluster that is still on this machine, in words.
#[must_use]
pub(super) fn leftovers(layout: &Layout) -> Vec<String> {
    let mut left: Vec<String> = processes::members(layout)
        .iter()
        .map(|(pid, name)| format!("process {pid} ({name})"))
        .collect();
    left.extend(
        mounts(layout)
            .iter()
            .map(|mount| format!("mount {}", mount.display())),
    );
    left.extend(
        cgroup::groups(layout)
            .iter()
            .map(|group| format!("cgroup {}", group.display())),
    );
    if layout.netns().exists() {
        left.push(format!("network namespace {}", layout.netns().display()));
    }
    left.extend(
        container_logs(layout)
            .iter()
            .map(|link| format!("link {}", link.display())),
    );
    if layout.state().exists() {
        left.push(format!("folder {}", layout.state().display()));
    }
    left
}

/// Removes the lock file and the clusters' folder if it was the last.
pub(super) fn forget(layout: &Layout) {
    let _ = fs::remove_file(lifecycle::lock_path(layout));
    let _ = fs::remove_dir(Layout::base());
}

/// The kubelet first, or it restarts containers; then containers, so that their shims see them end; then the rest.
fn end_processes(layout: &Layout) {
    if let Some(pid) = daemon::running(layout, node::KUBELET) {
        processes::signal(pid, Signal::SIGKILL);
        let _ = processes::ended(&[pid], GRACE);
    }
    kill_all(|| cgroup::processes(layout, cgroup::PODS));
    let members = || processes::members(layout).into_keys().collect::<Vec<_>>();
    kill_all(members);
}

/// Kills until nobody is left or the time is up; looks again each time, because the dying still start processes.
/// Nobody is asked to end in good order: what they would save is deleted next.
fn kill_all(who: impl Fn() -> Vec<i32>) {
    let started = Instant::now();
    while started.elapsed() < LIMIT {
        let pids: Vec<i32> = who()
            .into_iter()
            .filter(|pid| processes::alive(*pid))
            .collect();
        if pids.is_empty() {
            return;
        }
        for pid in &pids {
            processes::signal(*pid, Signal::SIGKILL);
        }
        let _ = processes::ended(&pids, Duration::from_millis(200));
    }
}

/// Sockets of the shims, which containerd keeps outside its state folder.
fn shim_sockets(layout: &Layout) -> Vec<PathBuf> {
    let tasks = layout.path("containerd/state/io.containerd.runtime.v2.task/k8s.io");
    let Ok(entries) = fs::read_dir(tasks) else {
        return Vec::new();
    };
    let addresses =
        entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("address")).ok());
    addresses
        .filter_map(|address| Some(PathBuf::from(address.trim().strip_prefix("unix://")?)))
        .filter(|socket| socket.starts_with(SHIM_SOCKETS))
        .collect()
}

fn unmount(layout: &Layout) {
    for mount in mounts(layout) {
        if umount2(&mount, MntFlags::empty()).is_err() {
            let _ = umount2(&mount, MntFlags::MNT_DETACH);
        }
    }
}

/// Mounts below the state folder, last first.
fn mounts(layout: &Layout) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(unescape)
        .filter(|path| path.starts_with(layout.state()))
        .collect();
    found.reverse();
    found
}

/// The mount table writes blanks and the like as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) => {
                text.push(char::from(code));
                text.push_str(rest);
            }
            _ => text.push_str(part),
        }
    }
    PathBuf::from(text)
}

/// The kubelet links every container's log into a folder that cannot be configured.
fn container_logs(layout: &Layout) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(CONTAINER_LOGS) else {
        return Vec::new();
    };
    let links = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    links
        .filter(|link| fs::read_link(link).is_ok_and(|target| target.starts_with(layout.state())))
        .collect()
}

/// Folders that Kubernetes, containerd and `ip` make wherever they run; removed only when nobody uses them any more.
fn shared_folders(layout: &Layout) {
    for link in container_logs(layout) {
        let _ = fs::remove_file(link);
    }
    // A kubelet of another cluster that still listens keeps its socket.
    if UnixStream::connect(KUBELET_SOCKET).is_err() {
        let _ = fs::remove_file(KUBELET_SOCKET);
    }
    if fs::read_dir(NAMESPACES).is_ok_and(|mut entries| entries.next().is_none()) {
        // `ip netns add` mounts the folder on itself.
        let _ = umount2(NAMESPACES, MntFlags::empty());
    }
    let plugins = Path::new(KUBELET_SOCKET)
        .parent()
        .into_iter()
        .flat_map(|folder| [Some(folder), folder.parent()])
        .flatten();
    for folder in [CONTAINER_LOGS, SHIM_SOCKETS, "/run/containerd", NAMESPACES]
        .map(Path::new)
        .into_iter()
        .chain(plugins)
    {
        let _ = fs::remove_dir(folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_in_mount_points_are_read_back() {
        for (field, want) in [
            ("/a/b", "/a/b"),
            ("/a\\040b", "/a b"),
            ("/a\\134b", "/a\\b"),
        ] {
            assert_eq!(unescape(field), PathBuf::from(want));
        }
    }

    #[test]
    fn a_cluster_that_never_was_has_left_nothing() {
        assert_eq!(
            leftovers(&Layout::new("never-was").unwrap()),
            Vec::<String>::new()
        );
    }
}
