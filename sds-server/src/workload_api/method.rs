//! Which call it is.

use http::Uri;

use super::limits::Config;

/// A call of the Workload API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// One that streams.
    Stream(Stream),
    /// `FetchJWTSVID`
    FetchJwt,
    /// `ValidateJWTSVID`
    ValidateJwt,
}

/// A call that streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// `FetchX509SVID`
    X509Svids,
    /// `FetchX509Bundles`
    X509Bundles,
    /// `FetchJWTBundles`
    JwtBundles,
    /// `FetchWITSVID`
    WitSvids,
    /// `FetchWITBundles`
    WitBundles,
}

/// What a path asks of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// This call.
    Method(Method),
    /// A call of our service that is not there.
    Unknown,
    /// Another service.
    Elsewhere,
}

impl Stream {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::X509Svids => "x509_svid",
            Self::X509Bundles => "x509_bundles",
            Self::JwtBundles => "jwt_bundles",
            Self::WitSvids => "wit_svid",
            Self::WitBundles => "wit_bundles",
        }
    }
}

/// Paths are compared byte for byte, as gRPC over HTTP/2 says: nothing is decoded or normalised. A fragment, which a path must
/// not have (RFC 9113 §8.3.1), never comes this far: the HTTP library drops it.
pub(super) fn asked(uri: &Uri, config: &Config) -> Asked {
    let Some(name) = uri.path().strip_prefix("/SpiffeWorkloadAPI/") else { return Asked::Elsewhere };
    let method = match name {
        _ if uri.query().is_some() => return Asked::Unknown, // no part of a method's name
        "FetchX509SVID" => Method::Stream(Stream::X509Svids),
        "FetchX509Bundles" => Method::Stream(Stream::X509Bundles),
        "FetchJWTSVID" => Method::FetchJwt,
        "FetchJWTBundles" => Method::Stream(Stream::JwtBundles),
        "ValidateJWTSVID" => Method::ValidateJwt,
        // A profile that is off is not there: Workload API §7.
        "FetchWITSVID" if config.wit_svids => Method::Stream(Stream::WitSvids),
        "FetchWITBundles" if config.wit_svids => Method::Stream(Stream::WitBundles),
        _ => return Asked::Unknown,
    };
    Asked::Method(method)
}
