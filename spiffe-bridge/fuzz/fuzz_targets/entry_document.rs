//! Any text as an entry file: what is read prints to a file that reads the same, and a refusal says where and why.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spiffe_bridge::identity::parse_trust_domain;
use spiffe_bridge::registration::document::{Content, Document, parse, profile_to_yaml, to_yaml};

fuzz_target!(|text: &str| {
    let domain = parse_trust_domain("example.org").expect("a trust domain");
    let file = "fuzz.yaml".into();
    match parse(text, &file, &domain) {
        Ok(documents) => {
            let entries: Vec<_> = documents.iter().filter_map(|d| d.entry().map(|e| (**e).clone())).collect();
            let again = parse(&to_yaml(&entries), &file, &domain);
            let again = again.map(|documents| documents.iter().filter_map(|d| d.entry().map(|e| (**e).clone())).collect::<Vec<_>>());
            assert_eq!(again.as_ref(), Ok(&entries), "{}", to_yaml(&entries));
            let profiles = profiles(&documents);
            let text: String = profiles.iter().map(|profile| profile_to_yaml(profile)).collect();
            let again = parse(&text, &file, &domain).map(|documents| self::profiles(&documents));
            assert_eq!(again, Ok(profiles), "{text}");
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            assert!(faults.iter().all(|f| !f.message.is_empty() && !f.message.contains('\n')));
        }
    }
});

fn profiles(documents: &[Document]) -> Vec<std::sync::Arc<spiffe_bridge::registration::Profile>> {
    let profile = |document: &Document| match &document.content {
        Content::Profile(profile) => Some(profile.clone()),
        _ => None,
    };
    documents.iter().filter_map(profile).collect()
}
