//! Any text: a SPIFFE ID that is taken prints as it was written, and parses to the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spiffe_bridge::identity::{MAX_ID_BYTES, parse_spiffe_id, parse_trust_domain, parse_workload_id};

fuzz_target!(|text: &str| {
    if let Ok(id) = parse_spiffe_id(text) {
        assert!(text.len() <= MAX_ID_BYTES);
        assert_eq!(id.to_string(), text);
        assert_eq!(parse_spiffe_id(&id.to_string()), Ok(id.clone()));
        assert_eq!(parse_workload_id(text).is_ok(), !id.path().is_empty());
        assert_eq!(parse_trust_domain(id.trust_domain().as_str()).as_ref(), Ok(id.trust_domain()));
    }
});
