//! The cluster's own cgroup, in every v1 controller or in the v2 tree. Daemons and pods live below it, so that `down`
//! can find every process whatever became of its parent.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::layout::Layout;

/// Group of the daemons; the kubelet makes `kubepods` beside it.
pub(super) const DAEMONS: &str = "daemons";
/// Group of the pods.
pub(super) const PODS: &str = "kubepods";
const REMOVAL: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// Where cgroups are mounted: the v2 root alone, or each v1 controller.
#[must_use]
pub(super) fn hierarchies() -> Vec<PathBuf> {
    let unified = Path::new("/sys/fs/cgroup");
    if is_v2(unified) {
        return vec![unified.to_owned()];
    }
    mounted(&["cgroup"])
}

/// Makes the groups of the cluster in each hierarchy.
///
/// # Errors
/// The hierarchy is read-only or this is not root.
pub(super) fn ensure(layout: &Layout) -> Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(layout.scope());
        make(&hierarchy, &group)?;
        make(&group, &group.join(DAEMONS))?;
    }
    Ok(())
}

/// The `cgroup.procs` files that a daemon enters before it starts.
#[must_use]
pub(super) fn daemon_files(layout: &Layout) -> Vec<PathBuf> {
    hierarchies()
        .iter()
        .map(|hierarchy| {
            hierarchy
                .join(layout.scope())
                .join(DAEMONS)
                .join("cgroup.procs")
        })
        .collect()
}

/// Process ids in the cluster's groups below `part` (or all, when empty), in any hierarchy, each once.
#[must_use]
pub(super) fn processes(layout: &Layout, part: &str) -> Vec<i32> {
    let mut pids: Vec<i32> = groups(layout)
        .iter()
        .filter(|group| {
            part.is_empty()
                || group
                    .components()
                    .any(|component| component.as_os_str() == part)
        })
        .flat_map(|group| in_group(group))
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Process ids directly in the groups whose folder has this name, for example a container id; oldest first.
#[must_use]
pub(super) fn processes_of(layout: &Layout, name: &str) -> Vec<i32> {
    let named = groups(layout)
        .into_iter()
        .filter(|group| group.file_name().is_some_and(|last| last == name));
    let mut pids: Vec<i32> = named.flat_map(|group| in_group(&group)).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Removes the cluster's groups and returns those that would not go within a few seconds.
#[must_use]
pub(super) fn remove(layout: &Layout) -> Vec<PathBuf> {
    let started = Instant::now();
    loop {
        let left = groups(layout);
        for group in &left {
            let _ = fs::remove_dir(group);
        }
        if left.is_empty() || started.elapsed() > REMOVAL {
            return left;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Every group of the cluster, deepest first; on a hybrid machine also those in the v2 tree, which runc makes.
#[must_use]
pub(crate) fn groups(layout: &Layout) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in mounted(&["cgroup", "cgroup2"]) {
        let mut open = vec![hierarchy.join(layout.scope())];
        while let Some(group) = open.pop() {
            let Ok(entries) = fs::read_dir(&group) else {
                continue;
            };
            open.extend(
                entries
                    .filter_map(Result::ok)
                    .filter(|entry| entry.path().is_dir())
                    .map(|entry| entry.path()),
            );
            found.push(group);
        }
    }
    found.sort_by_key(|group| std::cmp::Reverse(group.components().count()));
    found
}

fn in_group(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn make(parent: &Path, group: &Path) -> Result<()> {
    if is_v2(parent) {
        let controllers = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
        for controller in controllers.split_whitespace() {
            // One at a time: a controller that cannot be delegated must not keep the others back.
            let _ = fs::write(
                parent.join("cgroup.subtree_control"),
                format!("+{controller}"),
            );
        }
    }
    fs::create_dir_all(group).with_context(|| format!("make the cgroup {}", group.display()))?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        // A v1 cpuset without CPUs or memory accepts no process.
        let own = group.join(file);
        if fs::read_to_string(&own).is_ok_and(|text| text.trim().is_empty()) && !is_v2(parent) {
            let inherited = fs::read(parent.join(file))
                .with_context(|| format!("read {file} of {}", parent.display()))?;
            fs::write(&own, inherited).with_context(|| format!("write {}", own.display()))?;
        }
    }
    Ok(())
}

fn is_v2(group: &Path) -> bool {
    group.join("cgroup.controllers").exists()
}

fn mounted(kinds: &[&str]) -> Vec<PathBuf> {
    of_kind(
        &fs::read_to_string("/proc/self/mounts").unwrap_or_default(),
        kinds,
    )
}

fn of_kind(mounts: &str, kinds: &[&str]) -> Vec<PathBuf> {
    let fields = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let wanted = fields.filter(|fields| fields.get(2).is_some_and(|kind| kinds.contains(kind)));
    wanted
        .filter_map(|fields| fields.get(1).map(PathBuf::from))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_v1_hierarchies_are_taken_from_the_mounts() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\ncgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n";
        assert_eq!(
            of_kind(mounts, &["cgroup"]),
            [
                PathBuf::from("/sys/fs/cgroup/cpu"),
                PathBuf::from("/sys/fs/cgroup/pids")
            ]
        );
    }
}
