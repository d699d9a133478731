//! Any bytes as gRPC frames, for both codecs, into an engine: no panic, bounded, and a request that was read and
//! written is read the same again.
#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sds_server::sds::frame::Reader;
use sds_server::sds::{Limits, Protocol, Refusal, Request, Subscription, delta, sotw};
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::WorkloadUpdate;

type Decode = fn(Bytes) -> Result<Request, Refusal>;
type Encode = fn(&Request) -> Vec<u8>;

const LIMITS: Limits =
    Limits { streams: 1, names: 8, name_bytes: 65_536, message_bytes: 4096, unfinished_bytes: 8192 };

fn feed(data: &[u8], protocol: Protocol, decode: Decode, encode: Encode) {
    let mut engine = Subscription::new(protocol, &LIMITS, 1);
    let update = Arc::<WorkloadUpdate>::default();
    let now = Timestamp::from_unix_seconds(1);
    let mut reader = Reader::default();
    // The first byte says how the rest is cut.
    let Some((cut, rest)) = data.split_first() else { return };
    for chunk in rest.chunks(usize::from(*cut).max(1)) {
        reader.push(Bytes::copy_from_slice(chunk));
        loop {
            let message = match reader.next(LIMITS.message_bytes) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(_) => return,
            };
            assert!(message.len() <= LIMITS.message_bytes);
            let Ok(request) = decode(message) else { return };
            assert_eq!(decode(Bytes::from(encode(&request))).as_ref(), Ok(&request));
            if engine.request(request, now).is_err() {
                return;
            }
            assert!(engine.names().len() <= LIMITS.names);
            let mut said = 0;
            while engine.next(&update, now).is_some() {
                said += 1;
                assert!(said <= LIMITS.message_bytes, "it never ends");
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    feed(data, Protocol::Sotw, sotw::decode, sotw::encode_request);
    feed(data, Protocol::Delta, delta::decode, delta::encode_request);
});
