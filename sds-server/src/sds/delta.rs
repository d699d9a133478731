//! The codec of DeltaSecrets: incremental.

use bytes::{Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::frame::{self, Frame};
use super::nack::Reason;
use super::request::{Names, Refusal, Request};
use super::secret::TYPE_URL;
use super::subscription::Response;
use super::wire::{
    CONTENT_FIELD, DeltaDiscoveryRequest, DeltaDiscoveryResponseHead, Node, ResourceHead, Status,
};

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

/// Writes a response.
#[must_use]
pub fn encode(response: &Response) -> Frame {
    let head = |nonce: &super::request::Nonce| DeltaDiscoveryResponseHead {
        type_url: TYPE_URL.to_owned(),
        nonce: nonce.to_string(),
        ..DeltaDiscoveryResponseHead::default()
    };
    match response {
        Response::Removed { nonce, names } => {
            let removed_resources = names.iter().map(|name| name.to_string()).collect();
            let message = DeltaDiscoveryResponseHead { removed_resources, ..head(nonce) };
            let mut buf = BytesMut::with_capacity(message.encoded_len() + frame::HEADER_BYTES);
            frame::begin(&mut buf);
            message.encode_raw(&mut buf);
            frame::end(buf, None)
        }
        Response::Secret { nonce, resource } => {
            let head = head(nonce);
            let inner =
                ResourceHead { version: resource.version().to_string(), name: resource.name().to_owned() };
            let any = resource.expose_any();
            let len = inner.encoded_len() + 1 + encoded_len_varint(any.len() as u64) + any.len();
            let extra = frame::HEADER_BYTES + inner.encoded_len() + 32;
            let mut buf = BytesMut::with_capacity(head.encoded_len() + extra);
            frame::begin(&mut buf);
            head.encode_raw(&mut buf);
            encode_key(CONTENT_FIELD, WireType::LengthDelimited, &mut buf);
            encode_varint(len as u64, &mut buf);
            inner.encode_raw(&mut buf);
            encode_key(CONTENT_FIELD, WireType::LengthDelimited, &mut buf);
            encode_varint(any.len() as u64, &mut buf);
            frame::end(buf, Some(any.clone()))
        }
    }
}
