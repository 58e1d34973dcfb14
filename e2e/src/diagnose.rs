//! What a person needs after a failure: objects and logs, saved where the message says.

use std::path::PathBuf;

use crate::stack::Stack;
use crate::tools::repository_root;

/// Saves objects and logs of the cluster below `target/e2e/`; answers the folder. Never fails: it runs when something did.
pub async fn save(stack: &Stack, name: &str) -> PathBuf {
    let directory = repository_root().join("target/e2e").join(name);
    if std::fs::create_dir_all(&directory).is_err() {
        return directory;
    }
    let reads: [(&str, &[&str]); 7] = [
        (
            "objects.txt",
            &["get", "pods,deployments,events", "-A", "-o", "wide"],
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
    directory
}
