//! What can go wrong in making, opening and asking an authority.

use std::sync::Arc;

use super::token::{MAX_AUDIENCE_BYTES, TokenKind};
use crate::audit::AuditError;
use crate::clock::Timestamp;
use crate::identity::MAX_ID_BYTES;
use crate::jose::Algorithm;
use crate::keys::{KeyError, KeyId};
use crate::store::StoreError;
use crate::x509::inspect::InspectError;
use crate::x509::root::RootError;
use crate::x509::{LintError, SanError, TemplateError};

/// Why no authority was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// There is one.
    #[error("this store has an authority already: start it without init, or use another data directory")]
    AlreadyInitialised,
    /// There is one, of another trust domain.
    #[error(
        "this store has the authority of {stored:?} already: give that trust domain, or use another data directory"
    )]
    HasOtherTrustDomain {
        /// The one that it is of.
        stored: String,
    },
    /// An earlier init for another trust domain was cut off.
    #[error(
        "an unfinished init for {stored:?} is in this store: init that one, or use another data directory"
    )]
    OtherTrustDomain {
        /// The one that it was for.
        stored: String,
    },
    /// The store holds what we do not understand.
    #[error("the authority's state cannot be read")]
    State(#[from] StateError),
    /// The store failed.
    #[error("the store failed: run init again, it resumes")]
    Store(#[from] StoreError),
    /// The audit log failed.
    #[error("the audit log failed: run init again, it resumes")]
    Audit(#[from] AuditError),
    /// The key manager failed.
    #[error("a CA key could not be made: run init again, it resumes")]
    Key(#[from] KeyError),
    /// The certificate could not be made.
    #[error("the root could not be made: run init again, it resumes")]
    Root(#[from] RootError),
    /// The step was cut off.
    #[error("init was cut off: run it again, it resumes")]
    CutOff,
}

/// The store holds something under `authority/` that is not understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The store failed.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
    /// Not in a form that this version reads. Held, never skipped. rotation.md, "State".
    #[error(
        "{key} is of a form that this version does not know: run the version that wrote it, or restore a backup"
    )]
    Unknown {
        /// The key.
        key: &'static str,
    },
}

/// Why an authority cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is none, or its init did not finish.
    #[error(
        "this store has no authority: run `countersign init`, or restore the data directory if it had one"
    )]
    NotInitialised,
    /// It is another trust domain's.
    #[error("this store belongs to the trust domain {stored:?}: set that one, or use another data directory")]
    OtherTrustDomain {
        /// The one it belongs to.
        stored: String,
    },
    /// The store holds what we do not understand.
    #[error("the authority's state cannot be read")]
    State(#[from] StateError),
    /// The key is missing.
    #[error("a CA's key is not available")]
    Key(#[from] KeyError),
    /// The key is another one.
    #[error("key {key} is not its CA certificate's: restore keys and store from the same backup")]
    KeyMismatch {
        /// Its name.
        key: KeyId,
    },
    /// The root certificate is damaged.
    #[error("a CA certificate cannot be used: restore the store from a backup")]
    Certificate(#[from] InspectError),
    /// The leaf template is wrong.
    #[error("the leaf template was refused")]
    Lint(#[from] LintError),
    /// The trust domain makes no SPIFFE ID.
    #[error("the trust domain is not usable")]
    TrustDomain(#[from] spiffe::SpiffeIdError),
}

/// Why the keys of tokens were not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompleteError {
    /// No key of it is made here.
    #[error("tokens are not signed with {algorithm} here: choose ES256, ES384, or one of RS and PS")]
    Algorithm {
        /// Which.
        algorithm: Algorithm,
    },
    /// The store holds what we do not understand.
    #[error("the authority's state cannot be read")]
    State(#[from] StateError),
    /// The store failed.
    #[error("the store failed: start again, it resumes")]
    Store(#[from] StoreError),
    /// The key manager failed.
    #[error("a key for tokens could not be made: start again, it resumes")]
    Key(#[from] KeyError),
    /// The step was cut off.
    #[error("the making of a key was cut off: start again, it resumes")]
    CutOff,
}

/// Why no leaf or token was issued.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The ID is another trust domain's.
    #[error("{spiffe_id} is not of the trust domain {trust_domain}, the only one signed for here")]
    OtherTrustDomain {
        /// The ID asked for.
        spiffe_id: String,
        /// Ours.
        trust_domain: String,
    },
    /// The ID has no path: it names the authority. X509-SVID §3.1.
    #[error("a workload's SPIFFE ID needs a path")]
    NoPath,
    /// The ID is too long. SPIFFE-ID §2.3.
    #[error("a SPIFFE ID of {len} bytes: at most {MAX_ID_BYTES} are issued")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A DNS name is wrong.
    #[error("a DNS name was refused")]
    DnsName(#[from] SanError),
    /// The key is the root's own.
    #[error("the public key is the authority's own: make a new key for the workload")]
    AuthorityKey,
    /// There is no key for such tokens yet.
    #[error("this authority has no key that signs {} tokens: start the server anew, it makes one", kind.as_str())]
    NoTokenKey {
        /// Which tokens.
        kind: TokenKind,
    },
    /// JOSE has no algorithm of SVIDs for the holder's key.
    #[error("no token is issued for a key of this type: make an EC P-256 or P-384 or an RSA key")]
    NoTokenAlgorithm,
    /// JWT-SVID §3.2.
    #[error("a JWT-SVID needs an audience: name whom it is for")]
    NoAudience,
    /// More than the operator allows.
    #[error("at most {most} audiences are put into one token (authority.jwt_audiences): ask for one each")]
    Audiences {
        /// The most.
        most: usize,
    },
    /// Empty, too long, or not plain text.
    #[error("an audience is a plain text of 1 to {MAX_AUDIENCE_BYTES} bytes")]
    Audience,
    /// Less than a second.
    #[error("a lifetime of less than a second: ask for a longer one")]
    TooShort,
    /// The root is not valid now.
    #[error("at {now} the root is not valid ({not_before} to {not_after}): rotate it, or set the clock")]
    RootNotValid {
        /// The time of the request.
        now: Timestamp,
        /// From when the root is valid.
        not_before: Timestamp,
        /// Until when.
        not_after: Timestamp,
    },
    /// The template makes no such leaf.
    #[error("no such leaf can be made")]
    Template(#[source] Arc<TemplateError>),
    /// The store failed, so nothing is signed.
    #[error("nothing is signed while the store fails")]
    Store(#[from] StoreError),
    /// The audit log failed, so nothing goes out.
    #[error("nothing is issued while the audit log fails")]
    Audit(#[from] AuditError),
    /// The key manager failed.
    #[error("the CA's key could not sign")]
    Key(#[source] Arc<KeyError>),
    /// The issuer has ended.
    #[error("the authority has stopped: it is shutting down")]
    Stopped,
}

impl SignError {
    /// Whether another request would have been signed, the fault being in this one.
    #[must_use]
    pub const fn is_request_fault(&self) -> bool {
        match self {
            Self::OtherTrustDomain { .. }
            | Self::NoPath
            | Self::TooLong { .. }
            | Self::DnsName(_)
            | Self::AuthorityKey
            | Self::NoTokenAlgorithm
            | Self::NoAudience
            | Self::Audiences { .. }
            | Self::Audience
            | Self::TooShort => true,
            Self::RootNotValid { .. }
            | Self::NoTokenKey { .. }
            | Self::Template(_)
            | Self::Store(_)
            | Self::Audit(_)
            | Self::Key(_)
            | Self::Stopped => false,
        }
    }
}

impl From<KeyError> for SignError {
    fn from(error: KeyError) -> Self {
        Self::Key(Arc::new(error))
    }
}

impl From<TemplateError> for SignError {
    fn from(error: TemplateError) -> Self {
        Self::Template(Arc::new(error))
    }
}

/// Why the issuer's task ended in error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// A batch panicked, which is a bug; its callers were told that the authority has stopped.
    #[error("a batch of signatures broke off: report this")]
    BatchBroke,
}
