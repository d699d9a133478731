//! One issuance: a key made here, a chain from the authority.

use std::sync::Arc;

use crate::authority::{Authority, LeafRequest, SignError};
use crate::clock::Clock;
use crate::identity::{Memo, SpiffeId, Version, X509Svid};
use crate::keys::workload::WorkloadKey;
use crate::keys::{KeyError, workload};
use crate::node::cache::content;
use crate::node::slot::{Held, Spec};
use crate::registration::Terms;

/// What is to be issued.
#[derive(Debug)]
pub(super) struct Issue {
    pub(super) spec: Spec,
    pub(super) spiffe_id: SpiffeId,
    /// A key that was made ahead; `None` for one of a type that is made when it is needed.
    pub(super) key: Option<WorkloadKey>,
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
    /// Makes a key, unless one was made ahead, and has it signed.
    pub(super) async fn run(self, authority: Authority, clock: Clock) -> Answer {
        let Self { spec, spiffe_id, key } = self;
        let result = sign(&spec, spiffe_id, key, &authority, &clock).await;
        Answer { spec, result }
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
    let request = LeafRequest { spiffe_id: spiffe_id.clone(), dns_names, spki: key.spki, lifetime };
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
    Ok(Held { svid: Arc::new(svid), issued: clock.now() })
}
