//! What is pushed: certificates of a real chain.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use sds_server::sds::request::Names;
use sds_server::sds::{Limits, Protocol, Request, Subscription, sotw};
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{
    ContentHash, Identity, Memo, PrivateKey, Revision, Serial, SpiffeId, TrustBundle, Version,
    WorkloadUpdate, X509Svid,
};

// ---- the server's side

/// One push in the shapes that the modes need.
#[derive(Clone)]
pub(super) struct Push {
    pub(super) update: Arc<WorkloadUpdate>,
    pub(super) any: Arc<Any>,
    /// The whole gRPC frame, the same for all.
    pub(super) frame: Bytes,
}

/// A root and what it signed to sign leaves: secrets are checked before they are sent.
fn chain() -> &'static (Ca, Ca) {
    static CHAIN: OnceLock<(Ca, Ca)> = OnceLock::new();
    CHAIN.get_or_init(|| {
        let ca = |name| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            (params, KeyPair::generate().unwrap())
        };
        let ((root, root_key), (intermediate, key)) = (ca("root"), ca("intermediate"));
        let root = CertifiedIssuer::self_signed(root, root_key).unwrap();
        let intermediate = CertifiedIssuer::signed_by(intermediate, key, &root).unwrap();
        (root, intermediate)
    })
}

type Ca = CertifiedIssuer<'static, KeyPair>;

pub(super) fn push(number: u64) -> Push {
    let key = KeyPair::generate().unwrap();
    let id = "spiffe://example.org/web";
    let (root, intermediate) = chain();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let leaf = params.signed_by(&key, intermediate).unwrap();
    let svid = X509Svid {
        spiffe_id: SpiffeId::new(id).unwrap(),
        chain: vec![leaf.der().clone(), intermediate.der().clone()],
        key: PrivateKey::from_pkcs8(key.serialize_der().into()),
        serial: Serial::from_octets(&[1]).unwrap(),
        not_before: Timestamp::from_unix_seconds(0),
        not_after: Timestamp::from_unix_seconds(4_000_000_000),
        version: Version { revision: Revision(number), hash: ContentHash::default() },
        memo: Memo::default(),
    };
    let identities = vec![Identity { svid: Arc::new(svid), hint: None }];
    let roots = vec![root.der().clone()];
    let bundle = TrustBundle::new("example.org".try_into().unwrap(), roots, Revision(1));
    let bundle = Some(Arc::new(bundle));
    let update = Arc::new(WorkloadUpdate { identities, bundle, ..WorkloadUpdate::default() });
    let mut engine = Subscription::new(Protocol::Sotw, &Limits::default(), 0);
    let names = Names::All(vec!["default".to_owned()]);
    let request = Request {
        node: None,
        type_url: String::new(),
        nonce: String::new(),
        error: None,
        holds: false,
        names,
    };
    let now = Timestamp::from_unix_seconds(1_800_000_000);
    engine.request(request, now).unwrap();
    let frame = sotw::encode(&engine.next(&update, now).unwrap());
    let frame = Bytes::from([frame.head, frame.content.unwrap()].concat());
    let mut message = DiscoveryResponse::decode(&frame[5..]).unwrap();
    Push { update, any: Arc::new(message.resources.remove(0)), frame }
}
