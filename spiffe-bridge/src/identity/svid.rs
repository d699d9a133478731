//! X509-SVIDs and the private keys that go with them.

use std::fmt;

use data_encoding::HEXLOWER;
use rustls_pki_types::CertificateDer;
use spiffe::SpiffeId;
use zeroize::Zeroizing;

use super::{Memo, Version};
use crate::clock::Timestamp;

/// A workload's private key: unencrypted PKCS#8, DER. Wiped when dropped, and prints nothing.
#[derive(Clone)]
pub struct PrivateKey(Zeroizing<Vec<u8>>);

impl PrivateKey {
    /// Takes over a PKCS#8 document (DER). The bytes are not looked at.
    #[must_use]
    pub fn from_pkcs8(der: Zeroizing<Vec<u8>>) -> Self {
        Self(der)
    }

    /// The key itself, PKCS#8 DER. Whoever calls this answers for where the bytes go.
    #[must_use]
    pub fn expose_pkcs8(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A certificate's serial number: big-endian, positive, 1 to 20 octets. RFC 5280 §4.1.2.2.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(Vec<u8>);

impl Serial {
    /// The serial with these octets, or `None` if they are not a positive number of at most 20
    /// octets in its shortest DER form.
    #[must_use]
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        let first = *octets.first()?;
        // A leading zero octet only where the next one would read as a sign.
        let shortest = first != 0 || octets.get(1).is_some_and(|next| *next >= 0x80);
        (octets.len() <= 20 && first < 0x80 && shortest).then(|| Self(octets.to_vec()))
    }

    /// The octets of the DER INTEGER.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

/// Lower-case hexadecimal, two digits an octet.
impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl serde::Serialize for Serial {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

/// An X509-SVID: a workload's identity, its certificate chain and its key. X509-SVID.md.
#[derive(Debug)]
pub struct X509Svid {
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// Leaf first, then intermediates; no root. Never empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKey,
    /// The leaf's serial number.
    pub serial: Serial,
    /// From when the leaf is valid (backdated by the skew margin).
    pub not_before: Timestamp,
    /// The last second in which the leaf is valid.
    pub not_after: Timestamp,
    /// Revision of the issuance, hash of chain and key.
    pub version: Version,
    /// What others derived from it.
    pub memo: Memo,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_positive_short_and_in_their_shortest_form() {
        let check =
            |octets: &[u8], good| assert_eq!(Serial::from_octets(octets).is_some(), good, "{octets:?}");
        check(&[1], true);
        check(&[0, 0x80], true);
        check(&[0x7f; 20], true);
        check(&[], false);
        check(&[0], false);
        check(&[0, 1], false);
        check(&[0x80], false);
        check(&[1; 21], false);
    }

    #[test]
    fn a_private_key_prints_nothing() {
        let key = PrivateKey::from_pkcs8(Zeroizing::new(b"secret".to_vec()));
        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
    }
}
