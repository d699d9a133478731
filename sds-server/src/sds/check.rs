//! What must hold of a secret before Envoy sees it. Invariant 6.

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use spiffe_bridge::identity::{Trust, TrustBundle, X509Svid};

/// Why a secret is not sent. Never holds any of its content.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum CheckError {
    /// Envoy refuses it: "certificate chain not set".
    #[error("the certificate chain is empty")]
    ChainEmpty,
    /// Envoy refuses it: "Failed to load certificate chain".
    #[error("the leaf cannot be parsed")]
    LeafUnreadable,
    /// Envoy refuses it: "Failed to load private key".
    #[error("the private key is empty or of a kind that is not served")]
    KeyUnreadable,
    /// Envoy refuses it: KEY_VALUES_MISMATCH.
    #[error("the private key is not the leaf's: the chain must begin with the leaf")]
    KeyMismatch,
    /// Envoy accepts it and then lets everybody in (envoy-sds.md §0.1).
    #[error("the bundle has no root")]
    BundleEmpty,
    /// Envoy refuses it: "Failed to load trusted CA certificates".
    #[error("a root of the bundle cannot be parsed")]
    RootUnreadable,
    /// Envoy refuses it: two bundles under one name.
    #[error("there are two bundles of one trust domain")]
    DomainTwice,
}

/// Checks what becomes a TLS certificate secret: chain leaf first, and the leaf's own key. XD-26.
///
/// # Errors
/// The first [`CheckError`] found.
pub fn svid(svid: &X509Svid) -> Result<(), CheckError> {
    if svid.chain.is_empty() || svid.chain.iter().any(|der| der.is_empty()) {
        return Err(CheckError::ChainEmpty);
    }
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(svid.key.expose_pkcs8()));
    let key = any_supported_type(&key).map_err(|_| CheckError::KeyUnreadable)?;
    match CertifiedKey::new(svid.chain.clone(), key).keys_match() {
        Ok(()) | Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(TlsError::InconsistentKeys(_)) => Err(CheckError::KeyMismatch),
        Err(_) => Err(CheckError::LeafUnreadable),
    }
}

/// Checks what becomes a validation context: never without a root, and every root one that can be read.
///
/// # Errors
/// The first [`CheckError`] found.
pub fn bundle(bundle: &TrustBundle) -> Result<(), CheckError> {
    if bundle.roots.is_empty() {
        return Err(CheckError::BundleEmpty);
    }
    let mut store = RootCertStore::empty();
    bundle.roots.iter().try_for_each(|root| store.add(root.clone())).map_err(|_| CheckError::RootUnreadable)
}

/// Checks what becomes a validation context of several trust domains: each bundle, and each domain once.
///
/// # Errors
/// The first [`CheckError`] found.
pub fn trust(trust: &Trust) -> Result<(), CheckError> {
    if trust.bundles.is_empty() {
        return Err(CheckError::BundleEmpty);
    }
    let mut domains: Vec<_> = trust.bundles.iter().map(|bundle| &bundle.trust_domain).collect();
    domains.sort();
    if domains.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(CheckError::DomainTwice);
    }
    trust.bundles.iter().try_for_each(|bundle| self::bundle(bundle))
}
