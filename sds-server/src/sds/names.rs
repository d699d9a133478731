//! The grammar of SDS names.

use spiffe_bridge::authority::MAX_AUDIENCE_BYTES;
use spiffe_bridge::identity::MAX_ID_BYTES;

/// The longest name that can mean anything, in bytes: a SPIFFE ID and what may stand before it.
pub const MAX_NAME_BYTES: usize = MAX_ID_BYTES + 64;

/// What a name asks for. It is compared with what the caller has, so nothing is parsed further: a text that is
/// no SPIFFE ID equals none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// `default`: the caller's first identity by SPIFFE ID.
    Default,
    /// `spiffe://domain/path`: the caller's identity of that SPIFFE ID.
    Svid {
        /// `domain`
        trust_domain: &'a str,
        /// `/path`
        path: &'a str,
    },
    /// `api.example.org`: the caller's identity whose entry has that DNS name.
    Dns {
        /// In lower case, with a dot.
        name: &'a str,
    },
    /// `ROOTCA`: the roots of our own trust domain.
    OwnRoots,
    /// `spiffe://domain`: the bundle of that trust domain.
    Bundle {
        /// `domain`
        trust_domain: &'a str,
    },
    /// `ALL`: the bundle of every trust domain that there is.
    All,
    /// `peers`: who may call the caller's first identity, or `peers:<id>`: that one.
    Peers {
        /// A SPIFFE ID; `None` for the first.
        of: Option<&'a str>,
    },
    /// `jwt:<audience>`: a JWT-SVID of the caller's first identity for that audience.
    Token {
        /// Any text; compared letter for letter.
        audience: &'a str,
    },
    /// `upstream:<name>`: the workloads of that DNS name which the caller may call.
    Upstream {
        /// A DNS name.
        name: &'a str,
    },
}

impl<'a> Name<'a> {
    /// What `text` asks for; `None` for everything that we do not serve.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) {
            return None;
        }
        match text {
            "default" => return Some(Self::Default),
            "ROOTCA" => return Some(Self::OwnRoots),
            "ALL" => return Some(Self::All),
            "peers" => return Some(Self::Peers { of: None }),
            _ => {}
        }
        if let Some(id) = text.strip_prefix("peers:") {
            return id.starts_with("spiffe://").then_some(Self::Peers { of: Some(id) });
        }
        if let Some(audience) = text.strip_prefix("jwt:") {
            return (1..=MAX_AUDIENCE_BYTES).contains(&audience.len()).then_some(Self::Token { audience });
        }
        if let Some(name) = text.strip_prefix("upstream:") {
            return (!name.is_empty()).then_some(Self::Upstream { name });
        }
        if is_dns_name(text) {
            return Some(Self::Dns { name: text });
        }
        // Canonical spelling only: what is issued and published is in lower case. SPIFFE-ID §2.1.
        let rest = text.strip_prefix("spiffe://")?;
        match rest.find('/') {
            Some(slash) => {
                let (trust_domain, path) = rest.split_at(slash);
                (!trust_domain.is_empty() && path.len() > 1).then_some(Self::Svid { trust_domain, path })
            }
            None => (!rest.is_empty()).then_some(Self::Bundle { trust_domain: rest }),
        }
    }
}

/// With a dot, so that words without one stay free for meanings to come. In lower case only: DNS knows no case, but
/// a caller of Envoy who varied it would get a subscription for each spelling.
fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.contains('.') && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_the_design_says() {
        let check = |text: &str, expected| assert_eq!(Name::parse(text), expected, "{text:?}");
        check("default", Some(Name::Default));
        check("ROOTCA", Some(Name::OwnRoots));
        check("spiffe://example.org", Some(Name::Bundle { trust_domain: "example.org" }));
        check("spiffe://example.org/a/b", Some(Name::Svid { trust_domain: "example.org", path: "/a/b" }));
        check("ALL", Some(Name::All));
        check("peers", Some(Name::Peers { of: None }));
        check("peers:spiffe://example.org/a", Some(Name::Peers { of: Some("spiffe://example.org/a") }));
        check("jwt:https://a.example.org", Some(Name::Token { audience: "https://a.example.org" }));
        check("upstream:db.example.org", Some(Name::Upstream { name: "db.example.org" }));
        check("api.example.org", Some(Name::Dns { name: "api.example.org" }));
        for unknown in [
            "api",
            "API.example.org",
            ".example.org",
            "api.example.org.",
            "*.example.org",
            "",
            "*",
            "Default",
            "rootca",
            "All",
            "peers:",
            "peers:web",
            "upstream:",
            "jwt:",
            "spiffe://",
            "spiffe:///a",
            "spiffe://example.org/",
            "a\nb",
        ] {
            check(unknown, None);
        }
        check(&format!("spiffe://example.org/{}", "a".repeat(MAX_NAME_BYTES)), None);
    }
}
