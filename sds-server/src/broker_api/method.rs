//! Which call of the Broker API it is, and whom its request is about.

use bytes::Bytes;
use http::Uri;
use tonic::Status;

use super::manner::Reason;
use super::reference::{Reference, reference};
use crate::proto::broker::{
    FetchJwtsvidRequest, SubscribeToJwtBundlesRequest, SubscribeToX509BundlesRequest,
    SubscribeToX509svidRequest,
};
use crate::workload_api::gate::decoded;
use crate::workload_api::method::Stream;
use crate::workload_api::metrics::RefusedFor;

/// A call, without its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// One that streams; it tells what the Workload API's of the same name does.
    Stream(Stream),
    /// `FetchJWTSVID`
    FetchJwt,
}

/// What is asked, of whom.
#[derive(Debug)]
pub(super) enum Asked {
    /// A stream.
    Stream(Stream),
    /// JWT-SVIDs for these audiences, of this identity or of all.
    Jwt { audience: Vec<String>, spiffe_id: String },
}

/// Paths are compared byte for byte. `None` for what the standard's service does not have (BA-02).
pub(super) fn method(uri: &Uri) -> Option<Method> {
    Some(match uri.path().strip_prefix("/spiffe.broker.API/")? {
        "SubscribeToX509SVID" => Method::Stream(Stream::X509Svids),
        "SubscribeToX509Bundles" => Method::Stream(Stream::X509Bundles),
        "SubscribeToJWTBundles" => Method::Stream(Stream::JwtBundles),
        "FetchJWTSVID" => Method::FetchJwt,
        _ => return None,
    })
}

impl Method {
    /// Reads the request.
    pub(super) fn read(self, message: Bytes) -> Result<(Asked, Reference), (RefusedFor, Status)> {
        let (asked, named) = match self {
            Self::Stream(stream) => {
                let named = match stream {
                    Stream::X509Svids => decoded::<SubscribeToX509svidRequest>(message)?.reference,
                    Stream::X509Bundles => decoded::<SubscribeToX509BundlesRequest>(message)?.reference,
                    _ => decoded::<SubscribeToJwtBundlesRequest>(message)?.reference,
                };
                (Asked::Stream(stream), named)
            }
            Self::FetchJwt => {
                let FetchJwtsvidRequest { reference, audience, spiffe_id } = decoded(message)?;
                (Asked::Jwt { audience, spiffe_id }, reference)
            }
        };
        match reference(named) {
            Ok(reference) => Ok((asked, reference)),
            Err(error) => Err((RefusedFor::Message, Reason::Invalid.status(error.to_string()))),
        }
    }
}
