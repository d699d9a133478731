//! The rules for the values of an entry. Each message says what to write instead.

use std::sync::Arc;
use std::time::Duration;

use spiffe::{SpiffeId, TrustDomain};

mod crls;
mod selectors;

pub(super) use crls::crls;
pub(super) use selectors::selector;

use super::{MAX_HINT_BYTES, MAX_LIFETIME, MAX_PROFILE_NAME, MIN_LIFETIME, short};
use crate::clock::duration;
use crate::identity::{IdError, is_reserved, parse_trust_domain, parse_workload_id};
use crate::jose::bundle::{self, BundleDocument};
use crate::keys::{KeyType, UnknownKeyType};

pub(super) fn own_id(text: &str, trust_domain: &TrustDomain) -> Result<SpiffeId, String> {
    let id = parse_workload_id(text).map_err(|e| explain(&e))?;
    if id.trust_domain() == trust_domain {
        if is_reserved(&id) {
            return Err(format!(
                "{id} is reserved for the server itself: choose a path that does not begin with /countersign"
            ));
        }
        return Ok(id);
    }
    let theirs = id.trust_domain();
    Err(format!(
        "{id} is of trust domain {theirs}, and this server signs for {trust_domain}: write spiffe://{trust_domain}{}",
        id.path()
    ))
}

/// A trust domain other than ours.
pub(super) fn foreign_domain(text: &str, own: &TrustDomain) -> Result<TrustDomain, String> {
    let domain = parse_trust_domain(text).map_err(|e| format!("{e}: write it as example.org"))?;
    if domain == *own {
        return Err(format!("{own} is this server's own trust domain: its bundle comes from its authority"));
    }
    Ok(domain)
}

pub(super) fn bundle(text: &str) -> Result<BundleDocument, String> {
    bundle::parse(text).map_err(|e| e.to_string())
}

/// The error and its cause in one line.
pub(super) fn explain(error: &IdError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error} ({cause}): write spiffe://trust-domain/path"),
        None => error.to_string(),
    }
}

/// A host name by RFC 1123 §2.1, in lower case. No wildcards: an entry names a workload, not a zone.
pub(super) fn dns_name(name: &str) -> Result<(), String> {
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits alone makes it an IP address to many readers. RFC 1123 §2.1.
    let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if name.len() <= 253 && name.split('.').all(label) && !numeric {
        return Ok(());
    }
    Err(format!(
        "{:?} is not a DNS name: write lower-case letters, digits, '-' and '.', no wildcard",
        short(name)
    ))
}

/// The name of a profile, where it is declared and where an entry names it.
pub(super) fn profile(name: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edges = name.starts_with('-') || name.ends_with('-');
    if (1..=MAX_PROFILE_NAME).contains(&name.len()) && name.bytes().all(plain) && !edges {
        return Ok(name.to_owned());
    }
    Err(format!(
        "{:?} is not a profile's name: write 1 to {MAX_PROFILE_NAME} lower-case letters, digits and '-'",
        short(name)
    ))
}

pub(super) fn key_type(text: &str) -> Result<KeyType, String> {
    text.parse().map_err(|error: UnknownKeyType| format!("{:?} is {error}", short(text)))
}

/// Certificates count in seconds, and an SVID that ends while it is fetched helps nobody.
pub(super) fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = duration::parse(text).map_err(|error| short(&error.to_string()).to_owned())?;
    let (least, most) = (duration::format(MIN_LIFETIME), duration::format(MAX_LIFETIME));
    if (MIN_LIFETIME..=MAX_LIFETIME).contains(&lifetime) && lifetime.subsec_nanos() == 0 {
        return Ok(lifetime);
    }
    Err(format!("{text} is not a lifetime for an SVID: write whole seconds, from {least} to {most}"))
}

pub(super) fn hint(text: &str) -> Result<Arc<str>, String> {
    if text.len() > MAX_HINT_BYTES {
        return Err(format!("a hint of {} bytes: at most {MAX_HINT_BYTES} are allowed", text.len()));
    }
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(
            "an empty hint, or one with control characters: write plain text, or leave it out".to_owned()
        );
    }
    Ok(text.into())
}
