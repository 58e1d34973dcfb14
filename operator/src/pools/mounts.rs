//! What a worker's pod mounts: its dispatch token, the CA it trusts, and the pool's own Secrets by way of the kubelet. Pure.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, KeyToPath, ProjectedVolumeSource, SecretVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use kinora_crds::pool::defaults;
use kinora_crds::{VideoWorkerPool, names};

pub(super) const TOKEN_DIR: &str = "/var/run/kinora/dispatch-token";
pub(super) const CA_DIR: &str = "/var/run/kinora/dispatch-ca";
pub(super) const SERVICE_TLS_DIR: &str = "/var/run/kinora/service-tls";
pub(super) const SERVICE_TOKEN_DIR: &str = "/var/run/kinora/service-token";
const TOKEN_SECONDS: i64 = 3600;

pub(super) fn volumes(pool: &VideoWorkerPool) -> Vec<Volume> {
    let token = ServiceAccountTokenProjection {
        audience: Some(names::DISPATCH_AUDIENCE.to_owned()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: "token".to_owned(),
    };
    let projection = VolumeProjection {
        service_account_token: Some(token),
        ..VolumeProjection::default()
    };
    let projected = ProjectedVolumeSource {
        sources: Some(vec![projection]),
        ..ProjectedVolumeSource::default()
    };
    let ca = ConfigMapVolumeSource {
        name: names::DISPATCH_CA.to_owned(),
        ..ConfigMapVolumeSource::default()
    };
    let mut volumes = vec![
        Volume {
            name: "dispatch-token".to_owned(),
            projected: Some(projected),
            ..Volume::default()
        },
        Volume {
            name: "dispatch-ca".to_owned(),
            config_map: Some(ca),
            ..Volume::default()
        },
    ];
    if let Some(secret) = &pool.spec.service.tls_secret_ref {
        let source = SecretVolumeSource {
            secret_name: Some(secret.name.clone()),
            ..SecretVolumeSource::default()
        };
        volumes.push(Volume {
            name: "service-tls".to_owned(),
            secret: Some(source),
            ..Volume::default()
        });
    }
    if let Some(secret) = &pool.spec.service.token_secret_ref {
        let key = secret
            .key
            .clone()
            .unwrap_or_else(|| defaults::TOKEN_KEY.to_owned());
        let source = SecretVolumeSource {
            secret_name: Some(secret.name.clone()),
            items: Some(vec![KeyToPath {
                key,
                path: "token".to_owned(),
                mode: None,
            }]),
            ..SecretVolumeSource::default()
        };
        volumes.push(Volume {
            name: "service-token".to_owned(),
            secret: Some(source),
            ..Volume::default()
        });
    }
    volumes
}

pub(super) fn mounts(pool: &VideoWorkerPool) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![
        mount("dispatch-token", TOKEN_DIR),
        mount("dispatch-ca", CA_DIR),
    ];
    if pool.spec.service.tls_secret_ref.is_some() {
        mounts.push(mount("service-tls", SERVICE_TLS_DIR));
    }
    if pool.spec.service.token_secret_ref.is_some() {
        mounts.push(mount("service-token", SERVICE_TOKEN_DIR));
    }
    mounts
}
