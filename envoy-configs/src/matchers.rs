//! Who may call and who may answer, as matchers; and the SDS names of the roots that go with them.

use spiffe::SpiffeId;

use crate::scalar::{is_dns_name, quoted, unusable};
use crate::{Callee, Callers, NOBODY, RenderError, Settings};

/// An ID without a path is a trust domain's: no SVID has it, and as an SDS name it is a bundle.
pub(crate) fn workload(field: &'static str, id: &SpiffeId) -> Result<String, RenderError> {
    if id.path().is_empty() {
        return Err(unusable(field, &id.to_string(), "a workload's SPIFFE ID, which has a path"));
    }
    Ok(quoted(&id.to_string()))
}

/// The matchers that say who comes in. They are the floor too: without roots Envoy refuses them.
pub(crate) fn callers(settings: &Settings) -> Result<String, RenderError> {
    let domain = settings.trust_domain.to_string();
    let peers = match &settings.callers {
        Callers::Domain => return Ok(whole(&domain)),
        Callers::Entries => return Ok(exact(&quoted(NOBODY))),
        Callers::Listed(peers) if peers.is_empty() => return Err(RenderError::NoPeer),
        Callers::Listed(peers) => peers,
    };
    let mut lines = Vec::with_capacity(peers.len());
    for peer in peers {
        if peer.trust_domain_name() != domain {
            return Err(RenderError::ForeignPeer { peer: peer.to_string(), trust_domain: domain });
        }
        lines.push(exact(&workload("peers", peer)?));
    }
    Ok(lines.join("\n"))
}

pub(crate) fn callers_roots(callers: &Callers) -> String {
    quoted(if *callers == Callers::Entries { "peers" } else { "ROOTCA" })
}

/// The matchers that say who answers; none where Countersign's roots check nobody.
pub(crate) fn callee(settings: &Settings) -> Result<String, RenderError> {
    match &settings.callee {
        Callee::Workload(id) => Ok(exact(&workload("callee", id)?)),
        Callee::Named(name) if is_dns_name(name) => Ok(exact(&quoted(NOBODY))),
        Callee::Named(name) => Err(unusable("callee", name, "a DNS name, as in the dns_names of an entry")),
        Callee::Domain => Ok(whole(settings.trust_domain.as_ref())),
        Callee::Server(_) | Callee::ByServerName(_) => Ok(String::new()),
    }
}

/// Own domain's roots have a short name; another's are named by the domain's ID.
pub(crate) fn callee_roots(settings: &Settings) -> String {
    let own = settings.trust_domain.to_string();
    quoted(&match &settings.callee {
        Callee::Workload(id) if id.trust_domain_name() != own => {
            format!("spiffe://{}", id.trust_domain_name())
        }
        Callee::Named(name) => format!("upstream:{name}"),
        _ => "ROOTCA".to_owned(),
    })
}

/// The closing slash keeps out `spiffe://example.org.evil/`.
fn whole(domain: &str) -> String {
    matcher("prefix", &quoted(&format!("spiffe://{domain}/")))
}

fn exact(scalar: &str) -> String {
    matcher("exact", scalar)
}

fn matcher(kind: &str, scalar: &str) -> String {
    format!("- {{ san_type: URI, matcher: {{ {kind}: {scalar} }} }}")
}
