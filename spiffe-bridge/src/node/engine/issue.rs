//! One issuance: a key made here, a chain from the authority.

use std::sync::Arc;

use crate::authority::{Authority, LeafRequest, SignError};
use crate::clock::Clock;
use crate::identity::{Memo, SpiffeId, Version, X509Svid};
use crate::keys::{KeyError, KeyType, workload};
use crate::node::cache::content;
use crate::node::slot::{Held, Spec};

/// What is to be issued.
#[derive(Debug, Clone)]
pub(super) struct Issue {
    pub(super) spec: Spec,
    pub(super) spiffe_id: SpiffeId,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) spec: Spec,
    pub(super) result: Result<Held, IssueError>,
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
    pub(super) async fn sign(&self, authority: &Authority, clock: &Clock) -> Result<Held, IssueError> {
        let key = workload::generate(KeyType::EcP256).map_err(IssueError::Key)?;
        let request = LeafRequest {
            spiffe_id: self.spiffe_id.clone(),
            dns_names: self.spec.dns_names.clone(),
            spki: key.spki,
            lifetime: None,
        };
        let issued = authority.sign(request).await.map_err(IssueError::Sign)?;
        let version = Version { revision: issued.revision, hash: content(&issued.chain, &key.private) };
        let svid = X509Svid {
            spiffe_id: self.spiffe_id.clone(),
            chain: issued.chain,
            key: key.private,
            serial: issued.serial,
            not_before: issued.not_before,
            not_after: issued.not_after,
            version,
            memo: Memo::default(),
        };
        Ok(Held { svid: Arc::new(svid), issued: clock.now() })
    }
}
