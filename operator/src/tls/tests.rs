//! Who trusts which certificate, before, during and after a rotation, over real handshakes in memory.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

use super::accept::Certificates;
use super::*;

const SERVICE: &str = "kinora-operator.kinora-system.svc";

/// One in-memory handshake of a client that trusts this bundle; the error of whoever refused.
fn handshake(bundle: &str, served: &Certificates, host: &str) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(client.into(), name)?;
    let mut server = rustls::ServerConnection::new(served.config().unwrap().into())?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

fn served(authority: &Authority) -> Certificates {
    let serving = authority
        .serving("kinora-system", Timestamp::now())
        .unwrap();
    Certificates::new(&serving).unwrap()
}

/// covers: S13
#[test]
fn a_worker_that_trusts_the_ca_accepts_the_service_name_and_no_other() {
    let authority = Authority::for_tests().unwrap();
    let served = served(&authority);
    let bundle = authority.bundle();
    handshake(&bundle, &served, SERVICE).unwrap();
    handshake(&bundle, &served, &format!("{SERVICE}.cluster.local")).unwrap();
    handshake(&bundle, &served, "kinora-operator.elsewhere.svc").unwrap_err();
    let stranger = new_ca(Timestamp::now()).unwrap();
    handshake(&stranger.certificate, &served, SERVICE).unwrap_err();
}

/// covers: S13, F59
#[test]
fn an_expired_certificate_is_refused_and_its_replacement_is_served_at_once() {
    let now = Timestamp::now();
    let authority = Authority::for_tests().unwrap();
    let past = now - SignedDuration::from_hours(24 * 30);
    let expired = authority.serving("kinora-system", past).unwrap();
    let served = Certificates::new(&expired).unwrap();
    handshake(&authority.bundle(), &served, SERVICE).unwrap_err();
    let fresh = authority.serving("kinora-system", now).unwrap();
    served.replace(&fresh).unwrap();
    handshake(&authority.bundle(), &served, SERVICE).unwrap();
}

/// covers: F59
#[test]
fn while_the_ca_changes_old_and_new_bundles_meet_old_and_new_certificates() {
    let mut authority = Authority::for_tests().unwrap();
    let before = authority.bundle();
    let replica = served(&authority);
    authority.next = Some(new_ca(Timestamp::now()).unwrap());
    let both = authority.bundle();
    // Published: a worker that has not seen it yet still trusts what is served.
    handshake(&before, &replica, SERVICE).unwrap();
    handshake(&both, &replica, SERVICE).unwrap();
    // It signs: whoever saw it published trusts it, whoever still serves the old one is trusted too.
    let old = std::mem::replace(&mut authority.current, authority.next.take().unwrap());
    authority.old = Some(old.certificate);
    let renewed = served(&authority);
    handshake(&both, &renewed, SERVICE).unwrap();
    handshake(&authority.bundle(), &renewed, SERVICE).unwrap();
    handshake(&authority.bundle(), &replica, SERVICE).unwrap();
}

/// covers: S12
#[test]
fn keys_are_not_printed() {
    let authority = Authority::for_tests().unwrap();
    let serving = authority.serving("x", Timestamp::now()).unwrap();
    let printed = format!("{authority:?}{:?}{serving:?}", authority.current);
    assert!(!printed.contains("PRIVATE"));
}
