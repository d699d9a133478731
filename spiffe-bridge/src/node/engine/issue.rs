//! One issuance: a key made here, a chain from the authority.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::authority::{Authority, IssuedToken, LeafRequest, SignError, TokenContent, TokenRequest};
use crate::clock::Clock;
use crate::identity::{ContentHash, Memo, PrivateKey, SpiffeId, TokenSvid, Version, X509Svid};
use crate::keys::workload::WorkloadKey;
use crate::keys::{KeyError, KeyType, workload};
use crate::node::cache::content;
use crate::node::slot::{Credential, Held, Spec};
use crate::node::tokens::TokenSpec;
use crate::registration::Terms;

/// What is to be issued.
#[derive(Debug)]
pub(super) struct Issue {
    pub(super) spec: Spec,
    pub(super) spiffe_id: SpiffeId,
    /// A key that was made ahead; `None` for one of a type that is made when it is needed.
    pub(super) key: Option<WorkloadKey>,
    /// A newcomer's place, until what is issued is kept.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) spec: Spec,
    pub(super) result: Result<Held, IssueError>,
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// Why an SVID could not be issued.
#[derive(Debug, thiserror::Error)]
pub(super) enum IssueError {
    #[error("cannot make a key")]
    Key(#[source] KeyError),
    #[error("the authority did not sign")]
    Sign(#[source] SignError),
    #[error("the issuance was cut off")]
    Cut,
}

impl Issue {
    /// Makes a key, unless one was made ahead, and has it signed.
    pub(super) async fn run(self, authority: Authority, clock: Clock) -> Answer {
        let Self { spec, spiffe_id, key, place } = self;
        let result = match &spec.token {
            None => sign(&spec, spiffe_id, key, &authority, &clock).await,
            Some(token) => sign_token(token.clone(), spiffe_id, &authority).await,
        };
        Answer { spec, result, place }
    }
}

async fn sign(
    spec: &Spec,
    spiffe_id: SpiffeId,
    key: Option<WorkloadKey>,
    authority: &Authority,
    clock: &Clock,
) -> Result<Held, IssueError> {
    let Terms { key_type, lifetime } = spec.terms;
    let key = key.map_or_else(|| workload::generate(key_type), Ok).map_err(IssueError::Key)?;
    let dns_names = spec.dns_names.clone();
    let request = LeafRequest { spiffe_id: spiffe_id.clone(), dns_names, public_key: key.public, lifetime };
    let issued = authority.sign(request).await.map_err(IssueError::Sign)?;
    let version = Version { revision: issued.revision, hash: content(&issued.chain, &key.private) };
    let svid = X509Svid {
        spiffe_id,
        chain: issued.chain,
        key: key.private,
        serial: issued.serial,
        not_before: issued.not_before,
        not_after: issued.not_after,
        version,
        memo: Memo::default(),
    };
    Ok(Held { svid: Credential::X509(Arc::new(svid)), issued: clock.now() })
}

/// A JWT-SVID, or a WIT-SVID for a key made here.
async fn sign_token(
    token: TokenSpec,
    spiffe_id: SpiffeId,
    authority: &Authority,
) -> Result<Held, IssueError> {
    let (key, content) = match token {
        TokenSpec::Jwt { audience } => (None, TokenContent::Jwt { audience }),
        TokenSpec::Wit => {
            let key = workload::generate(KeyType::EcP256).map_err(IssueError::Key)?;
            (Some(key.private), TokenContent::Wit { public_key: key.public })
        }
    };
    let request = TokenRequest { spiffe_id: spiffe_id.clone(), content, lifetime: None };
    let IssuedToken { token, token_id, issued, not_after, revision } =
        authority.sign_token(request).await.map_err(IssueError::Sign)?;
    let parts = [token.expose_text().as_bytes(), key.as_ref().map_or(&[], PrivateKey::expose_pkcs8)];
    let version = Version { revision, hash: ContentHash::of(&parts) };
    let memo = Memo::default();
    let svid = TokenSvid { spiffe_id, token, key, token_id, issued, not_after, version, memo };
    Ok(Held { svid: Credential::Token(Arc::new(svid)), issued })
}
