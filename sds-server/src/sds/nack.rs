//! What is kept of a client's reason for refusing a secret: a class and our own words, never its text.
//!
//! The text can hold the private key: on a broken proto constraint Envoy prints the whole secret
//! (envoy-sds.md §0.4). So it is matched against known phrases and dropped; what is stored are our constants.

mod explained;

pub use explained::Explained;

/// Why a client refused a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The secret broke a constraint of its message; Envoy's text holds the whole secret.
    Constraint,
    /// The key is not the leaf's.
    KeyMismatch,
    /// The private key is missing, or the secret is of another type.
    KeyMissing,
    /// The private key cannot be read, or its password is wrong.
    KeyUnreadable,
    /// The chain is missing.
    ChainMissing,
    /// The chain cannot be read, or its leaf may not sign.
    ChainUnreadable,
    /// The leaf has neither subject name nor alternative name.
    NamesMissing,
    /// The roots cannot be read.
    TrustUnreadable,
    /// There are conditions on peers but no roots.
    TrustMissing,
    /// A field with content is empty.
    SourceEmpty,
    /// A file that the secret points to is not there.
    SourceMissing,
    /// The CRL cannot be read, or has no roots to go with.
    Crl,
    /// The stapled OCSP response is missing, unreadable or another certificate's.
    Ocsp,
    /// The key is too small.
    KeyTooSmall,
    /// The key provider is not in this Envoy.
    KeyProvider,
    /// The listener's or cluster's own TLS parameters do not go with the secret.
    TlsParameters,
    /// The place takes one certificate only.
    TooManyCertificates,
    /// The name in the response is not the one asked for.
    UnexpectedName,
    /// Session ticket keys of a wrong length.
    TicketKeys,
    /// A text that is not known here.
    Other,
}

/// Phrases of Envoy 1.40 (envoy-sds.md §1), the most telling first.
const PHRASES: &[(&str, Kind)] = &[
    ("Proto constraint validation failed", Kind::Constraint),
    ("-----BEGIN", Kind::Constraint),
    ("KEY_VALUES_MISMATCH", Kind::KeyMismatch),
    ("Failed to load incomplete private key", Kind::KeyMissing),
    ("Failed to load incomplete certificate", Kind::ChainMissing),
    ("certificate chain not set", Kind::ChainMissing),
    ("2048-bit or larger keys are supported", Kind::KeyTooSmall),
    ("Failed to load private key provider", Kind::KeyProvider),
    ("Failed to load private key", Kind::KeyUnreadable),
    ("Failed to load certificate chain", Kind::ChainUnreadable),
    ("neither subject CN nor SAN names", Kind::NamesMissing),
    ("Failed to load CRL", Kind::Crl),
    ("Failed to load trusted CA certificate", Kind::TrustUnreadable),
    ("without trusted CA", Kind::TrustMissing),
    ("DataSource cannot be empty", Kind::SourceEmpty),
    ("Invalid path", Kind::SourceMissing),
    ("OCSP", Kind::Ocsp),
    ("more than a single OCSP response", Kind::Ocsp),
    ("Multiple TLS certificates are not supported", Kind::TooManyCertificates),
    ("can't have both", Kind::TooManyCertificates),
    ("Unexpected SDS secret", Kind::UnexpectedName),
    ("Incorrect TLS session ticket key length", Kind::TicketKeys),
    ("Failed to initialize", Kind::TlsParameters),
];

/// The scrubbed reason of a NACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Reason {
    /// Its class.
    pub kind: Kind,
    /// The gRPC status code that the client gave; Envoy gives 13.
    pub code: i32,
    /// The known phrase that was found in its text: a constant of this file; empty if none was.
    pub phrase: &'static str,
}

impl Reason {
    /// Classifies a client's text, of which nothing is kept.
    #[must_use]
    pub fn scrub(code: i32, text: &str) -> Self {
        let known = PHRASES.iter().find(|(phrase, _)| text.contains(phrase));
        let (phrase, kind) = known.copied().unwrap_or(("", Kind::Other));
        // "-----BEGIN" says nothing to people and frightens scanners for keys.
        let phrase = if phrase.starts_with('-') { "Proto constraint validation failed" } else { phrase };
        Self { kind, code, phrase }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envoys_reasons_are_told_apart() {
        let check = |text: &str, kind| {
            let reason = Reason::scrub(13, text);
            assert_eq!(reason.kind, kind, "{text}");
            assert_eq!(Reason::scrub(13, reason.phrase), reason, "what is kept says the same again");
        };
        check("Failed to load certificate chain from <inline>", Kind::ChainUnreadable);
        check(
            "Failed to load certificate chain from <inline>, only RSA certificates with 2048-bit or larger keys are supported",
            Kind::KeyTooSmall,
        );
        check("Invalid TLS context has neither subject CN nor SAN names", Kind::NamesMissing);
        check(
            "Failed to load private key from <inline>, Cause: error:0b000074:X.509 certificate routines:OPENSSL_internal:KEY_VALUES_MISMATCH",
            Kind::KeyMismatch,
        );
        check(
            "Failed to load private key from <inline>, Cause: error:0900006e:PEM routines:OPENSSL_internal:NO_START_LINE",
            Kind::KeyUnreadable,
        );
        check("Failed to load incomplete private key from path: ", Kind::KeyMissing);
        check("Failed to load incomplete certificate from : certificate chain not set", Kind::ChainMissing);
        check(
            "Certificate configuration can't have both pkcs12 and certificate_chain",
            Kind::TooManyCertificates,
        );
        check("OCSP response does not match its TLS certificate", Kind::Ocsp);
        check("Data contained more than a single OCSP response", Kind::Ocsp);
        check("Invalid path: /nonexistent", Kind::SourceMissing);
        check("Failed to load private key provider: cryptomb", Kind::KeyProvider);
        check("Multiple TLS certificates are not supported for client contexts", Kind::TooManyCertificates);
        check("DataSource cannot be empty", Kind::SourceEmpty);
        check("Failed to load trusted CA certificates from <inline>", Kind::TrustUnreadable);
        check("Failed to load trusted CA certificate for lab.test", Kind::TrustUnreadable);
        check(
            "SAN-based verification of peer certificates without trusted CA is insecure and not allowed",
            Kind::TrustMissing,
        );
        check("Certificate validity period is always ignored without trusted CA", Kind::TrustMissing);
        check("Failed to load CRL from <inline> without trusted CA", Kind::Crl);
        check("Unexpected SDS secret (expecting s2): s3", Kind::UnexpectedName);
        check("Incorrect TLS session ticket key length. Length 79, expected length 80.", Kind::TicketKeys);
        check("Failed to initialize TLS signature algorithms foo", Kind::TlsParameters);
        check("the moon is full", Kind::Other);
        check("", Kind::Other);
    }

    #[test]
    fn a_key_in_the_reason_is_not_kept() {
        let dump = "Proto constraint validation failed (TlsCertificateValidationError.X): name: \"svid\" \
                    tls_certificate { private_key { inline_string: \"-----BEGIN PRIVATE KEY-----\\nMIGHAgEA\" } }";
        for text in [dump, dump.trim_start_matches("Proto constraint validation failed ")] {
            let reason = Reason::scrub(13, text);
            assert_eq!(reason.kind, Kind::Constraint);
            let shown = format!("{reason:?} {}", serde_json::to_string(&reason).unwrap());
            assert!(!shown.contains("MIGHAgEA") && !shown.contains("BEGIN"), "{shown}");
        }
    }
}
