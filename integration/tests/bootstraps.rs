//! Envoy itself accepts every bootstrap that the templates can make.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::Path;

use envoy_configs::{Admin, Api, Callee, Callers, EdgeTls, Identity, Kind, Settings, render};
use integration::envoy::validate;
use integration::mesh::{Pool, bootstrap};
use integration::scratch::Scratch;

fn settings(kind: Kind) -> Settings {
    let callee = Callee::Workload("spiffe://example.org/api".parse().unwrap());
    Settings::new(kind, "example.org".parse().unwrap(), callee)
}

fn check(text: &str) {
    let scratch = Scratch::new().unwrap();
    validate(scratch.path(), text).unwrap();
}

#[test]
fn the_standing_files_are_valid() {
    for name in ["sidecar.yaml", "gateway.yaml"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy-configs").join(name);
        check(&fs::read_to_string(file).unwrap());
    }
}

#[test]
fn every_choice_is_valid() {
    for kind in [Kind::Sidecar, Kind::Gateway] {
        let mut chosen = settings(kind);
        chosen.api = Api::Sotw;
        chosen.identity = Identity::Named("spiffe://example.org/web".parse().unwrap());
        let listed = ["a", "b"].map(|name| format!("spiffe://example.org/{name}").parse().unwrap());
        chosen.callers = Callers::Listed(listed.into());
        chosen.callee = Callee::Workload("spiffe://partner.test/api".parse().unwrap());
        chosen.admin = Admin::Unix("/tmp/countersign-never.sock".into());
        chosen.node_id = r#"a"b\c # {d}: 'e'"#.into();
        check(&render(kind, &chosen).unwrap());
        chosen.callers = Callers::Entries;
        chosen.callee = Callee::Named("api.example.org".into());
        check(&render(kind, &chosen).unwrap());
    }
}

#[test]
fn the_harness_own_change_is_valid() {
    check(&bootstrap(&settings(Kind::Sidecar), Pool::HandshakeEach).unwrap());
}

#[test]
fn an_edge_with_a_certificate_is_valid() {
    let scratch = Scratch::new().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["edge.example.org".to_owned()]).unwrap();
    let (chain_file, key_file) = (scratch.path().join("chain.pem"), scratch.path().join("key.pem"));
    fs::write(&chain_file, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    let mut chosen = settings(Kind::Gateway);
    chosen.edge_tls = Some(EdgeTls { certificate_chain: chain_file, private_key: key_file });
    validate(scratch.path(), &render(Kind::Gateway, &chosen).unwrap()).unwrap();
}
