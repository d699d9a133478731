//! The parts of the xDS messages that we read and write. What is not named here is skipped, above all the 516
//! extensions of Envoy's node: 61 KB that would be decoded with every ACK (envoy-sds.md §0.8).
//!
//! Field numbers are facts of the wire contract; a test compares them with the messages of `envoy-types`.

use std::collections::BTreeMap;
use std::fmt;

use bytes::{BufMut, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};

/// `envoy.config.core.v3.Node`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub cluster: String,
}

/// `google.rpc.Status`. Prints nothing: its message can hold a private key (envoy-sds.md §0.4).
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({}, ..)", self.code)
    }
}

/// `envoy.service.discovery.v3.DiscoveryRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiscoveryRequest {
    #[prost(string, tag = "1")]
    pub version_info: String,
    #[prost(message, optional, tag = "2")]
    pub node: Option<Node>,
    #[prost(string, repeated, tag = "3")]
    pub resource_names: Vec<String>,
    #[prost(string, tag = "4")]
    pub type_url: String,
    #[prost(string, tag = "5")]
    pub response_nonce: String,
    #[prost(message, optional, tag = "6")]
    pub error_detail: Option<Status>,
}

/// `envoy.service.discovery.v3.DeltaDiscoveryRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryRequest {
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    #[prost(string, tag = "2")]
    pub type_url: String,
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub initial_resource_versions: BTreeMap<String, String>,
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<Status>,
}

/// `envoy.service.discovery.v3.DiscoveryResponse` without its resources (field 2), which follow.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiscoveryResponseHead {
    #[prost(string, tag = "1")]
    pub version_info: String,
    #[prost(string, tag = "4")]
    pub type_url: String,
    #[prost(string, tag = "5")]
    pub nonce: String,
}

/// `envoy.service.discovery.v3.DeltaDiscoveryResponse` without its resources (field 2), which follow.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryResponseHead {
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    #[prost(string, tag = "4")]
    pub type_url: String,
    #[prost(string, tag = "5")]
    pub nonce: String,
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
}

/// `envoy.service.discovery.v3.Resource` without its content (field 2), which follows.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceHead {
    #[prost(string, tag = "1")]
    pub version: String,
    #[prost(string, tag = "3")]
    pub name: String,
}

/// The field of the content in all three.
pub(super) const CONTENT_FIELD: u32 = 2;

/// Writes a string field without owning it: the heads above are written ten thousand times a push.
pub(super) fn put_str(field: u32, text: &str, buf: &mut BytesMut) {
    encode_key(field, WireType::LengthDelimited, buf);
    encode_varint(text.len() as u64, buf);
    buf.put_slice(text.as_bytes());
}

/// Writes the beginning of a message field of `len` bytes, which follow.
pub(super) fn put_len(field: u32, len: usize, buf: &mut BytesMut) {
    encode_key(field, WireType::LengthDelimited, buf);
    encode_varint(len as u64, buf);
}

impl From<Node> for Option<super::request::Node> {
    /// A node without an id is none: Envoy always has one.
    fn from(node: Node) -> Self {
        let Node { id, cluster } = node;
        (!id.is_empty()).then(|| super::request::Node { id: id.into(), cluster: cluster.into() })
    }
}
