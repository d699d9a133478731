//! The CA that signs leaves: the root, or the issuing CA below it.

use rustls_pki_types::CertificateDer;

use super::state::IssuingRecord;
use super::{Hierarchy, OpenError};
use crate::keys::{KeyId, KeyManager, SignatureScheme};
use crate::x509::{CaFacts, inspect};

/// Whose key signs leaves.
pub(super) struct Signer {
    pub(super) key: KeyId,
    pub(super) facts: CaFacts,
    /// What goes out behind each leaf: the signer's own certificate, unless it is the root.
    pub(super) chain: Vec<CertificateDer<'static>>,
}

impl Signer {
    /// The issuing CA of `issuing` if there is one, else the root whose key is `root_key`.
    ///
    /// Beside an issuing CA the root signs nothing, and its key may be kept elsewhere.
    pub(super) fn open(
        root: &CaFacts,
        root_key: KeyId,
        issuing: Option<IssuingRecord>,
        keys: &dyn KeyManager,
    ) -> Result<Self, OpenError> {
        let signer = match issuing {
            None => Self { key: root_key, facts: root.clone(), chain: Vec::new() },
            Some(IssuingRecord { key, certificate }) => {
                let certificate = CertificateDer::from(certificate);
                inspect::signed_by(&certificate, root)?;
                Self { key, facts: inspect::ca(&certificate)?, chain: vec![certificate] }
            }
        };
        if keys.public(&signer.key)? == signer.facts.public_key {
            Ok(signer)
        } else {
            Err(OpenError::KeyMismatch { key: signer.key })
        }
    }

    pub(super) fn hierarchy(&self) -> Hierarchy {
        if self.chain.is_empty() { Hierarchy::Root } else { Hierarchy::Intermediate }
    }

    pub(super) fn scheme(&self) -> SignatureScheme {
        self.facts.public_key.key_type().certificate_scheme()
    }
}
