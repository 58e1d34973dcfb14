//! What a person makes before an install: the namespaces, the store's credentials, an API key.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::{CROWD_TENANTS, JOBS_NAMESPACE, KEY_ID, RELEASE_NAMESPACE, Stack};
use crate::cluster::Cluster;

impl Stack {
    /// Namespaces of release and jobs, and the Secrets that a person makes before an install.
    ///
    /// # Errors
    /// What kubectl said.
    pub fn namespaces_and_secrets(&self) -> Result<()> {
        let (access_key, secret_key) = self.cluster.store_credentials()?;
        let (_, secret) = self.api_key.split_once('.').context("api key")?;
        let hash = hex::encode(Sha256::digest(secret));
        let api_key = |tenant: &str| {
            let scopes = ["kinora:upload", "kinora:tenant"];
            serde_json::json!({"sha256": hash, "tenant": tenant, "scopes": scopes}).to_string()
        };
        let mut keys = vec![(KEY_ID.to_owned(), api_key("demo"))];
        keys.extend((1..CROWD_TENANTS).map(|n| (key_id(n), api_key(&key_id(n)))));
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
        let keys: Vec<_> = keys
            .iter()
            .map(|(id, key)| (id.as_str(), key.as_str()))
            .collect();
        documents.push(secret_object("kinora-api-keys", &keys));
        self.apply(&documents)
    }

    /// `<key-id>.<secret>` of one of the tenants of [`super::CROWD`].
    #[must_use]
    pub fn key_of_tenant(&self, number: usize) -> String {
        let secret = self
            .api_key
            .split_once('.')
            .map_or("", |(_, secret)| secret);
        match number {
            0 => self.api_key.clone(),
            _ => format!("{}.{secret}", key_id(number)),
        }
    }

    /// Gives the images of one tag another one, too.
    ///
    /// # Errors
    /// What `ctr` said.
    pub fn tag_images(&self, present: &super::Images, next: &super::Images) -> Result<()> {
        for name in ["operator", "uploader", "worker"] {
            let reference = |images: &super::Images| {
                format!("{}/kinora-{name}:{}", images.registry, images.tag)
            };
            self.cluster
                .tag_image(&reference(present), &reference(next))?;
        }
        Ok(())
    }
}

/// Name of the key, and of the tenant.
fn key_id(number: usize) -> String {
    format!("crowd-{number:02}")
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
