//! Which call it is, and whether it carries the security header.

use http::{HeaderMap, Uri};

/// What must stand in every request: a program that was tricked into calling the socket does not write it.
/// Workload Endpoint §3.
const HEADER: &str = "workload.spiffe.io";

/// A call of the Workload API that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// `FetchX509SVID`
    X509Svids,
    /// `FetchX509Bundles`
    X509Bundles,
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

impl Method {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::X509Svids => "x509_svid",
            Self::X509Bundles => "x509_bundles",
        }
    }
}

/// Paths are compared byte for byte, as gRPC over HTTP/2 says: nothing is decoded or normalised.
pub(super) fn asked(uri: &Uri) -> Asked {
    match uri.path().strip_prefix("/SpiffeWorkloadAPI/") {
        Some("FetchX509SVID") => Asked::Method(Method::X509Svids),
        Some("FetchX509Bundles") => Asked::Method(Method::X509Bundles),
        Some(_) => Asked::Unknown,
        None => Asked::Elsewhere,
    }
}

/// The header once, with exactly `true`. WE-07.
pub(super) fn is_marked(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(HEADER).iter();
    values.next().is_some_and(|value| value.as_bytes() == b"true") && values.next().is_none()
}
