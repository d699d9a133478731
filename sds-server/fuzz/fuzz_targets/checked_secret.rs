//! Any bytes as a Secret, and as the parts of one, under every kind of name: no panic, and what passes is small, of the
//! type of its name and never without what it needs.
#![no_main]

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use sds_server::sds::check::{Against, MAX_SECRET_BYTES, judge};
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{Revision, TrustBundle};

const NAMES: [&str; 8] = [
    "default",
    "spiffe://example.org/web",
    "ROOTCA",
    "spiffe://example.org",
    "ALL",
    "peers",
    "upstream:api",
    "jwt:a",
];

fuzz_target!(|data: &[u8]| {
    let Ok(mut secret) = Secret::decode(data) else { return };
    let bundle = TrustBundle::new("example.org".try_into().expect("a domain"), Vec::new(), Revision(1));
    let against = Against { bundle: Some(&bundle), now: Timestamp::from_unix_seconds(1_800_000_000) };
    for name in NAMES {
        name.clone_into(&mut secret.name);
        let Ok(checked) = judge(secret.clone(), name, against) else { continue };
        let passed = checked.expose_secret();
        assert!(*passed == secret && passed.encoded_len() <= MAX_SECRET_BYTES);
        match &passed.r#type {
            Some(Type::ValidationContext(context)) => {
                assert!(context.trusted_ca.is_some() || context.custom_validator_config.is_some());
            }
            Some(Type::GenericSecret(generic)) => assert!(generic.secret.is_some()),
            other => panic!("without a root no chain leads anywhere: {other:?}"),
        }
    }
});
