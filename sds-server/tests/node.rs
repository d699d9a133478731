//! What a node costs that names 516 extensions in each request, as Envoy's does (envoy-sds.md §0.8). A binary of its own:
//! its allocator counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{Extension, Node};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use prost::Message;
use sds_server::sds::{Limits, Protocol, Refusal, Request, Subscription, delta, sotw};
use spiffe_bridge::clock::Timestamp;

/// The system's, and how much of it is in use now and was at most.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
#[allow(unsafe_code, reason = "an allocator is unsafe")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// As long as Envoy 1.40's: 61 KB.
fn node() -> Node {
    let extension = |n: usize| Extension {
        name: format!("envoy.filters.http.some_extension_{n:03}"),
        category: "envoy.filters.http".to_owned(),
        type_urls: vec![format!("envoy.extensions.filters.http.some.v3.Extension{n:03}")],
        ..Extension::default()
    };
    let extensions = (0..516).map(extension).collect();
    let (id, cluster) = ("sidecar".to_owned(), "web".to_owned());
    Node { id, cluster, extensions, ..Node::default() }
}

type Decode = fn(Bytes) -> Result<Request, Refusal>;

/// One test, so that nothing else is counted.
#[test]
fn a_node_of_61_kb_is_read_without_its_extensions_and_nothing_of_them_is_kept() {
    let node = node();
    let len = node.encoded_len();
    assert!((55_000..70_000).contains(&len), "{len}");
    let names = vec!["default".to_owned()];
    let full =
        DiscoveryRequest { node: Some(node.clone()), resource_names: names.clone(), ..Default::default() };
    let change =
        DeltaDiscoveryRequest { node: Some(node), resource_names_subscribe: names, ..Default::default() };
    let cases: [(Protocol, Decode, Vec<u8>); 2] = [
        (Protocol::Sotw, sotw::decode, full.encode_to_vec()),
        (Protocol::Delta, delta::decode, change.encode_to_vec()),
    ];
    for (protocol, decode, message) in cases {
        let message = Bytes::from(message);
        let before = NOW.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let now = Timestamp::from_unix_seconds(1);
        let streams: Vec<_> = (0..100)
            .map(|salt| {
                let mut stream = Subscription::new(protocol, &Limits::default(), salt);
                let mut request = decode(message.clone()).unwrap();
                assert_eq!(request.node.as_ref().map(|node| &*node.id), Some("sidecar"));
                if protocol == Protocol::Sotw {
                    request.type_url.clear();
                }
                stream.request(request, now).unwrap();
                stream
            })
            .collect();
        let kept = (NOW.load(Ordering::Relaxed) - before) / streams.len();
        let most = MOST.load(Ordering::Relaxed) - before;
        // Room for the stream itself; the test of its size is in `subscription.rs`.
        assert!(kept < 2_000, "{protocol:?}: {kept} bytes a stream");
        assert!(most < len / 2 + streams.len() * kept, "{protocol:?}: {most} bytes at most");
    }
}
