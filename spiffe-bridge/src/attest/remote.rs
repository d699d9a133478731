//! Who calls over the network: the certificate whose key a peer proved in its TLS handshake → `x509:` selectors.
//!
//! The certificate must come from a CA that the operator names for this door, and never from what Countersign itself
//! issues: an SVID that opened the door would be renewed through it for ever, in the hands of a thief too.
//! rotation.md, "Who is calling, the fine print".

use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::clock::Timestamp;
use crate::identity::{Selector, SelectorSet, TrustBundle};
use crate::registration::Needs;
use crate::x509::inspect::{self, InspectError};
use crate::x509::verify::{MAX_CHAIN, VerifyError, client_path};

/// The most CAs of the door: each is tried for each caller whose issuer has its name.
const MAX_AUTHORITIES: usize = 64;
/// The longest name: that of a SPIFFE ID. SPIFFE-ID §2.3.
const MAX_NAME_BYTES: usize = 2048;
/// The most names of one certificate: each becomes a selector.
const MAX_NAMES: usize = 64;

/// Why the CAs of the door cannot be used. The configuration's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthoritiesError {
    /// Not PEM, or PEM that is cut short.
    #[error("it is not a list of certificates in PEM: {0}")]
    Pem(String),
    /// No certificate in it: nobody could come in.
    #[error("it has no certificate: write the CAs of the remote callers into it, in PEM")]
    Empty,
    /// More than are taken.
    #[error("it has {0} certificates: at most {MAX_AUTHORITIES} are taken, name the CAs of the callers only")]
    TooMany(usize),
    /// A certificate that cannot sign others.
    #[error("certificate {number} in it cannot be trusted as a CA")]
    NotAnAuthority {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        #[source]
        source: InspectError,
    },
    /// One of our own CAs.
    #[error(
        "certificate {number} in it is a CA of this server's own trust domain {trust_domain}: whoever stole an SVID could \
         renew it here for ever. Name a CA that Countersign does not run, which issues to the proxies alone"
    )]
    OwnRoot {
        /// Counted from 1.
        number: usize,
        /// Ours.
        trust_domain: String,
    },
}

/// The CAs whose certificates open the door, beside the roots that never do. One moment's; replaced as a whole.
#[derive(Debug)]
pub struct RemoteTrust {
    certificates: Vec<CertificateDer<'static>>,
    authorities: Vec<TrustAnchor<'static>>,
    own: Vec<TrustAnchor<'static>>,
    /// Our CAs below the roots: a caller may leave them out of its chain.
    below: Vec<CertificateDer<'static>>,
}

/// Why a peer's certificate does not open the door.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// No valid path to a CA of the door.
    #[error("the caller's certificate is not one of remote.client_ca's")]
    Path(#[from] VerifyError),
    /// It is an SVID of ours.
    #[error("the caller came with a certificate that this server issued: it needs one of remote.client_ca's")]
    OwnSvid,
    /// It cannot be read.
    #[error("the caller's certificate cannot be read")]
    Unreadable(#[from] InspectError),
    /// A name that could not be shown, or compared.
    #[error(
        "the caller's certificate has a name with control characters, or of more than {MAX_NAME_BYTES} bytes"
    )]
    BadName,
    /// More names than a caller has.
    #[error("the caller's certificate has {0} names: at most {MAX_NAMES} are taken")]
    TooManyNames(usize),
    /// No certificate came.
    #[error("the caller has no certificate")]
    NoCertificate,
}

impl RemoteError {
    /// Whether time alone is the reason.
    #[must_use]
    pub fn is_expiry(&self) -> bool {
        matches!(self, Self::Path(VerifyError::Path(webpki::Error::CertExpired { .. })))
    }
}

