//! Generated messages. `integration/tests/generated.rs` writes them from `sds-server/proto` and holds them to it.

/// The SPIFFE Workload API: messages, and the names of its service.
#[allow(missing_docs, reason = "documented in proto/workload.proto, where they are written")]
pub mod workload {
    include!("proto/workload.rs");

    /// The descriptors of the service, as reflection shows them: an encoded `FileDescriptorSet`.
    pub const DESCRIPTORS: &[u8] = include_bytes!("proto/workload.bin");
    /// The service's name, which has no package.
    pub const SERVICE: &str = "SpiffeWorkloadAPI";

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
    prints_nothing!(X509svidRequest, X509svidResponse, X509svid, X509BundlesRequest, X509BundlesResponse);
    prints_nothing!(JwtsvidRequest, JwtsvidResponse, Jwtsvid, JwtBundlesRequest, JwtBundlesResponse);
    prints_nothing!(ValidateJwtsvidRequest, ValidateJwtsvidResponse);
    prints_nothing!(WitsvidRequest, WitsvidResponse, Witsvid, WitBundlesRequest, WitBundlesResponse);
}
