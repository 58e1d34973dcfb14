//! What a person needs after a failure: objects and logs, saved where the message says.

use std::path::{Path, PathBuf};

use crate::stack::Stack;
use crate::tools::repository_root;

/// Of each log of the cluster.
const LOG_BYTES: usize = 1 << 20;

/// Saves objects and logs of the cluster below `target/e2e/`; answers the folder. Never fails: it runs when something did.
pub async fn save(stack: &Stack, name: &str) -> PathBuf {
    let directory = repository_root().join("target/e2e").join(name);
    if std::fs::create_dir_all(&directory).is_err() {
        return directory;
    }
    let reads: [(&str, &[&str]); 8] = [
        (
            "objects.txt",
            &["get", "pods,deployments,events", "-A", "-o", "wide"],
        ),
        (
            "workers.yaml",
            &[
                "-n",
                "videos",
                "get",
                "deployments,replicasets,pods",
                "-o",
                "yaml",
            ],
        ),
        (
            "videojobs.yaml",
            &["get", "videojobs,videoworkerpools", "-A", "-o", "yaml"],
        ),
        (
            "operator.log",
            &[
                "-n",
                "kinora-system",
                "logs",
                "--tail",
                "3000",
                "-l",
                "app.kubernetes.io/component=operator",
                "--prefix",
            ],
        ),
        (
            "uploader.log",
            &[
                "-n",
                "kinora-system",
                "logs",
                "--tail",
                "1000",
                "-l",
                "app.kubernetes.io/component=uploader",
                "--prefix",
            ],
        ),
        (
            "workers.log",
            &[
                "-n",
                "videos",
                "logs",
                "--tail",
                "1000",
                "-l",
                "kinora.dev/pool",
                "--prefix",
            ],
        ),
        (
            "service.log",
            &[
                "-n",
                "processing",
                "logs",
                "--tail",
                "1000",
                "-l",
                "app=reference-service",
            ],
        ),
        ("pods.txt", &["describe", "pods", "-A"]),
    ];
    for (file, args) in reads {
        let text = stack
            .cluster
            .kubectl(args)
            .unwrap_or_else(|error| format!("{error:#}"));
        // A diagnosis that cannot be saved is less important than the failure it belongs to.
        let _ = std::fs::write(directory.join(file), text);
    }
    let status = serde_json::to_string_pretty(&stack.cluster.status()).unwrap_or_default();
    let _ = std::fs::write(directory.join("cluster.json"), status);
    save_logs(&stack.cluster.logs_dir(), &directory);
    directory
}

/// The ends of the logs of the cluster's own programs.
fn save_logs(logs: &Path, directory: &Path) {
    for entry in std::fs::read_dir(logs).into_iter().flatten().flatten() {
        let text = std::fs::read(entry.path()).unwrap_or_default();
        let end = &text[text.len().saturating_sub(LOG_BYTES)..];
        let _ = std::fs::write(directory.join(entry.file_name()), end);
    }
}
