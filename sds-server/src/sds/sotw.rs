//! The codec of StreamSecrets: state of the world.

use bytes::{Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::frame::{self, Frame};
use super::nack::Reason;
use super::request::{Names, Refusal, Request};
use super::secret::TYPE_URL;
use super::subscription::Response;
use super::wire::{CONTENT_FIELD, DiscoveryRequest, DiscoveryResponseHead, Node, Status};

/// Reads a request. Its `version_info` is only a hint (XD-22), and not read.
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
        version_info: String::new(),
        node,
        resource_names,
        type_url: request.type_url.clone(),
        response_nonce: request.nonce.clone(),
        error_detail: request.error.map(status),
    }
    .encode_to_vec()
}

/// Writes a response. SotW has no word for names that are not available: that one is empty, and is not sent.
#[must_use]
pub fn encode(response: &Response) -> Frame {
    let Response::Secret { nonce, resource } = response else { return Frame::default() };
    let head = DiscoveryResponseHead {
        version_info: resource.version().to_string(),
        type_url: TYPE_URL.to_owned(),
        nonce: nonce.to_string(),
    };
    let any = resource.expose_any();
    let mut buf = BytesMut::with_capacity(head.encoded_len() + frame::HEADER_BYTES + 16);
    frame::begin(&mut buf);
    head.encode_raw(&mut buf);
    encode_key(CONTENT_FIELD, WireType::LengthDelimited, &mut buf);
    encode_varint(any.len() as u64, &mut buf);
    frame::end(buf, Some(any.clone()))
}
