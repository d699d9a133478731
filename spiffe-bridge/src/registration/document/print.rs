//! Entries back to documents, in one spelling.

use std::fmt::Write;

use super::super::{Entry, Profile, Terms};
use crate::clock::duration;

/// The documents that [`parse`](super::parse) reads as `entries`.
#[must_use]
pub fn to_yaml<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> String {
    let mut text = String::new();
    for entry in entries {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "---\nkind: Workload\nspiffe_id: {}", quoted(&entry.spiffe_id.to_string()));
        list(&mut text, "selectors", entry.selectors.iter().map(|s| s.as_str()));
        if entry.remote {
            text.push_str("remote: true\n");
        }
        list(&mut text, "dns_names", entry.dns_names.iter().map(String::as_str));
        if let Some(profile) = &entry.profile {
            let _ = writeln!(text, "profile: {}", quoted(profile));
        }
        let peers: Vec<_> = entry.peers.iter().map(ToString::to_string).collect();
        list(&mut text, "peers", peers.iter().map(String::as_str));
        if let Some(hint) = &entry.hint {
            let _ = writeln!(text, "hint: {}", quoted(hint));
        }
    }
    text
}

/// The document that [`parse`](super::parse) reads as `profile`.
#[must_use]
pub fn profile_to_yaml(profile: &Profile) -> String {
    let Terms { key_type, lifetime } = profile.terms;
    let lifetime = lifetime.map(|lifetime| format!("lifetime: {}\n", duration::format(lifetime)));
    let (name, lifetime) = (quoted(&profile.name), lifetime.unwrap_or_default());
    format!("---\nkind: Profile\nname: {name}\nkey_type: {key_type}\n{lifetime}")
}

fn list<'t>(text: &mut String, key: &str, values: impl Iterator<Item = &'t str>) {
    for (n, value) in values.enumerate() {
        if n == 0 {
            let _ = writeln!(text, "{key}:");
        }
        let _ = writeln!(text, "  - {}", quoted(value));
    }
}

/// YAML's double-quoted form. A JSON string is one (YAML 1.2 §5.7), once what YAML does not print is escaped.
fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            ' '..='~' | '\u{a0}'..='\u{d7ff}' if !matches!(c, '\u{2028}' | '\u{2029}') => out.push(c),
            c if u32::from(c) <= 0xffff => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => drop(write!(out, "\\U{:08x}", u32::from(c))),
        }
    }
    out
}
