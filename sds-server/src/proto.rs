//! Generated messages. `integration/tests/generated.rs` writes them from `sds-server/proto` and holds them to it.

/// Keys and tokens are never printed: a message prints its name.
macro_rules! prints_nothing {
    ($($message:ident),*) => {$(
        impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($message), "(..)"))
            }
        }
    )*};
}

/// The SPIFFE Workload API: messages, and the names of its service.
#[allow(missing_docs, reason = "documented in proto/workload.proto, where they are written")]
pub mod workload {
    include!("proto/workload.rs");

    /// The descriptors of the service, as reflection shows them: an encoded `FileDescriptorSet`.
    pub const DESCRIPTORS: &[u8] = include_bytes!("proto/workload.bin");
    /// The service's name, which has no package.
    pub const SERVICE: &str = "SpiffeWorkloadAPI";

    prints_nothing!(X509svidRequest, X509svidResponse, X509svid, X509BundlesRequest, X509BundlesResponse);
    prints_nothing!(JwtsvidRequest, JwtsvidResponse, Jwtsvid, JwtBundlesRequest, JwtBundlesResponse);
    prints_nothing!(ValidateJwtsvidRequest, ValidateJwtsvidResponse);
    prints_nothing!(WitsvidRequest, WitsvidResponse, Witsvid, WitBundlesRequest, WitBundlesResponse);
}

/// The SPIFFE Broker API: messages, and the names of its service. Its answers are byte for byte those of the Workload
/// API, and encoded as those are.
#[allow(missing_docs, reason = "documented in proto/broker.proto, where they are written")]
pub mod broker {
    include!("proto/broker.rs");

    /// The descriptors of the service, as those of the Workload API.
    pub const DESCRIPTORS: &[u8] = include_bytes!("proto/broker.bin");
    /// The service's name.
    pub const SERVICE: &str = "spiffe.broker.API";

    prints_nothing!(WorkloadReference, WorkloadPidReference, KubernetesObjectType, KubernetesObjectKey);
    prints_nothing!(KubernetesObjectReference, X509svid, Jwtsvid);
    prints_nothing!(SubscribeToX509svidRequest, SubscribeToX509svidResponse, SubscribeToX509BundlesRequest);
    prints_nothing!(SubscribeToX509BundlesResponse, FetchJwtsvidRequest, FetchJwtsvidResponse);
    prints_nothing!(SubscribeToJwtBundlesRequest, SubscribeToJwtBundlesResponse);
}
