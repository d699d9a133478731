//! The codec of DeltaSecrets: incremental.

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::frame::{self, Frame};
use super::nack::Reason;
use super::request::{Names, Refusal, Request};
use super::secret::TYPE_URL;
use super::subscription::Response;
use super::wire::{CONTENT_FIELD, DeltaDiscoveryRequest, Node, Status, put_len, put_str};

/// Reads a request.
///
/// # Errors
/// [`Refusal::Undecodable`]; what did not fit is not repeated.
pub fn decode(message: Bytes) -> Result<Request, Refusal> {
    let message = DeltaDiscoveryRequest::decode(message).map_err(|_| Refusal::Undecodable)?;
    Ok(Request {
        node: message.node.and_then(Into::into),
        type_url: message.type_url,
        nonce: message.response_nonce,
        error: message.error_detail.map(|status| Reason::scrub(status.code, &status.message)),
        holds: !message.initial_resource_versions.is_empty(),
        names: Names::Change {
            subscribe: message.resource_names_subscribe,
            unsubscribe: message.resource_names_unsubscribe,
            held: message.initial_resource_versions.into_iter().collect(),
        },
    })
}

/// Writes a request as a client would, with the scrubbed reason. For tests and tools.
#[must_use]
pub fn encode_request(request: &Request) -> Vec<u8> {
    let status = |reason: Reason| Status { code: reason.code, message: reason.phrase.to_owned() };
    let node = request.node.clone().map(|node| Node { id: node.id.into(), cluster: node.cluster.into() });
    let (subscribe, unsubscribe, held) = match &request.names {
        Names::All(names) => (names.clone(), Vec::new(), Vec::new()),
        Names::Change { subscribe, unsubscribe, held } => {
            (subscribe.clone(), unsubscribe.clone(), held.clone())
        }
    };
    DeltaDiscoveryRequest {
        node,
        type_url: request.type_url.clone(),
        resource_names_subscribe: subscribe,
        resource_names_unsubscribe: unsubscribe,
        initial_resource_versions: held.into_iter().collect(),
        response_nonce: request.nonce.clone(),
        error_detail: request.error.map(status),
    }
    .encode_to_vec()
}

/// Writes a response, in the fields of [`DeltaDiscoveryResponseHead`](super::wire::DeltaDiscoveryResponseHead) and
/// [`ResourceHead`](super::wire::ResourceHead).
#[must_use]
pub fn encode(response: &Response) -> Frame {
    let mut buf = BytesMut::with_capacity(256);
    frame::begin(&mut buf);
    match response {
        Response::Removed { nonce, names } => {
            put_str(4, TYPE_URL, &mut buf);
            put_str(5, &nonce.to_string(), &mut buf);
            names.iter().for_each(|name| put_str(6, name, &mut buf));
            frame::end(buf, None)
        }
        Response::Secret { nonce, resource } => {
            // What Envoy's `sds.<name>.version` is the hash of: by it a flush tells that the push was dealt with.
            put_str(1, resource.version_text(), &mut buf);
            put_str(4, TYPE_URL, &mut buf);
            put_str(5, &nonce.to_string(), &mut buf);
            let any = resource.expose_any();
            let mut inner = BytesMut::with_capacity(64 + resource.name().len());
            put_str(1, resource.version_text(), &mut inner);
            put_str(3, resource.name(), &mut inner);
            put_len(CONTENT_FIELD, any.len(), &mut inner);
            put_len(CONTENT_FIELD, inner.len() + any.len(), &mut buf);
            buf.extend_from_slice(&inner);
            frame::end(buf, Some(any.clone()))
        }
    }
}
