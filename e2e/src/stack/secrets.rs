//! What a person makes before an install: the namespaces, the store's credentials, an API key.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::{JOBS_NAMESPACE, KEY_ID, RELEASE_NAMESPACE, Stack};
use crate::cluster::Cluster;

impl Stack {
    /// Namespaces of release and jobs, and the Secrets that a person makes before an install.
    ///
    /// # Errors
    /// What kubectl said.
    pub fn namespaces_and_secrets(&self) -> Result<()> {
        let (access_key, secret_key) = self.cluster.store_credentials()?;
        let (_, secret) = self.api_key.split_once('.').context("api key")?;
        let api_key = serde_json::json!({
            "sha256": hex::encode(Sha256::digest(secret)), "tenant": "demo", "scopes": ["kinora:upload", "kinora:tenant"],
        });
        let mut documents = Vec::new();
        for namespace in [RELEASE_NAMESPACE, JOBS_NAMESPACE] {
            documents.push(serde_json::json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
            }));
        }
        documents.push(secret_object(
            "kinora-store",
            &[
                ("access-key-id", &access_key),
                ("secret-access-key", &secret_key),
            ],
        ));
        documents.push(secret_object(
            "kinora-api-keys",
            &[(KEY_ID, &api_key.to_string())],
        ));
        self.apply(&documents)
    }
}

fn secret_object(name: &str, entries: &[(&str, &str)]) -> serde_json::Value {
    let data: BTreeMap<_, _> = entries.iter().copied().collect();
    serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": name, "namespace": RELEASE_NAMESPACE}, "stringData": data,
    })
}

/// The secret of the demo's API key, made once per cluster and kept beside its other credentials.
pub(super) fn demo_secret(cluster: &Cluster) -> Result<String> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = cluster.state_dir().join("demo-api-key");
    if let Ok(secret) = std::fs::read_to_string(&path) {
        return Ok(secret);
    }
    let secret = hex::encode(rand::random::<[u8; 24]>());
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    std::io::Write::write_all(&mut file, secret.as_bytes())?;
    Ok(secret)
}
