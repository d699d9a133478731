//! The codec of StreamSecrets: state of the world.

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::frame::{self, Frame};
use super::nack::Reason;
use super::request::{Names, Refusal, Request};
use super::secret::TYPE_URL;
use super::subscription::Response;
use super::wire::{CONTENT_FIELD, DiscoveryRequest, Node, Status, put_len, put_str};

/// Reads a request. Its `version_info` is only a hint (XD-22): that there is one, and not which.
///
/// # Errors
/// [`Refusal::Undecodable`]; what did not fit is not repeated.
pub fn decode(message: Bytes) -> Result<Request, Refusal> {
    let message = DiscoveryRequest::decode(message).map_err(|_| Refusal::Undecodable)?;
    Ok(Request {
        node: message.node.and_then(Into::into),
        type_url: message.type_url,
        nonce: message.response_nonce,
        error: message.error_detail.map(|status| Reason::scrub(status.code, &status.message)),
        holds: !message.version_info.is_empty(),
        names: Names::All(message.resource_names),
    })
}

/// Writes a request as a client would, with the scrubbed reason. For tests and tools.
#[must_use]
pub fn encode_request(request: &Request) -> Vec<u8> {
    let status = |reason: Reason| Status { code: reason.code, message: reason.phrase.to_owned() };
    let node = request.node.clone().map(|node| Node { id: node.id.into(), cluster: node.cluster.into() });
    let resource_names = match &request.names {
        Names::All(names) => names.clone(),
        Names::Change { subscribe, .. } => subscribe.clone(),
    };
    DiscoveryRequest {
        version_info: if request.holds { "held" } else { "" }.to_owned(),
        node,
        resource_names,
        type_url: request.type_url.clone(),
        response_nonce: request.nonce.clone(),
        error_detail: request.error.map(status),
    }
    .encode_to_vec()
}

/// Writes a response, in the fields of [`DiscoveryResponseHead`](super::wire::DiscoveryResponseHead). SotW has no word for names that are not available: that one is empty, and is not sent.
#[must_use]
pub fn encode(response: &Response) -> Frame {
    let Response::Secret { nonce, resource } = response else { return Frame::default() };
    let any = resource.expose_any();
    let mut buf = BytesMut::with_capacity(256);
    frame::begin(&mut buf);
    put_str(1, resource.version_text(), &mut buf);
    put_str(4, TYPE_URL, &mut buf);
    put_str(5, &nonce.to_string(), &mut buf);
    put_len(CONTENT_FIELD, any.len(), &mut buf);
    frame::end(buf, Some(any.clone()))
}
