//! Our minimal messages against those of `envoy-types`: field numbers are facts of the wire contract.

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{Extension, Node as EnvoyNode};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::rpc::Status;
use prost::Message;
use sds_server::sds::frame::Frame;
use sds_server::sds::request::Names;
use sds_server::sds::{Protocol, Request, delta, nack, sotw as sotw_codec};

use super::fixture::{SECRET, WEB, all, change, engine, holding, now, secret};

/// A request of `envoy-types`, read by us.
pub(crate) fn sotw(request: &DiscoveryRequest) -> Request {
    sotw_codec::decode(Bytes::from(request.encode_to_vec())).unwrap()
}

fn node() -> Option<EnvoyNode> {
    let extensions = (0..516).map(|n| Extension { name: format!("envoy.{n}"), ..Extension::default() });
    Some(EnvoyNode {
        id: "node".into(),
        cluster: "cluster".into(),
        user_agent_name: "envoy".into(),
        extensions: extensions.collect(),
        ..EnvoyNode::default()
    })
}

fn error() -> Option<Status> {
    Some(Status { code: 13, message: "KEY_VALUES_MISMATCH".into(), ..Status::default() })
}

#[test]
fn requests_are_read_as_envoy_writes_them() {
    let request = sotw(&DiscoveryRequest {
        version_info: "v".into(),
        node: node(),
        resource_names: vec!["a".into(), "b".into()],
        type_url: SECRET.into(),
        response_nonce: "n".into(),
        error_detail: error(),
        ..DiscoveryRequest::default()
    });
    let known = request.node.unwrap();
    assert_eq!((&*known.id, &*known.cluster), ("node", "cluster"));
    assert_eq!((request.type_url.as_str(), request.nonce.as_str()), (SECRET, "n"));
    assert_eq!(request.error, Some(nack::Reason::scrub(13, "KEY_VALUES_MISMATCH")));
    assert_eq!(request.names, Names::All(vec!["a".into(), "b".into()]));

    let wire = DeltaDiscoveryRequest {
        node: node(),
        type_url: SECRET.into(),
        resource_names_subscribe: vec!["a".into()],
        resource_names_unsubscribe: vec!["b".into()],
        initial_resource_versions: [("a".to_owned(), "1-0".to_owned())].into(),
        response_nonce: "n".into(),
        error_detail: error(),
        ..DeltaDiscoveryRequest::default()
    };
    let request = delta::decode(Bytes::from(wire.encode_to_vec())).unwrap();
    assert_eq!(&*request.node.unwrap().id, "node");
    assert_eq!((request.type_url.as_str(), request.nonce.as_str()), (SECRET, "n"));
    assert!(request.error.is_some());
    let held = vec![("a".to_owned(), "1-0".to_owned())];
    assert_eq!(
        request.names,
        Names::Change { subscribe: vec!["a".into()], unsubscribe: vec!["b".into()], held }
    );
}

fn message(frame: Frame) -> Vec<u8> {
    let whole = [frame.head, frame.content.unwrap_or_default()].concat();
    assert_eq!(whole[0], 0);
    assert_eq!(u32::from_be_bytes(whole[1..5].try_into().unwrap()) as usize, whole.len() - 5);
    whole[5..].to_vec()
}

#[test]
fn responses_are_what_envoy_reads() {
    let held = holding(&[WEB], 9);
    let mut stream = engine(Protocol::Sotw);
    stream.request(all(&["default"]), now()).unwrap();
    let response = stream.next(&held, now()).unwrap();
    let read = DiscoveryResponse::decode(message(sotw_codec::encode(&response)).as_slice()).unwrap();
    assert_eq!((read.type_url.as_str(), read.nonce.is_empty()), (SECRET, false));
    assert!(read.version_info.starts_with("9-"));
    let sotw_secret = secret(&read.resources[0]);
    assert_eq!(sotw_secret.name, "default");
    let Some(Type::TlsCertificate(tls)) = sotw_secret.r#type else { panic!() };
    let pem = |source: Option<_>| {
        use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
        match source {
            Some(DataSource { specifier: Some(Specifier::InlineBytes(bytes)), .. }) => {
                String::from_utf8(bytes).unwrap()
            }
            other => panic!("{other:?}"),
        }
    };
    let svid = &held.identities[0].svid;
    let (chain, key) = (pem(tls.certificate_chain), pem(tls.private_key));
    use rustls_pki::PemObject;
    assert_eq!(rustls_pki::CertificateDer::from_pem_slice(chain.as_bytes()).unwrap(), svid.chain[0]);
    let key = rustls_pki::PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).unwrap();
    assert_eq!(key.secret_pkcs8_der(), svid.key.expose_pkcs8());

    let mut stream = engine(Protocol::Delta);
    stream.request(change(&["ROOTCA", "none"], &[]), now()).unwrap();
    let response = stream.next(&held, now()).unwrap();
    let read = DeltaDiscoveryResponse::decode(message(delta::encode(&response)).as_slice()).unwrap();
    assert_eq!((read.resources[0].name.as_str(), read.type_url.as_str()), ("ROOTCA", SECRET));
    assert!(read.resources[0].version.starts_with("1-") && !read.nonce.is_empty());
    let bundle = secret(read.resources[0].resource.as_ref().unwrap());
    assert!(matches!(bundle.r#type, Some(Type::ValidationContext(_))));
    let response = stream.next(&held, now()).unwrap();
    let read = DeltaDiscoveryResponse::decode(message(delta::encode(&response)).as_slice()).unwrap();
    assert_eq!((read.removed_resources, read.resources.len()), (vec!["none".to_owned()], 0));
}

mod rustls_pki {
    pub(crate) use rustls::pki_types::pem::PemObject;
    pub(crate) use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
}

/// What the fuzz target `discovery_request` looks for, on fewer inputs.
fn round_trip(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(request) = sotw_codec::decode(bytes.clone()) {
        assert_eq!(sotw_codec::decode(sotw_codec::encode_request(&request).into()).unwrap(), request);
        let _ = engine(Protocol::Sotw).request(request, now());
    }
    if let Ok(request) = delta::decode(bytes) {
        assert_eq!(delta::decode(delta::encode_request(&request).into()).unwrap(), request);
        let _ = engine(Protocol::Delta).request(request, now());
    }
}

proptest::proptest! {
    #[test]
    fn a_request_that_was_read_and_written_is_read_the_same(
        noise in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        text in "[ -~]{0,40}|KEY_VALUES_MISMATCH|-----BEGIN PRIVATE KEY-----|OCSP",
        names in proptest::collection::vec(".{0,10}", 0..5),
        code in proptest::num::i32::ANY,
    ) {
        round_trip(&noise);
        let error_detail = Some(Status { code, message: text.clone(), ..Status::default() });
        let node = Some(EnvoyNode { id: text.clone(), cluster: text.clone(), ..EnvoyNode::default() });
        let (response_nonce, type_url) = (text.clone(), text.clone());
        round_trip(&DeltaDiscoveryRequest {
            initial_resource_versions: names.iter().map(|name| (name.clone(), text.clone())).collect(),
            resource_names_unsubscribe: names.clone(),
            resource_names_subscribe: names.clone(),
            node: node.clone(),
            error_detail: error_detail.clone(),
            response_nonce: response_nonce.clone(),
            type_url: type_url.clone(),
            ..DeltaDiscoveryRequest::default()
        }.encode_to_vec());
        round_trip(&DiscoveryRequest { resource_names: names, node, error_detail, response_nonce, type_url, ..DiscoveryRequest::default() }.encode_to_vec());
    }
}
