//! Any text as an entry file: what is read prints to a file that reads the same, and a refusal says where and why.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spiffe_bridge::identity::parse_trust_domain;
use spiffe_bridge::registration::document::{parse, to_yaml};

fuzz_target!(|text: &str| {
    let domain = parse_trust_domain("example.org").expect("a trust domain");
    let file = "fuzz.yaml".into();
    match parse(text, &file, &domain) {
        Ok(documents) => {
            let entries: Vec<_> = documents.iter().filter_map(|d| d.entry().map(|e| (**e).clone())).collect();
            let again = parse(&to_yaml(&entries), &file, &domain);
            let again = again.map(|documents| documents.iter().filter_map(|d| d.entry().map(|e| (**e).clone())).collect::<Vec<_>>());
            assert_eq!(again.as_ref(), Ok(&entries), "{}", to_yaml(&entries));
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            assert!(faults.iter().all(|f| !f.message.is_empty() && !f.message.contains('\n')));
        }
    }
});
