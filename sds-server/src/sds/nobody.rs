//! A root whose key nobody has: what stands where a trust domain has none left.
//!
//! SDS has no message that takes roots away: told that a name is gone, Envoy goes on with what it has (docs/operations.md).
//! So whoever asks for the bundle of a domain that trusts nobody any more is given this root, and lets nobody in.
//!
//! Its public key is a point of P-256 whose x is the SHA-256 of a sentence: who knew its private key would have solved the
//! discrete logarithm of a hash. Its signature is none, which nobody looks at in a root. The test makes it again.

/// The certificate, DER.
pub(super) const ROOT: &[u8] = include_bytes!("nobody.der");

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    use spiffe_bridge::x509::inspect;

    use super::*;

    #[test]
    fn its_key_is_the_hash_of_a_sentence() {
        // The first number for which the hash is the x of a point.
        let sha256 = TLS13_AES_128_GCM_SHA256.tls13().unwrap().common.hash_provider;
        let x = sha256.hash(b"Countersign: nobody has the key of this root, 1");
        let point = [&[4], x.as_ref()].concat();
        let at = ROOT.windows(point.len()).position(|window| window == point);
        assert!(at.is_some());
        inspect::trust_anchor(&ROOT.into()).unwrap();
        assert_eq!(inspect::ca(&ROOT.into()).unwrap().subject_text, "O=Countersign, CN=Nobody");
    }
}