impl RemoteTrust {
    /// The CAs in `pem`, none of which may have the key of a root in `own`, or of a CA of ours `below` them.
    ///
    /// # Errors
    /// [`AuthoritiesError`].
    pub fn parse(
        pem: &[u8],
        own: &TrustBundle,
        below: &[CertificateDer<'static>],
    ) -> Result<Self, AuthoritiesError> {
        Self::new(certificates(pem)?, own, below)
    }

    /// Whether `pem` is a list of CAs, whosever they are.
    ///
    /// # Errors
    /// [`AuthoritiesError`].
    pub fn check(pem: &[u8]) -> Result<(), AuthoritiesError> {
        authorities(&certificates(pem)?, |_, _| Ok(())).map(drop)
    }

    /// The same CAs beside other roots of ours.
    ///
    /// # Errors
    /// [`AuthoritiesError::OwnRoot`] if one of them has become one of ours.
    pub fn beside(&self, own: &TrustBundle) -> Result<Self, AuthoritiesError> {
        Self::new(self.certificates.clone(), own, &self.below)
    }

    /// Trust in nobody, beside `own`.
    #[must_use]
    pub fn nobody(&self, own: &TrustBundle) -> Self {
        let own = own.roots.iter().filter_map(anchor).collect();
        Self { certificates: Vec::new(), authorities: Vec::new(), own, below: self.below.clone() }
    }

    fn new(
        certificates: Vec<CertificateDer<'static>>,
        own: &TrustBundle,
        below: &[CertificateDer<'static>],
    ) -> Result<Self, AuthoritiesError> {
        // Keys and not certificates: a root that was certified by another CA is the same signer.
        let ours = own.roots.iter().chain(below).filter_map(|ca| inspect::subject_key(ca).ok());
        let ours: Vec<_> = ours.collect();
        let authorities = authorities(&certificates, |number, key| match ours.contains(&key) {
            true => Err(AuthoritiesError::OwnRoot { number, trust_domain: own.trust_domain.to_string() }),
            false => Ok(()),
        })?;
        let own = own.roots.iter().filter_map(anchor).collect();
        Ok(Self { certificates, authorities, own, below: below.to_vec() })
    }

    /// The CAs, for a TLS library that checks handshakes by them too.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Whether both trust the same CAs and refuse the same roots.
    #[must_use]
    pub fn says_same(&self, other: &Self) -> bool {
        self.certificates == other.certificates && self.own == other.own
    }

    /// Until when `peer` may be served, if it may be at `now`.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn verify(&self, peer: &RemotePeer, now: Timestamp) -> Result<Timestamp, RemoteError> {
        // Over a CA of the door that certified one of ours, an SVID would have a path to both.
        let leaf = peer.chain.iter().take(1);
        let chain: Vec<_> = leaf.chain(&self.below).chain(peer.chain.iter().skip(1)).cloned().collect();
        if client_path(chain.get(..MAX_CHAIN).unwrap_or(&chain), &self.own, now).is_ok() {
            return Err(RemoteError::OwnSvid);
        }
        Ok(client_path(&peer.chain, &self.authorities, now)?)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, AuthoritiesError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| AuthoritiesError::Pem(error.to_string()))?;
    match certificates.len() {
        0 => Err(AuthoritiesError::Empty),
        many if many > MAX_AUTHORITIES => Err(AuthoritiesError::TooMany(many)),
        _ => Ok(certificates),
    }
}

/// The anchors of `certificates`, each of which can be one, and whose number (from 1) and key `allow` lets pass.
fn authorities(
    certificates: &[CertificateDer<'static>],
    allow: impl Fn(usize, Vec<u8>) -> Result<(), AuthoritiesError>,
) -> Result<Vec<TrustAnchor<'static>>, AuthoritiesError> {
    let mut authorities = Vec::with_capacity(certificates.len());
    for (number, certificate) in (1..).zip(certificates) {
        let unfit = |source| AuthoritiesError::NotAnAuthority { number, source };
        inspect::trust_anchor(certificate).map_err(unfit)?;
        allow(number, inspect::subject_key(certificate).map_err(unfit)?)?;
        authorities.extend(anchor(certificate));
    }
    Ok(authorities)
}

fn anchor(certificate: &CertificateDer<'static>) -> Option<TrustAnchor<'static>> {
    webpki::anchor_from_trusted_cert(certificate).ok().map(|anchor| anchor.to_owned())
}

/// A peer at the other end of a TLS connection, which proved the key of its certificate.
#[derive(Debug)]
pub struct RemotePeer {
    address: SocketAddr,
    name: Arc<str>,
    names: SelectorSet,
    hash: Selector,
    chain: Vec<CertificateDer<'static>>,
}

impl RemotePeer {
    /// The peer at `address` that sent `chain` (leaf first), with a selector for each URI and DNS name of its leaf and
    /// for the leaf itself. Whether that opens the door is for [`RemoteTrust::verify`] to say.
    ///
    /// # Errors
    /// [`RemoteError`] if there is no leaf, or it cannot be read whole.
    pub fn new(address: SocketAddr, chain: &[CertificateDer<'_>]) -> Result<Self, RemoteError> {
        let leaf = chain.first().ok_or(RemoteError::NoCertificate)?;
        let facts = inspect::leaf(leaf)?;
        let names = facts.uris.len() + facts.dns_names.len();
        if names > MAX_NAMES {
            return Err(RemoteError::TooManyNames(names));
        }
        let bad = |name: &String| name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control);
        if facts.uris.iter().chain(&facts.dns_names).any(bad) {
            return Err(RemoteError::BadName);
        }
        let hash = data_encoding::HEXLOWER.encode(digest::digest(&digest::SHA256, leaf).as_ref());
        // Host names are compared without regard to case (RFC 4343); entries spell them in lower case.
        let dns_names: Vec<_> = facts.dns_names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let named = facts.uris.first().or(dns_names.first());
        let name = named.map_or_else(|| format!("sha256:{hash}").into(), |name| name.as_str().into());
        let uris = facts.uris.iter().map(|uri| Selector::new("x509", "uri", uri));
        let names = uris.chain(dns_names.iter().map(|name| Selector::new("x509", "dns", name))).collect();
        let hash = Selector::new("x509", "sha256", hash);
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Ok(Self { address, name, names, hash, chain })
    }

    /// Where it connected from.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its certificate is known by: the first URI, else the first DNS name, else its hash.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What its certificate proves. The hash is left out unless an entry `needs` it: proxies that are alike in all
    /// else are served as one.
    #[must_use]
    pub fn selectors(&self, needs: Needs) -> SelectorSet {
        let mut selectors = self.names.clone();
        if needs.certificate || selectors.is_empty() {
            selectors.insert(self.hash.clone());
        }
        selectors
    }
}
