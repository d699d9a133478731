//! What each class of refusal means, and what to do. What Envoy does is measured: docs/envoy-matrix.md, by row.

use super::Kind;

/// A class of refusal, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Explained {
    /// The row of docs/envoy-matrix.md that shows such a secret, or that there is none.
    pub row: &'static str,
    /// What happened.
    pub meaning: &'static str,
    /// What to do.
    pub advice: &'static str,
}

const OURS: &str = "this should never have been sent: report it, with `countersign streams -o json`";
/// The secret is good, or there is no row of its kind.
const NONE: &str = "none";
const ITS_PLACE: &str = "change the listener or cluster that names the secret: its place does not go with it";

impl Kind {
    /// As the roster, the API and the metrics spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Constraint => "constraint",
            Self::KeyMismatch => "key_mismatch",
            Self::KeyMissing => "key_missing",
            Self::KeyUnreadable => "key_unreadable",
            Self::ChainMissing => "chain_missing",
            Self::ChainUnreadable => "chain_unreadable",
            Self::NamesMissing => "names_missing",
            Self::TrustUnreadable => "trust_unreadable",
            Self::TrustMissing => "trust_missing",
            Self::SourceEmpty => "source_empty",
            Self::SourceMissing => "source_missing",
            Self::Crl => "crl",
            Self::Ocsp => "ocsp",
            Self::KeyTooSmall => "key_too_small",
            Self::KeyProvider => "key_provider",
            Self::TlsParameters => "tls_parameters",
            Self::TooManyCertificates => "too_many_certificates",
            Self::UnexpectedName => "unexpected_name",
            Self::TicketKeys => "ticket_keys",
            Self::Other => "other",
        }
    }

    /// What it means, and what to do.
    #[must_use]
    pub fn explained(self) -> Explained {
        let (row, meaning, advice) = match self {
            Self::Constraint => (
                "a private key provider without a name, which breaks a rule of the message",
                "a field breaks a rule of its message; Envoy's own log may show the whole secret, key included",
                "treat that key as disclosed; then report it: this should never have been sent",
            ),
            Self::KeyMismatch => ("key of another certificate", "the private key is not the leaf's", OURS),
            Self::KeyMissing => (
                "wrong type: a validation context",
                "there is no private key: the name is of a bundle where a certificate is wanted",
                "in the bootstrap, ask for an SVID by name (`default` or a SPIFFE ID) where a certificate stands",
            ),
            Self::KeyUnreadable => ("key: no PEM", "the private key cannot be read", OURS),
            Self::ChainMissing => ("chain: absent", "there is no certificate chain", OURS),
            Self::ChainUnreadable => (
                "chain: no PEM",
                "the chain cannot be read, or its key is of a type that this Envoy does not load",
                "if the entry's profile asks for a rare key type, choose another; else report it",
            ),
            Self::NamesMissing => ("no name at all", "the leaf names nobody", OURS),
            Self::TrustUnreadable => ("roots: no PEM", "a root cannot be read", OURS),
            Self::TrustMissing => (
                "a matcher and no root",
                "there are conditions on peers but no roots: the floor of the bootstrap did its work",
                "in the bootstrap, ask for a bundle (`ROOTCA`, `peers`, …) where a validation context stands",
            ),
            Self::SourceEmpty => ("roots: empty", "a field with content is empty", OURS),
            Self::SourceMissing => {
                ("chain: in a file of Envoy's", "the secret points to a file that is not there", OURS)
            }
            Self::Crl => ("a CRL alone", "a CRL cannot be read, or has no roots to go with", OURS),
            Self::Ocsp => (
                "an OCSP staple that is none",
                "the listener demands a stapled OCSP response, which short-lived certificates do not have",
                "set ocsp_staple_policy of that listener to LENIENT_STAPLING",
            ),
            Self::KeyTooSmall => ("RSA-1024", "the key is too small for Envoy", OURS),
            Self::KeyProvider => ("a private key provider", "this Envoy has no such key provider", ITS_PLACE),
            Self::TlsParameters => (
                NONE,
                "the place's own TLS parameters (curves, signature algorithms) are not ones that Envoy knows",
                ITS_PLACE,
            ),
            Self::TooManyCertificates => (NONE, "a cluster takes one certificate only", ITS_PLACE),
            Self::UnexpectedName => (NONE, "the secret has another name than was asked for", OURS),
            Self::TicketKeys => (
                NONE,
                "session ticket keys of a wrong length",
                "ticket keys are not served: turn stateless resumption off",
            ),
            Self::Other => (
                NONE,
                "the text is not known here, and is not kept: it could hold the key",
                "read the warning in that Envoy's own log; a certificate that is refused beside it also makes a good \
                 bundle be refused: look at the other names of this process first",
            ),
        };
        Explained { row, meaning, advice }
    }

    /// The class that is spelled so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    const ALL: [Self; 20] = [
        Self::Constraint,
        Self::KeyMismatch,
        Self::KeyMissing,
        Self::KeyUnreadable,
        Self::ChainMissing,
        Self::ChainUnreadable,
        Self::NamesMissing,
        Self::TrustUnreadable,
        Self::TrustMissing,
        Self::SourceEmpty,
        Self::SourceMissing,
        Self::Crl,
        Self::Ocsp,
        Self::KeyTooSmall,
        Self::KeyProvider,
        Self::TlsParameters,
        Self::TooManyCertificates,
        Self::UnexpectedName,
        Self::TicketKeys,
        Self::Other,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_is_spelled_alike_everywhere_and_says_what_to_do() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
            let Explained { row, meaning, advice } = kind.explained();
            assert!(!row.is_empty() && !meaning.is_empty() && !advice.is_empty());
        }
        assert_eq!(Kind::parse("nothing"), None);
    }

    #[test]
    fn each_row_is_one_that_envoy_refuses() {
        let matrix = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/envoy-matrix.md");
        let matrix = std::fs::read_to_string(matrix).unwrap();
        for Explained { row, .. } in Kind::ALL.map(Kind::explained) {
            assert!(row == NONE || matrix.contains(&format!("\n| {row} | NACK")), "{row}");
        }
    }
}
