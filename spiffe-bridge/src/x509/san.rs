//! The DNS names of a leaf, checked once.

use rustls_pki_types::DnsName;

/// The most DNS names in one leaf: it must fit any TLS peer's limits, with a long SPIFFE ID.
pub const MAX_DNS_NAMES: usize = 64;

/// DNS names that may stand in a leaf, in the order given, none twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsNames(Vec<DnsName<'static>>);

/// Why a DNS name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SanError {
    /// Not a host name: NUL, other than ASCII, empty labels, too long (RFC 5280 §4.2.1.6).
    #[error("{name:?} is not a DNS name: use letters, digits, '-' and '.', and A-labels for the rest")]
    NotDns {
        /// What was given, cut to 256 characters.
        name: String,
    },
    /// More than [`MAX_DNS_NAMES`].
    #[error("{count} DNS names: at most {MAX_DNS_NAMES} fit one certificate")]
    TooMany {
        /// How many were given.
        count: usize,
    },
}

impl DnsNames {
    /// Checks `names`. Wildcards are refused: an SVID is one workload's.
    ///
    /// # Errors
    /// [`SanError`].
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self, SanError> {
        if names.len() > MAX_DNS_NAMES {
            return Err(SanError::TooMany { count: names.len() });
        }
        let mut checked: Vec<DnsName<'static>> = Vec::with_capacity(names.len());
        for name in names.iter().map(AsRef::as_ref) {
            let refuse = || SanError::NotDns { name: name.chars().take(256).collect() };
            let parsed = DnsName::try_from_str(name).map_err(|_| refuse())?.to_owned();
            // An absolute name ("a.b.") matches nothing in a certificate. RFC 6125 §6.4.
            if name.ends_with('.') {
                return Err(refuse());
            }
            if !checked.contains(&parsed) {
                checked.push(parsed);
            }
        }
        Ok(Self(checked))
    }

    /// The names.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }
}
