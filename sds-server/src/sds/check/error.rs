//! Why a secret is not sent: for the log, the metric and the status. Holds nothing of it.

use spiffe_bridge::x509::served::ServedError;
use spiffe_bridge::x509::{PairError, verify::VerifyError};

/// Why a secret is not sent, and what Envoy would do with it.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckError {
    /// No name that is served, or not the name that the message has.
    #[error("the secret does not bear the name that it would be sent under")]
    Name,
    /// Accepted; under a bundle's name everybody is then let in.
    #[error("the secret is of another type than its name")]
    WrongType,
    /// No client takes it.
    #[error("the secret is longer than clients take: fewer roots or peers")]
    TooLarge,
    /// A file or a variable of Envoy's, or nothing: the refusal of that would print the key.
    #[error("a part of the secret is empty, or to be read by Envoy from elsewhere")]
    Source,
    /// Something that Envoy refuses over SDS, that weakens it, or that is never sent by us.
    #[error("the secret has a part that is never sent")]
    Field,
    /// Refused: "Failed to load certificate chain", "Failed to load trusted CA certificates".
    #[error("a part of the secret is no PEM, or holds what does not belong there")]
    Pem,
    /// Refused: "Failed to load certificate chain".
    #[error("a certificate of the chain cannot be read")]
    ChainUnreadable,
    /// Refused if the leaf is not first; else accepted, and refused by peers.
    #[error("the chain is not leaf first, then each certificate's issuer, without the root")]
    ChainOrder,
    /// Accepted, and refused by peers.
    #[error("the chain does not verify under the bundle of its trust domain")]
    ChainPath,
    /// Mostly accepted, and refused by peers.
    #[error("the leaf is no X509-SVID, or not of this name: {0}")]
    NotTheSvid(&'static str),
    /// Accepted, and refused by peers. An entry has just gained the name: the certificate that has it is under way.
    #[error("the certificate does not have that DNS name yet")]
    NotYetNamed,
    /// Refused: "Failed to load certificate chain", "only RSA certificates with 2048-bit or larger keys".
    #[error("the key is of a kind that TLS peers refuse")]
    KeyKind,
    /// Refused: "Failed to load private key".
    #[error("the private key cannot be read")]
    KeyUnreadable,
    /// Refused: KEY_VALUES_MISMATCH.
    #[error("the private key is not the leaf's")]
    KeyMismatch,
    /// Accepted, and then everybody is let in (envoy-sds.md §0.1).
    #[error("there is no root to trust")]
    NoRoots,
    /// Refused: "Failed to load trusted CA certificates".
    #[error("a root cannot be read")]
    RootUnreadable,
    /// Accepted: exactly its own subtree is trusted, or nobody.
    #[error("a root is no CA")]
    RootNotCa,
    /// Accepted, and then no handshake succeeds.
    #[error("the names of the roots are longer than a handshake can carry: send fewer, or suppress the list")]
    CaList,
    /// Refused: two bundles of one domain. Or accepted, and nobody gets in: a name that no SVID has.
    #[error("a trust domain is there twice, or its name is not one")]
    Domain,
    /// Accepted, and then nobody gets in, or roots of several domains are one.
    #[error("the validator is not the one that the name stands for")]
    Validator,
    /// Refused with its content in clear, or matches more than one SPIFFE ID.
    #[error("a matcher is not exactly one SPIFFE ID")]
    Matcher,
    /// With a floor that lets many in, all of them would get in.
    #[error("the name says who may come, and the secret does not")]
    NoMatcher,
    /// Joined with the operator's own matchers it would let in more.
    #[error("the name carries roots alone, and the secret says who may come")]
    MatcherUnwanted,
    /// Accepted: everybody is let in, or those whose time is over.
    #[error("verification would be switched off")]
    Unverified,
    /// Accepted, and then everybody is refused.
    #[error("a CRL cannot be read, or is not of any root that has its name")]
    CrlUnreadable,
    /// Accepted, and then everybody under the others is refused.
    #[error("there are CRLs, but not of every root")]
    CrlCoverage,
    /// Acknowledged unread, and not applied: Envoy compares bytes (envoy-sds.md §0.2).
    #[error("the client refused these bytes before: they are sent again only in other bytes")]
    RefusedBefore,
    /// Accepted: requests then fail, or carry something else than a token.
    #[error("the token is empty, too long, or holds what a header must not")]
    TokenText,
    /// Accepted, and refused by whoever gets it.
    #[error("the token is no JWT of this audience with an expiry")]
    TokenClaims,
    /// Accepted, and refused by peers.
    #[error("its time has not come: is the clock right?")]
    NotYetValid,
    /// Accepted; peers refuse it, or under it everybody.
    #[error("its time is over: a certificate, every root, a CRL or a token in it has expired")]
    Expired,
}

impl CheckError {
    /// The label of the metric, of a few kinds.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Name | Self::WrongType => "type",
            Self::TooLarge | Self::CaList => "size",
            Self::Source | Self::Field | Self::Unverified | Self::Pem => "content",
            Self::ChainUnreadable | Self::ChainOrder | Self::ChainPath => "chain",
            Self::NotTheSvid(_) | Self::NotYetNamed => "chain",
            Self::KeyKind | Self::KeyUnreadable | Self::KeyMismatch => "key",
            Self::NoRoots | Self::RootUnreadable | Self::RootNotCa | Self::Domain | Self::Validator => {
                "roots"
            }
            Self::Matcher | Self::NoMatcher | Self::MatcherUnwanted => "matchers",
            Self::CrlUnreadable | Self::CrlCoverage => "crl",
            Self::TokenText | Self::TokenClaims => "token",
            Self::NotYetValid | Self::Expired => "time",
            Self::RefusedBefore => "refused",
        }
    }

    /// All that [`CheckError::reason`] can say.
    pub const REASONS: &[&str] =
        &["type", "size", "content", "chain", "key", "roots", "matchers", "crl", "token", "time", "refused"];
}

impl From<ServedError> for CheckError {
    fn from(error: ServedError) -> Self {
        match error {
            ServedError::Unreadable(_) | ServedError::Path(VerifyError::Unreadable(_)) => {
                Self::ChainUnreadable
            }
            ServedError::Pair(PairError::Kind) => Self::KeyKind,
            ServedError::Pair(PairError::Unreadable) => Self::KeyUnreadable,
            ServedError::Pair(PairError::Mismatch) => Self::KeyMismatch,
            ServedError::Order | ServedError::Root => Self::ChainOrder,
            ServedError::Path(VerifyError::NotAnSvid { rule }) => Self::NotTheSvid(rule),
            ServedError::Path(VerifyError::BadId(_)) => Self::NotTheSvid("X509-SVID §2 (a SPIFFE ID)"),
            _ => Self::ChainPath,
        }
    }
}
