//! Any text as a bundle: no panic, bounded, and what was read is read the same again once it was written.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use spiffe_bridge::identity::{Revision, TrustBundle};
use spiffe_bridge::jose::bundle::{MAX_ROOTS, MAX_TOKEN_KEYS, parse};
use spiffe_bridge::jose::document;

fuzz_target!(|text: &str| {
    let Ok(read) = parse(text) else { return };
    assert!(read.roots.len() <= MAX_ROOTS);
    assert!(read.tokens.jwt.len() <= MAX_TOKEN_KEYS && read.tokens.wit.len() <= MAX_TOKEN_KEYS);
    let domain = "example.org".try_into().expect("a domain");
    let bundle = TrustBundle::new(domain, read.roots, Revision(1)).with_tokens(read.tokens);
    let written = document::bundle(&bundle, 1, Duration::from_secs(1));
    let again = parse(&written).expect("what we write is read");
    assert_eq!(again.tokens, bundle.tokens);
});
