//! Certificates and kubeconfigs of a cluster: one authority, one certificate per user of the API server.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use super::layout::{API_ADDRESS, API_SERVICE_ADDRESS, Layout, NODE_ADDRESS, NODE_NAME};

/// Users of the API server that get a kubeconfig; the certificate's name is theirs in RBAC.
const USERS: &[(&str, &str, &str)] = &[
    ("admin", "admin", "system:masters"),
    (
        "controller-manager",
        "system:kube-controller-manager",
        "system:kube-controller-manager",
    ),
    (
        "scheduler",
        "system:kube-scheduler",
        "system:kube-scheduler",
    ),
    ("kubelet", "system:node:node1", "system:nodes"),
    ("proxy", "system:kube-proxy", "system:node-proxier"),
];

/// Makes everything unless it is there. The last file written says that all are.
///
/// # Errors
/// A file cannot be written.
pub(super) fn ensure(layout: &Layout) -> Result<()> {
    let done = layout.path("pki/complete");
    if done.exists() {
        return Ok(());
    }
    let authority = Authority::new()?;
    authority.write(layout)?;
    let api_names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        API_SERVICE_ADDRESS,
        NODE_ADDRESS,
    ];
    authority.issue(layout, "apiserver", "kube-apiserver", "kube", &api_names)?;
    authority.issue(
        layout,
        "kubelet-client",
        "kube-apiserver-kubelet-client",
        "system:masters",
        &[],
    )?;
    for (file, name, group) in USERS {
        let names: &[&str] = if *file == "kubelet" {
            &[NODE_NAME, "127.0.0.1", NODE_ADDRESS]
        } else {
            &[]
        };
        authority.issue(layout, file, name, group, names)?;
        write_kubeconfig(
            layout,
            file,
            &format!("https://{API_ADDRESS}"),
            &layout.kubeconfig(file),
        )?;
    }
    let service_accounts = KeyPair::generate().context("make the service account key")?;
    write_secret(
        &layout.path("pki/sa.key"),
        service_accounts.serialize_pem().as_bytes(),
    )?;
    write_secret(
        &layout.path("pki/sa.pub"),
        service_accounts.public_key_pem().as_bytes(),
    )?;
    fs::write(&done, b"").with_context(|| format!("write {}", done.display()))
}

/// Writes a kubeconfig with everything inside, so that it works wherever it is copied.
///
/// # Errors
/// The certificates are missing or the file cannot be written.
pub(super) fn write_kubeconfig(
    layout: &Layout,
    user: &str,
    server: &str,
    target: &Path,
) -> Result<()> {
    let data = |file: String| -> Result<String> {
        let path = layout.path(&file);
        let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(base64::engine::general_purpose::STANDARD.encode(content))
    };
    let name = layout.scope();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": data("pki/ca.crt".to_owned())?}}],
        "users": [{"name": name, "user": {
            "client-certificate-data": data(format!("pki/{user}.crt"))?, "client-key-data": data(format!("pki/{user}.key"))?,
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    });
    write_secret(target, &serde_json::to_vec_pretty(&config)?)
}

/// Writes a file that only root may read.
///
/// # Errors
/// It cannot be written.
pub(super) fn write_secret(path: &Path, content: &[u8]) -> Result<()> {
    let written = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content));
    written.with_context(|| format!("write {}", path.display()))
}

struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    fn new() -> Result<Self> {
        let mut params = params("kinora-local-cluster", "kinora", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().context("make the authority's key")?;
        Ok(Self { params, key })
    }

    fn write(&self, layout: &Layout) -> Result<()> {
        let certificate = self
            .params
            .self_signed(&self.key)
            .context("sign the authority")?;
        write_secret(&layout.path("pki/ca.crt"), certificate.pem().as_bytes())?;
        write_secret(
            &layout.path("pki/ca.key"),
            self.key.serialize_pem().as_bytes(),
        )
    }

    fn issue(
        &self,
        layout: &Layout,
        file: &str,
        name: &str,
        group: &str,
        names: &[&str],
    ) -> Result<()> {
        let mut params = params(name, group, names)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().with_context(|| format!("make the key of {name}"))?;
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params
            .signed_by(&key, &issuer)
            .with_context(|| format!("sign the certificate of {name}"))?;
        write_secret(
            &layout.path(&format!("pki/{file}.crt")),
            certificate.pem().as_bytes(),
        )?;
        write_secret(
            &layout.path(&format!("pki/{file}.key")),
            key.serialize_pem().as_bytes(),
        )
    }
}

fn params(name: &str, group: &str, names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).with_context(|| format!("names of {name}"))?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, group);
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2120, 1, 1);
    Ok(params)
}
