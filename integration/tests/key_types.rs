//! Real Envoys speak mutual TLS with keys of each type, under CAs of other types, with an issuing CA in the chain.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use envoy_configs::KeyKind;
use integration::app::App;
use integration::load::{Load, Mode};
use integration::mesh::{Mesh, Plan, Pool, default_profile};
use integration::poll;
use integration::server::Options;

const ALL: [KeyKind; 6] =
    [KeyKind::MlDsa65, KeyKind::MlDsa44, KeyKind::Ed25519, KeyKind::EcP384, KeyKind::Rsa, KeyKind::EcP256];

/// How often `web` took `api`'s signature of this algorithm, and `api` one of `web`'s.
async fn signatures(mesh: &Mesh, algorithm: &str) -> (u64, u64) {
    let (web, api) = tokio::try_join!(mesh.web.stats(), mesh.api.stats()).unwrap();
    let name = format!(".ssl.sigalgs.{algorithm}");
    (web.get(&format!("cluster.upstream{name}")), api.sum("listener.", &name))
}

async fn serials(mesh: &Mesh) -> (Option<String>, Option<String>) {
    tokio::try_join!(mesh.web.serial(&mesh.web_id), mesh.api.serial(&mesh.api_id)).unwrap()
}

/// No handshake failed, and no secret was refused.
async fn assert_well(mesh: &Mesh) {
    for (name, envoy) in [("web", &mesh.web), ("api", &mesh.api)] {
        let stats = envoy.stats().await.unwrap();
        for counter in [".ssl.connection_error", ".ssl.fail_verify_error", ".ssl.fail_verify_san"] {
            assert_eq!(stats.sum("", counter), 0, "{name} {counter}\n{}", envoy.tail());
        }
        assert_eq!(stats.sum("sds.", ".update_rejected"), 0, "{name}\n{}", envoy.tail());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_type_of_all_keys_changes_under_load_and_no_request_fails() {
    let plan = Plan { keys: ALL.to_vec(), pool: Pool::HandshakeEach, ..Plan::default() };
    let mesh = Mesh::start(&plan).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();
    mesh.call(&[]).await.unwrap();
    let load = Load::start(mesh.calls, &[Mode::Kept, Mode::Fresh], Duration::from_millis(20));
    for (key_type, algorithm) in [
        ("ec-p384", "ecdsa_secp384r1_sha384"),
        ("rsa-2048", "rsa_pss_rsae_sha256"),
        ("ed25519", "ed25519"),
        ("rsa-3072", "rsa_pss_rsae_sha256"),
        ("ml-dsa-44", "mldsa44"),
        ("ml-dsa-65", "mldsa65"),
        ("rsa-4096", "rsa_pss_rsae_sha256"),
        ("ec-p256", "ecdsa_secp256r1_sha256"),
    ] {
        change_to(&mesh, key_type, algorithm).await;
    }
    let tally = load.stop().await;
    assert_eq!(tally.failed, 0, "{:?}", tally.first_failure);
    assert!(tally.answered > 100, "{tally:?}");
    assert_well(&mesh).await;
}

/// Makes all keys of the mesh, which is called all the time, of `key_type`: both Envoys take them, and sign with them.
async fn change_to(mesh: &Mesh, key_type: &str, algorithm: &str) {
    let before = serials(mesh).await;
    mesh.server.write_documents("profiles", &default_profile(key_type)).unwrap();
    poll::holds("both hold a new certificate", Duration::from_secs(60), async || {
        let now = serials(mesh).await;
        now.0 != before.0 && now.1 != before.1 && now.0.is_some() && now.1.is_some()
    })
    .await
    .unwrap_or_else(|error| panic!("{key_type}: {error}\n{}", mesh.server.log()));
    let counted = signatures(mesh, algorithm).await;
    poll::holds("both sign with it", Duration::from_secs(20), async || {
        let now = signatures(mesh, algorithm).await;
        now.0 > counted.0 && now.1 > counted.1
    })
    .await
    .unwrap_or_else(|error| panic!("{key_type}: {error}\n{}", mesh.api.tail()));
    assert_eq!(mesh.call(&[]).await.unwrap().peer, std::slice::from_ref(&mesh.web_id));
}

/// A mesh whose Envoys speak `keys`, with workload keys of `key_type` under CAs of another.
async fn check(keys: &[KeyKind], key_type: &'static str, ca: (&'static str, &'static str), algorithm: &str) {
    let more = format!("authority: {{key_type: {}, hierarchy: {}}}\n", ca.0, ca.1);
    let server = Options { more, ..Options::default() };
    let (keys, key_type) = (keys.to_vec(), Some(key_type));
    let plan = Plan { server, keys, key_type, pool: Pool::HandshakeEach, ..Plan::default() };
    let mesh = Mesh::start(&plan).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();
    assert_eq!(mesh.call(&[]).await.unwrap().peer, std::slice::from_ref(&mesh.web_id), "{ca:?}");
    let (web, api) = signatures(&mesh, algorithm).await;
    assert!(web > 0 && api > 0, "{key_type:?} under {ca:?}: {web} {api}");
    let status = mesh.server.cli(&["status", "-o", "json"]).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let authority = &status["details"]["authority"];
    assert_eq!(
        (&authority["key_type"], &authority["hierarchy"]),
        (&ca.0.into(), &ca.1.into()),
        "{authority}"
    );
    // The root is all that is trusted: an issuing CA came in the handshake.
    for envoy in [&mesh.web, &mesh.api] {
        let certs = envoy.certs().await.unwrap();
        let trusted =
            certs["certificates"].as_array().unwrap().iter().filter_map(|one| one["ca_cert"].as_array());
        let serials: BTreeSet<_> =
            trusted.flatten().map(|root| root["serial_number"].as_str().unwrap()).collect();
        assert_eq!(serials, BTreeSet::from([authority["root_serial"].as_str().unwrap()]), "{certs}");
    }
    assert_well(&mesh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_verifies_chains_of_cas_of_each_type_unasked() {
    // No list of algorithms: what Envoy says by itself is about the keys of the two, not of their CAs.
    for ca in ["ec-p384", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519", "ml-dsa-44", "ml-dsa-65"] {
        check(&[], "ec-p256", (ca, "intermediate"), "ecdsa_secp256r1_sha256").await;
    }
    check(&[], "rsa-2048", ("rsa-2048", "root"), "rsa_pss_rsae_sha256").await;
    check(&[], "ec-p384", ("ec-p256", "intermediate"), "ecdsa_secp384r1_sha384").await;
}

/// The CAs that other companies have, each with every type of key below it.
#[tokio::test(flavor = "multi_thread")]
async fn under_cas_of_large_rsa_and_p384_keys_every_type_of_leaf_is_taken() {
    for (ca, hierarchy) in [("rsa-3072", "root"), ("rsa-4096", "intermediate"), ("ec-p384", "root")] {
        let more = format!("authority: {{key_type: {ca}, hierarchy: {hierarchy}}}\n");
        let server = Options { more, ..Options::default() };
        let plan = Plan { server, keys: ALL.to_vec(), pool: Pool::HandshakeEach, ..Plan::default() };
        let mesh = Mesh::start(&plan).await.unwrap();
        let _app = App::start("api", mesh.app).await.unwrap();
        mesh.call(&[]).await.unwrap();
        let load = Load::start(mesh.calls, &[Mode::Fresh], Duration::from_millis(20));
        for (key_type, algorithm) in [
            ("ec-p384", "ecdsa_secp384r1_sha384"),
            ("rsa-2048", "rsa_pss_rsae_sha256"),
            ("ed25519", "ed25519"),
            ("rsa-4096", "rsa_pss_rsae_sha256"),
            ("ml-dsa-65", "mldsa65"),
            ("rsa-3072", "rsa_pss_rsae_sha256"),
            ("ml-dsa-44", "mldsa44"),
            ("ec-p256", "ecdsa_secp256r1_sha256"),
        ] {
            change_to(&mesh, key_type, algorithm).await;
        }
        let tally = load.stop().await;
        assert_eq!(tally.failed, 0, "{ca} {:?}", tally.first_failure);
        assert_well(&mesh).await;
        let status = mesh.server.cli(&["status", "-o", "json"]).unwrap();
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(status["details"]["authority"]["key_type"], ca);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_of_nothing_but_ml_dsa() {
    check(&[KeyKind::MlDsa65], "ml-dsa-65", ("ml-dsa-65", "intermediate"), "mldsa65").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_list_envoy_speaks_no_ed25519() {
    let plan = Plan { key_type: Some("ed25519"), pool: Pool::HandshakeEach, ..Plan::default() };
    let mesh = Mesh::start(&plan).await.unwrap();
    let _app = App::start("api", mesh.app).await.unwrap();
    // Nobody comes in, and nothing falls open.
    assert_eq!(mesh.raw_call(&[]).await.unwrap().status(), 503);
    let (web, api) = tokio::try_join!(mesh.web.stats(), mesh.api.stats()).unwrap();
    assert!(web.get("cluster.upstream.ssl.connection_error") > 0);
    assert_eq!(api.sum("listener.", ".ssl.handshake"), 0);
}
