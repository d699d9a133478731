//! Text to SPIFFE ID and trust domain, with the rules that an issuer adds to the parser's.

use spiffe::{SpiffeId, TrustDomain};

/// The longest SPIFFE ID that is registered or issued, in bytes. SPIFFE-ID §2.3.
pub const MAX_ID_BYTES: usize = 2048;

/// Why a text is not a SPIFFE ID or trust domain that we would issue under.
#[derive(Debug, thiserror::Error, PartialEq, Clone)]
#[non_exhaustive]
pub enum IdError {
    /// The parser of the field refused it.
    #[error("{text:?} is not a SPIFFE ID")]
    Malformed {
        /// What was given, cut to 256 bytes.
        text: String,
        /// The rule that it breaks.
        #[source]
        source: spiffe::SpiffeIdError,
    },
    /// Longer than [`MAX_ID_BYTES`].
    #[error("a SPIFFE ID of {len} bytes: at most {MAX_ID_BYTES} are allowed")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The scheme or the trust domain is not in lower case, or the name of a trust domain has a scheme.
    #[error(
        "{text:?} is not in its canonical spelling (lower case, a trust domain without scheme): write {canonical:?}"
    )]
    NotCanonical {
        /// What was given.
        text: String,
        /// The spelling to use.
        canonical: String,
    },
    /// An ID without a path names the trust domain, not a workload.
    #[error("{text:?} names a trust domain: a workload's SPIFFE ID needs a path")]
    NoPath {
        /// What was given.
        text: String,
    },
}

/// The text of a SPIFFE ID, in one piece: [`SpiffeId`] is written part by part, and there are thousands a second.
#[must_use]
pub fn text_of(id: &SpiffeId) -> String {
    ["spiffe://", id.trust_domain_name(), id.path()].concat()
}

/// Parses a SPIFFE ID by SPIFFE-ID §2, in canonical spelling.
///
/// # Errors
/// [`IdError`] if the text is malformed, too long, or not in its canonical (lower-case) spelling.
pub fn parse_spiffe_id(text: &str) -> Result<SpiffeId, IdError> {
    if text.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong { len: text.len() }); // SPIFFE-ID §2.3
    }
    let id = SpiffeId::new(text).map_err(|source| malformed(text, source))?;
    canonical(text, &id.to_string())?;
    Ok(id)
}

/// Parses the SPIFFE ID of a workload: one that has a path. X509-SVID §3.1.
///
/// # Errors
/// As [`parse_spiffe_id`], and [`IdError::NoPath`].
pub fn parse_workload_id(text: &str) -> Result<SpiffeId, IdError> {
    let id = parse_spiffe_id(text)?;
    if id.path().is_empty() {
        return Err(IdError::NoPath { text: text.to_owned() });
    }
    Ok(id)
}

/// The first segment of the paths that the server keeps for itself.
const RESERVED: &str = "countersign";

/// Whether no entry may give `id`: the server itself, or a part of it, goes by such names in its trust domain.
#[must_use]
pub fn is_reserved(id: &SpiffeId) -> bool {
    id.path().split('/').nth(1) == Some(RESERVED)
}

/// The server's own SPIFFE ID in `trust_domain`, by which remote callers know it: `/countersign/server`.
///
/// # Errors
/// [`IdError`] if the trust domain's name is so long that there is no room for the path.
pub fn server_id(trust_domain: &TrustDomain) -> Result<SpiffeId, IdError> {
    parse_workload_id(&format!("spiffe://{trust_domain}/{RESERVED}/server"))
}

/// Parses the name of a trust domain, such as `example.org`, in lower case and without a scheme.
///
/// # Errors
/// [`IdError`] if the name is malformed, over 255 bytes, or not in lower case.
pub fn parse_trust_domain(name: &str) -> Result<TrustDomain, IdError> {
    let domain = TrustDomain::new(name).map_err(|source| malformed(name, source))?;
    canonical(name, domain.as_str())?;
    Ok(domain)
}

fn malformed(text: &str, source: spiffe::SpiffeIdError) -> IdError {
    let text = text.chars().take(256).collect();
    IdError::Malformed { text, source }
}

/// SPIFFE-ID §2.1: what we issue or publish is in lower case.
fn canonical(text: &str, canonical: &str) -> Result<(), IdError> {
    if text == canonical {
        return Ok(());
    }
    Err(IdError::NotCanonical { text: text.to_owned(), canonical: canonical.to_owned() })
}
