//! Which keys are spoken with: TLS signature algorithms and key exchange, as Envoy and BoringSSL name them.

/// A kind of key in the certificates of an Envoy and its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    EcP256,
    EcP384,
    /// Of every size.
    Rsa,
    /// Not offered by Envoy unless it is listed.
    Ed25519,
    /// Not offered by Envoy unless it is listed.
    MlDsa44,
    /// Not offered by Envoy unless it is listed.
    MlDsa65,
}

impl KeyKind {
    const fn algorithms(self) -> &'static [&'static str] {
        match self {
            Self::EcP256 => &["ecdsa_secp256r1_sha256"],
            Self::EcP384 => &["ecdsa_secp384r1_sha384"],
            // TLS 1.3 signs with PSS only. RFC 8446 §4.2.3.
            Self::Rsa => &["rsa_pss_rsae_sha256", "rsa_pss_rsae_sha384", "rsa_pss_rsae_sha512"],
            Self::Ed25519 => &["ed25519"],
            Self::MlDsa44 => &["mldsa44"],
            Self::MlDsa65 => &["mldsa65"],
        }
    }

    const fn is_post_quantum(self) -> bool {
        matches!(self, Self::MlDsa44 | Self::MlDsa65)
    }
}

/// What `kinds` add to `tls_params`: nothing if there are none, which leaves Envoy its defaults (both curves and RSA).
/// Otherwise these alone are signed with and taken from peers, in this order of preference.
pub(crate) fn tls_params(kinds: &[KeyKind]) -> String {
    let mut algorithms: Vec<&str> = Vec::new();
    for algorithm in kinds.iter().flat_map(|kind| kind.algorithms()) {
        if !algorithms.contains(algorithm) {
            algorithms.push(algorithm);
        }
    }
    if algorithms.is_empty() {
        return String::new();
    }
    // Signatures that outlive a quantum computer go with a key exchange that does, preferred over one that does not.
    let post_quantum = kinds.iter().any(|kind| kind.is_post_quantum());
    let curves = if post_quantum { ", ecdh_curves: [X25519MLKEM768, X25519]" } else { "" };
    format!(", signature_algorithms: [{}]{curves}", algorithms.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_is_spoken_and_each_once() {
        let check = |kinds: &[KeyKind], expected| assert_eq!(tls_params(kinds), expected);
        check(&[], "");
        check(
            &[KeyKind::Ed25519, KeyKind::EcP256, KeyKind::Ed25519],
            ", signature_algorithms: [ed25519, ecdsa_secp256r1_sha256]",
        );
        check(
            &[KeyKind::MlDsa65, KeyKind::EcP384],
            ", signature_algorithms: [mldsa65, ecdsa_secp384r1_sha384], ecdh_curves: [X25519MLKEM768, X25519]",
        );
    }
}
